//! Unpacks archives: one layer into an empty folder, or files into a container's root. Nothing is believed: every
//! path is opened below the root by openat2(2) with RESOLVE_IN_ROOT, so no link, `..` or absolute name leads out of
//! it; the last component is never followed. A layer's whiteouts become overlayfs's own
//! (Documentation/filesystems/overlayfs.rst).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use tar::EntryType;

use super::compression::{decompress, drain};
use super::read::{Entry, ReadError, TarReader};

const OPAQUE: &str = "trusted.overlay.opaque";

/// What one layer may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub entries: u64,
    /// Bytes of the plain archive, data and headers.
    pub bytes: u64,
    /// Components of a path.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 2_000_000, bytes: 64 << 30, depth: 256 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the archive cannot be read")]
    Read(#[from] ReadError),
    #[error("archive entry {} points outside the rootfs", entry.display())]
    EscapesRootfs { entry: PathBuf },
    #[error("archive entry {} is {what}, which is refused", entry.display())]
    Refused { entry: PathBuf, what: &'static str },
    #[error("the archive has more than {limit} {what}")]
    TooMuch { limit: u64, what: &'static str },
    #[error("cannot overwrite directory {there:?} with non-directory {entry:?}")]
    FolderThere { there: PathBuf, entry: PathBuf },
    #[error("cannot overwrite non-directory {there:?} with directory {entry:?}")]
    FileThere { there: PathBuf, entry: PathBuf },
    #[error("cannot {doing} archive entry {}", entry.display())]
    Entry { doing: &'static str, entry: PathBuf, source: io::Error },
}

/// How files are unpacked into a root that is in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extraction {
    /// The folder below the root, all links resolved.
    pub folder: PathBuf,
    /// A folder is never replaced by something else, nor the other way round.
    pub keep_kinds: bool,
    /// Who owns what is unpacked, whatever the archive says.
    pub owner: Option<(u32, u32)>,
    /// What the first component of every name becomes.
    pub rename: Option<OsString>,
}

/// Unpacks `archive` (plain tar) into `root`, a folder that nobody else writes to.
pub(crate) fn apply<R: Read>(archive: R, root: &File, limits: &Limits) -> Result<R, ApplyError> {
    unpack(
        archive,
        Target { root: root.as_fd(), limits, files: None, parent: None, folders: Vec::new() },
    )
}

/// Unpacks the files of `archive` (tar, plain or packed) below a folder of `root`. Another process may change the
/// root meanwhile, which spoils what is unpacked there and nothing outside.
pub fn extract(
    archive: impl Read,
    root: BorrowedFd<'_>,
    how: &Extraction,
    limits: &Limits,
) -> Result<(), ApplyError> {
    let (plain, _) = decompress(archive).map_err(ReadError::Io)?;
    let target = Target { root, limits, files: Some(how), parent: None, folders: Vec::new() };
    let mut rest = unpack(plain, target)?;
    // A client that is still sending zeros would take an early end for a failure.
    drain(&mut rest).map(drop).map_err(|error| ReadError::Io(error).into())
}

fn unpack<R: Read>(archive: R, mut target: Target<'_>) -> Result<R, ApplyError> {
    let limits = target.limits;
    let mut reader = TarReader::new(archive);
    let (mut entries, mut bytes) = (0_u64, 0_u64);
    while let Some(entry) = reader.next()? {
        entries += 1;
        bytes = bytes.saturating_add(entry.size).saturating_add(512);
        if entries > limits.entries {
            return Err(ApplyError::TooMuch { limit: limits.entries, what: "entries" });
        }
        if bytes > limits.bytes {
            return Err(ApplyError::TooMuch { limit: limits.bytes, what: "bytes" });
        }
        target.entry(&entry, &mut reader)?;
    }
    target.finish()?;
    Ok(reader.into_inner())
}

struct Target<'a> {
    root: BorrowedFd<'a>,
    limits: &'a Limits,
    /// `None`: the archive is a layer.
    files: Option<&'a Extraction>,
    /// The folder of the last entry, since archives go folder by folder.
    parent: Option<(PathBuf, Rc<OwnedFd>)>,
    /// Folders whose time is set at the end: writing into one changes it.
    folders: Vec<(PathBuf, (i64, u32))>,
}

/// Where an entry goes: an open folder and a name in it that is one plain component.
struct Place<'e> {
    entry: &'e Entry,
    folder: Rc<OwnedFd>,
    path: PathBuf,
    name: &'e OsStr,
}

impl Place<'_> {
    fn failed(&self, doing: &'static str) -> impl FnOnce(Errno) -> ApplyError {
        let entry = self.path.clone();
        move |source| ApplyError::Entry { doing, entry, source: source.into() }
    }
}

impl<'a> Target<'a> {
    fn entry(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), ApplyError> {
        refuse_overlay_xattrs(entry)?;
        let Some((parent, name)) = self.split(&entry.path)? else { return self.root_entry(entry) };
        let folder = self.folder(&parent)?;
        let place = Place { entry, path: parent.join(name), folder, name };
        if self.files.is_none()
            && let Some(hidden) = name.as_bytes().strip_prefix(b".wh.")
        {
            return self.whiteout(&place, OsStr::from_bytes(hidden));
        }
        self.check_kind(&place)?;
        match entry.kind {
            EntryType::Regular | EntryType::Continuous => self.regular(&place, data),
            EntryType::Directory => self.directory(&place),
            EntryType::Symlink => self.symlink(&place),
            EntryType::Link => self.hard_link(&place),
            EntryType::Fifo => self.node(&place, FileType::Fifo),
            EntryType::Char | EntryType::Block if self.files.is_none() => device(&place),
            EntryType::Char => self.node(&place, FileType::CharacterDevice),
            EntryType::Block => self.node(&place, FileType::BlockDevice),
            _ => Err(refused(&place.path, "of an unknown kind")),
        }
    }

    /// Splits a name into parent and last component; `None` is the root itself.
    fn split<'e>(&self, path: &'e [u8]) -> Result<Option<(PathBuf, &'e OsStr)>, ApplyError>
    where
        'a: 'e,
    {
        let mut components: Vec<&'e OsStr> = Vec::new();
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    return Err(ApplyError::EscapesRootfs {
                        entry: OsStr::from_bytes(path).into(),
                    });
                }
                _ if components.len() >= self.limits.depth => {
                    return Err(ApplyError::TooMuch {
                        limit: self.limits.depth as u64,
                        what: "levels of folders",
                    });
                }
                _ => components.push(OsStr::from_bytes(part)),
            }
        }
        let rename = self.files.and_then(|how| how.rename.as_deref());
        if let (Some(first), Some(rename)) = (components.first_mut(), rename) {
            *first = rename;
        }
        let Some(name) = components.pop() else { return Ok(None) };
        let folder = self.files.map_or_else(PathBuf::new, |how| how.folder.clone());
        Ok(Some((components.iter().fold(folder, |folder, name| folder.join(name)), name)))
    }

    /// Refuses to put a folder where something else stands, or the other way round, if that is asked for.
    fn check_kind(&self, place: &Place<'_>) -> Result<(), ApplyError> {
        if !self.files.is_some_and(|how| how.keep_kinds) {
            return Ok(());
        }
        let comes = place.entry.kind == EntryType::Directory;
        match look(place)? {
            Some((there, _)) if (there == FileType::Directory) != comes => {
                let there = Path::new("/").join(&place.path);
                let entry = OsStr::from_bytes(&place.entry.path).into();
                Err(match comes {
                    true => ApplyError::FileThere { there, entry },
                    false => ApplyError::FolderThere { there, entry },
                })
            }
            _ => Ok(()),
        }
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), ApplyError> {
        // The folder that files are put into stays what it is.
        if self.files.is_some() {
            return Ok(());
        }
        if entry.kind != EntryType::Directory {
            return Err(refused(
                OsStr::from_bytes(&entry.path).as_ref(),
                "the root, but no folder",
            ));
        }
        self.folders.push((PathBuf::from("."), entry.mtime));
        self.dress(self.root, entry, Path::new("/"))
    }

    /// Opens the folder `path` below the root and makes what is missing of it.
    fn folder(&mut self, path: &Path) -> Result<Rc<OwnedFd>, ApplyError> {
        if let Some((known, folder)) = &self.parent
            && known == path
        {
            return Ok(Rc::clone(folder));
        }
        let failed = |source: Errno| ApplyError::Entry {
            doing: "open the folder of",
            entry: path.to_owned(),
            source: source.into(),
        };
        let folder = match open_folder(self.root, path) {
            Err(Errno::NOENT) => make_folders(self.root, path).map_err(failed)?,
            other => other.map_err(failed)?,
        };
        let folder = Rc::new(folder);
        self.parent = Some((path.to_owned(), Rc::clone(&folder)));
        Ok(folder)
    }

    /// Makes room for an entry. Says whether a whiteout was there.
    fn clear(&mut self, place: &Place<'_>) -> Result<bool, ApplyError> {
        let Some((kind, device)) = look(place)? else { return Ok(false) };
        // The folder we remember may lie below what goes away.
        self.parent = None;
        if kind == FileType::Directory {
            // std removes by descriptors and follows no link.
            let path = Path::new("/proc/self/fd")
                .join(place.folder.as_raw_fd().to_string())
                .join(place.name);
            std::fs::remove_dir_all(path).map_err(|source| ApplyError::Entry {
                doing: "replace",
                entry: place.path.clone(),
                source,
            })?;
        } else {
            fs::unlinkat(&place.folder, place.name, AtFlags::empty())
                .map_err(place.failed("replace"))?;
        }
        Ok(kind == FileType::CharacterDevice && device == 0)
    }

    fn regular(&mut self, place: &Place<'_>, data: &mut impl Read) -> Result<(), ApplyError> {
        self.clear(place)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&place.folder, place.name, flags, Mode::from_raw_mode(0o600))
            .map_err(place.failed("create"))?;
        let mut file = File::from(file);
        let entry =
            |source| ApplyError::Entry { doing: "write", entry: place.path.clone(), source };
        io::copy(data, &mut file).map_err(entry)?;
        self.dress(file.as_fd(), place.entry, &place.path)?;
        fs::futimens(&file, &times(place.entry.mtime)).map_err(place.failed("set the time of"))
    }

    fn directory(&mut self, place: &Place<'_>) -> Result<(), ApplyError> {
        let exists = matches!(look(place)?, Some((FileType::Directory, _)));
        let hid_something = !exists && self.clear(place)?;
        if !exists {
            fs::mkdirat(&place.folder, place.name, Mode::from_raw_mode(0o700))
                .map_err(place.failed("create"))?;
        }
        let folder = open_real_folder(place).map_err(place.failed("open"))?;
        if hid_something {
            // The whiteout that stood here hid a lower folder; the new one must not show it again.
            fs::fsetxattr(&folder, OPAQUE, b"y", XattrFlags::empty())
                .map_err(place.failed("mark as opaque"))?;
        }
        self.folders.push((place.path.clone(), place.entry.mtime));
        self.dress(folder.as_fd(), place.entry, &place.path)
    }

    fn symlink(&mut self, place: &Place<'_>) -> Result<(), ApplyError> {
        if place.entry.link.is_empty() {
            return Err(refused(&place.path, "a link to nothing"));
        }
        self.clear(place)?;
        fs::symlinkat(OsStr::from_bytes(&place.entry.link), &place.folder, place.name)
            .map_err(place.failed("create"))?;
        self.own_and_date(place)
    }

    fn hard_link(&mut self, place: &Place<'_>) -> Result<(), ApplyError> {
        let Some((parent, name)) = self.split(&place.entry.link)? else {
            return Err(refused(&place.path, "a hard link to the root"));
        };
        if parent.join(name) == place.path {
            return Err(refused(&place.path, "a hard link to itself"));
        }
        self.clear(place)?;
        let folder = open_folder(self.root, &parent).map_err(place.failed("find the target of"))?;
        // Without AT_SYMLINK_FOLLOW, a link as the target is linked itself (link(2)).
        fs::linkat(&folder, name, &place.folder, place.name, AtFlags::empty())
            .map_err(place.failed("link"))
    }

    /// Makes a fifo or a device.
    fn node(&mut self, place: &Place<'_>, kind: FileType) -> Result<(), ApplyError> {
        self.clear(place)?;
        let (major, minor) = place.entry.device;
        let device = if kind == FileType::Fifo { 0 } else { fs::makedev(major, minor) };
        // The mode at once, as chmod(2) would follow a link that somebody put in the node's place; what the umask
        // took away comes through the node itself.
        let mode = Mode::from_raw_mode(place.entry.mode);
        fs::mknodat(&place.folder, place.name, kind, mode, device)
            .map_err(place.failed("create"))?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = fs::openat(&place.folder, place.name, flags, Mode::empty())
            .map_err(place.failed("open"))?;
        self.own_and_date(place)?;
        // chmod(2) does not take such a descriptor, its link in /proc it does.
        fs::chmod(format!("/proc/self/fd/{}", node.as_raw_fd()), mode)
            .map_err(place.failed("set the mode of"))
    }

    /// Hides a name of the layers below (OCI image spec, `layer.md`, "Whiteouts").
    fn whiteout(&mut self, place: &Place<'_>, hidden: &OsStr) -> Result<(), ApplyError> {
        match hidden.as_bytes() {
            b".wh..opq" => {
                let folder = reopen(&place.folder).map_err(place.failed("open the folder of"))?;
                return fs::fsetxattr(&folder, OPAQUE, b"y", XattrFlags::empty())
                    .map_err(place.failed("apply"));
            }
            b"" | b"." | b".." => return Err(refused(&place.path, "a whiteout of no name")),
            // Left-overs of aufs hide nothing.
            other if other.starts_with(b".wh.") => return Ok(()),
            _ => {}
        }
        let target = Place {
            entry: place.entry,
            folder: Rc::clone(&place.folder),
            path: place.path.with_file_name(hidden),
            name: hidden,
        };
        match look(&target)? {
            None => {
                fs::mknodat(&target.folder, hidden, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(target.failed("apply the whiteout"))
            }
            // What this layer itself brings stays; only the folder below it is hidden.
            Some((FileType::Directory, _)) => {
                let folder = open_real_folder(&target).map_err(target.failed("open"))?;
                fs::fsetxattr(&folder, OPAQUE, b"y", XattrFlags::empty())
                    .map_err(target.failed("mark as opaque"))
            }
            Some(_) => Ok(()),
        }
    }

    fn own_and_date(&self, place: &Place<'_>) -> Result<(), ApplyError> {
        let (uid, gid) = self.owner(place.entry);
        let (folder, no_follow) = (&place.folder, AtFlags::SYMLINK_NOFOLLOW);
        fs::chownat(folder, place.name, uid, gid, no_follow)
            .map_err(place.failed("set the owner of"))?;
        fs::utimensat(folder, place.name, &times(place.entry.mtime), no_follow)
            .map_err(place.failed("set the time of"))
    }

    fn owner(&self, entry: &Entry) -> (Option<Uid>, Option<Gid>) {
        let (uid, gid) = match self.files.and_then(|how| how.owner) {
            Some(owner) => owner,
            None => (entry.uid, entry.gid),
        };
        // -1 means "leave it" to chown(2).
        let is_id = |id: &u32| *id != u32::MAX;
        (Some(uid).filter(is_id).map(Uid::from_raw), Some(gid).filter(is_id).map(Gid::from_raw))
    }

    /// Sets owner, mode and attributes, in this order: chown(2) clears set-user-id and file capabilities.
    fn dress(&self, file: BorrowedFd<'_>, entry: &Entry, path: &Path) -> Result<(), ApplyError> {
        let failed = |doing| {
            let entry = path.to_owned();
            move |source: Errno| ApplyError::Entry { doing, entry, source: source.into() }
        };
        let (uid, gid) = self.owner(entry);
        fs::fchown(file, uid, gid).map_err(failed("set the owner of"))?;
        fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(failed("set the mode of"))?;
        for (name, value) in &entry.xattrs {
            // Labels of another machine's security module mean nothing here.
            if name.starts_with("security.") && name != "security.capability" {
                continue;
            }
            match fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty()) {
                Err(Errno::NOTSUP) if name != "security.capability" => {}
                other => other.map_err(failed("set an attribute of"))?,
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ApplyError> {
        for (path, mtime) in self.folders.drain(..).rev() {
            // The folder may have been replaced since.
            let Ok(folder) = open_folder(self.root, &path) else { continue };
            let failed = |source: Errno| ApplyError::Entry {
                doing: "set the time of",
                entry: path.clone(),
                source: source.into(),
            };
            let folder = reopen(&folder).map_err(failed)?;
            fs::futimens(&folder, &times(mtime)).map_err(failed)?;
        }
        Ok(())
    }
}

fn refused(entry: &Path, what: &'static str) -> ApplyError {
    ApplyError::Refused { entry: entry.to_owned(), what }
}

/// Refuses what only the kernel's overlay or root may say: redirects, metacopy, our own opaque mark.
fn refuse_overlay_xattrs(entry: &Entry) -> Result<(), ApplyError> {
    let path = OsStr::from_bytes(&entry.path).as_ref();
    if entry
        .xattrs
        .iter()
        .any(|(name, _)| name.starts_with("trusted.") || name.starts_with("user.overlay."))
    {
        return Err(refused(path, "marked with an attribute of the overlay itself"));
    }
    Ok(())
}

/// A container's /dev is made afresh, so nodes there are left out; elsewhere they have no honest use.
fn device(place: &Place<'_>) -> Result<(), ApplyError> {
    if place.path.starts_with("dev") {
        return Ok(());
    }
    Err(refused(&place.path, "a device outside /dev"))
}

fn open_folder(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::openat2(
        root,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

fn make_folders(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let mut so_far = PathBuf::new();
    let mut folder = open_folder(root, &so_far)?;
    for component in path.components() {
        so_far.push(component);
        folder = match open_folder(root, &so_far) {
            Err(Errno::NOENT) => {
                fs::mkdirat(&folder, component.as_os_str(), Mode::from_raw_mode(0o755))?;
                open_folder(root, &so_far)?
            }
            other => other?,
        };
    }
    Ok(folder)
}

/// Opens the folder at `place` itself for reading, never through a link.
fn open_real_folder(place: &Place<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(&place.folder, place.name, flags, Mode::empty())
}

/// Turns an O_PATH descriptor of a folder into one that takes attributes.
fn reopen(folder: &OwnedFd) -> Result<OwnedFd, Errno> {
    fs::openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn look(place: &Place<'_>) -> Result<Option<(FileType, u64)>, ApplyError> {
    match fs::statat(&place.folder, place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some((FileType::from_raw_mode(stat.st_mode), stat.st_rdev))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(place.failed("look at")(error)),
    }
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
