//! Reading a container's root without mounting it: its layers seen as one, as overlayfs would show them
//! (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
//!
//! Every step opens one name without following a link; links are followed here, below the root, so nothing that
//! an image says leads to a file of the host.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

const OPAQUE: &str = "trusted.overlay.opaque";
/// As many as path_resolution(7) allows.
const MAX_LINKS: usize = 40;

/// Levels of folders that are walked: as many as a layer may have.
pub(crate) const MAX_DEPTH: usize = 256;

/// A root: its layers from the top down. A single folder is a root of one layer.
#[derive(Debug)]
pub(crate) struct Root {
    layers: Merged,
}

/// One folder as the layers together show it: the folders of that name, from the top down.
#[derive(Debug)]
pub(crate) struct Merged(Vec<OwnedFd>);

/// What a name in a folder is.
#[derive(Debug)]
pub(crate) enum Found {
    Folder(Merged),
    /// Anything else: the layer's folder that has it, and what it is.
    File {
        folder: OwnedFd,
        name: OsString,
        stat: Stat,
    },
}

/// How far a path leads.
struct Walk {
    /// The folders on the way, links resolved; the first is the root.
    above: Vec<(OsString, Merged)>,
    end: End,
}

enum End {
    /// It is the last folder on the way.
    Folder,
    File(Found),
    /// The names that are missing, the first one last.
    Missing(Vec<OsString>),
    /// A file stands where a folder must be.
    NoFolder,
}

impl Walk {
    fn into_folder(mut self) -> Option<Merged> {
        match self.end {
            End::Folder => self.above.pop().map(|(_, folder)| folder),
            End::File(_) | End::Missing(_) | End::NoFolder => None,
        }
    }
}

impl Root {
    /// Opens folders from the top down; one that is missing counts as empty.
    pub(crate) fn open(layers: &[impl AsRef<Path>]) -> io::Result<Self> {
        let mut opened = Vec::with_capacity(layers.len());
        for layer in layers {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match rustix::fs::openat(CWD, layer.as_ref(), flags, Mode::empty()) {
                Ok(fd) => opened.push(fd),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { layers: Merged(opened) })
    }

    /// The files below an open folder, with all that is mounted there.
    pub(crate) fn of(folder: OwnedFd) -> Self {
        Self { layers: Merged::of(folder) }
    }

    /// Returns what the layers together show.
    pub(crate) fn folder(&self) -> &Merged {
        &self.layers
    }

    /// As [`Root::find`], and a link that `path` itself is is not followed.
    pub(crate) fn entry(&self, path: &Path) -> io::Result<Option<Found>> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return self.find("/");
        };
        match self.walk(above.as_os_str())?.into_folder() {
            Some(folder) => folder.look(name),
            None => Ok(None),
        }
    }

    /// Returns `path` without the links in it, as far as it leads; what is missing of it stands at the end.
    pub(crate) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let walk = self.walk(path.as_os_str())?;
        let mut resolved: PathBuf = walk.above.iter().map(|(name, _)| name).collect();
        match walk.end {
            End::Folder | End::NoFolder => {}
            End::File(Found::File { name, .. }) => resolved.push(name),
            End::File(Found::Folder(_)) => {}
            End::Missing(names) => resolved.extend(names.iter().rev()),
        }
        Ok(Path::new("/").join(resolved))
    }

    /// Finds `path` as a process inside would; `None` when it is not there.
    pub(crate) fn find(&self, path: impl AsRef<OsStr>) -> io::Result<Option<Found>> {
        let mut walk = self.walk(path.as_ref())?;
        Ok(match walk.end {
            End::Folder => walk.above.pop().map(|(_, folder)| Found::Folder(folder)),
            End::File(found) => Some(found),
            End::Missing(_) | End::NoFolder => None,
        })
    }

    /// Makes the folder `path` in `upper`, the uppermost layer of this root, if it is not there, with owners and
    /// modes of the layers' folders on the way.
    pub(crate) fn make_folder(&self, upper: &Path, path: &str) -> io::Result<()> {
        let walk = self.walk(path.as_ref())?;
        let missing = match walk.end {
            End::Folder => return Ok(()),
            End::Missing(missing) => missing,
            End::File(_) | End::NoFolder => return Err(Errno::NOTDIR.into()),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut here = rustix::fs::openat(CWD, upper, flags, Mode::empty())?;
        for (name, like) in walk.above.iter().skip(1) {
            here = make_and_enter(&here, name)?;
            if let Some(top) = like.top() {
                let stat = rustix::fs::fstat(top)?;
                let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                rustix::fs::fchown(&here, Some(uid), Some(gid))?;
                rustix::fs::fchmod(&here, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
            }
        }
        for name in missing.iter().rev() {
            here = make_and_enter(&here, name)?;
            rustix::fs::fchmod(&here, Mode::from_raw_mode(0o755))?;
        }
        Ok(())
    }

    /// Follows `path` and its links as far as it goes.
    fn walk(&self, path: &OsStr) -> io::Result<Walk> {
        let mut rest: Vec<OsString> = parts(path);
        let mut above = vec![(OsString::new(), self.layers.again()?)];
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                if above.len() > 1 {
                    above.pop();
                }
                continue;
            }
            let (_, here) = above.last().expect("the root stays");
            match here.look(&name)? {
                None => {
                    rest.push(name);
                    return Ok(Walk { above, end: End::Missing(rest) });
                }
                Some(Found::Folder(folder)) => above.push((name, folder)),
                Some(Found::File { folder, name, stat }) if is_link(&stat) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = rustix::fs::readlinkat(&folder, &*name, Vec::new())?;
                    let target = OsStr::from_bytes(target.as_bytes());
                    if target.as_bytes().starts_with(b"/") {
                        above.truncate(1);
                    }
                    rest.extend(parts(target));
                }
                Some(file) => {
                    let end = if rest.is_empty() { End::File(file) } else { End::NoFolder };
                    return Ok(Walk { above, end });
                }
            }
        }
        Ok(Walk { above, end: End::Folder })
    }

    /// Reads a regular file of at most `limit` bytes; `None` when there is none.
    ///
    /// Anything else of that name, a fifo say, is an error and never waited for.
    pub(crate) fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(Found::File { folder, name, .. }) = self.find(path)? else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = std::fs::File::from(rustix::fs::openat(&folder, &*name, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"));
        }
        let mut content = Vec::new();
        file.take(limit + 1).read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(content))
    }
}

impl Merged {
    pub(crate) fn of(folder: OwnedFd) -> Self {
        Self(vec![folder])
    }

    /// Returns the folder's own attributes: the uppermost one's.
    pub(crate) fn top(&self) -> Option<&OwnedFd> {
        self.0.first()
    }

    fn again(&self) -> io::Result<Self> {
        Ok(Self(self.0.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?))
    }

    /// Finds one name in the folder; a link is not followed.
    pub(crate) fn look(&self, name: &OsStr) -> io::Result<Option<Found>> {
        let mut folders = Vec::new();
        for layer in &self.0 {
            let stat = match rustix::fs::statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                // A whiteout or a file hides what lies below it, and a folder above hides both.
                if folders.is_empty() && !is_whiteout(&stat) {
                    let folder = layer.try_clone()?;
                    return Ok(Some(Found::File { folder, name: name.to_owned(), stat }));
                }
                break;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = rustix::fs::openat(layer, name, flags, Mode::empty())?;
            let opaque = is_opaque(&folder);
            folders.push(folder);
            if opaque {
                break;
            }
        }
        Ok((!folders.is_empty()).then_some(Found::Folder(Self(folders))))
    }

    /// Returns the names that a layer has in the folder, in order. Some may be hidden: [`Merged::look`] tells.
    pub(crate) fn names(&self) -> io::Result<BTreeSet<OsString>> {
        let mut all = BTreeSet::new();
        for layer in &self.0 {
            for entry in rustix::fs::Dir::read_from(layer)? {
                let entry = entry?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if name != "." && name != ".." {
                    all.insert(name.to_owned());
                }
            }
        }
        Ok(all)
    }

    /// Calls `visit` with all that is below the folder, folders before what is in them. One folder is open a level.
    pub(crate) fn visit(
        &self,
        visit: &mut impl FnMut(&Path, &Found) -> io::Result<()>,
    ) -> io::Result<()> {
        self.visit_below(Path::new(""), 0, visit)
    }

    fn visit_below(
        &self,
        here: &Path,
        depth: usize,
        visit: &mut impl FnMut(&Path, &Found) -> io::Result<()>,
    ) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        for name in self.names()? {
            // It may be gone by now.
            let Some(found) = self.look(&name)? else { continue };
            let path = here.join(name);
            visit(&path, &found)?;
            if let Found::Folder(folder) = found {
                folder.visit_below(&path, depth + 1, visit)?;
            }
        }
        Ok(())
    }
}

/// A program in a container can make folders deeper than our stack and descriptors reach.
pub(crate) fn too_deep() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("there are more than {MAX_DEPTH} folders in one another"),
    )
}

/// Returns the names of a path, the last one first.
fn parts(path: &OsStr) -> Vec<OsString> {
    let names = path.as_bytes().split(|byte| *byte == b'/');
    let named = names.filter(|name| !name.is_empty() && *name != b".");
    named.rev().map(|name| OsStr::from_bytes(name).to_owned()).collect()
}

fn make_and_enter(folder: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(folder, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
}

pub(crate) fn is_link(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}

pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(crate) fn is_opaque(folder: &OwnedFd) -> bool {
    let mut value = [0; 4];
    rustix::fs::fgetxattr(folder.as_fd(), OPAQUE, &mut value)
        .is_ok_and(|size| &value[..size] == b"y")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::XattrFlags;

    use super::*;

    /// Makes layers from the top down; `Some` writes a file, `None` hides it.
    fn root(layers: &[&[(&str, Option<&str>)]]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut paths = Vec::new();
        for (number, files) in layers.iter().enumerate() {
            let layer = folder.path().join(number.to_string());
            for (path, content) in *files {
                let path = layer.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                match content {
                    Some(text) => fs::write(path, text).unwrap(),
                    None => {
                        let kind = FileType::CharacterDevice;
                        rustix::fs::mknodat(CWD, &path, kind, Mode::empty(), 0).unwrap();
                    }
                }
            }
            paths.push(layer);
        }
        let root = Root::open(&paths).unwrap();
        (folder, root)
    }

    fn text(root: &Root, path: &str) -> Option<String> {
        root.read(path, 100).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_upper_layer_wins_and_a_whiteout_hides() {
        let (_folder, root) = root(&[
            &[("etc/a", Some("top")), ("etc/b", None)],
            &[("etc/a", Some("low")), ("etc/b", Some("low")), ("etc/c", Some("low"))],
        ]);
        assert_eq!(text(&root, "/etc/a").as_deref(), Some("top"));
        assert_eq!(text(&root, "/etc/b"), None);
        assert_eq!(text(&root, "etc/./c").as_deref(), Some("low"));
        let Some(Found::Folder(etc)) = root.find("/etc").unwrap() else { panic!() };
        let mut seen = Vec::new();
        etc.visit(&mut |path, _| {
            seen.push(path.to_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [Path::new("a"), Path::new("c")]);
    }

    #[test]
    fn an_opaque_folder_hides_all_below_it() {
        let (folder, root) = root(&[&[("etc/a", Some("top"))], &[("etc/b", Some("low"))]]);
        let etc = fs::File::open(folder.path().join("0/etc")).unwrap();
        rustix::fs::fsetxattr(&etc, OPAQUE, b"y", XattrFlags::empty()).unwrap();
        assert_eq!(text(&root, "/etc/b"), None);
        assert_eq!(text(&root, "/etc/a").as_deref(), Some("top"));
    }

    #[test]
    fn links_stay_below_the_root() {
        let (folder, root) = root(&[&[("etc/passwd", Some("inside")), ("x", Some("x"))], &[]]);
        let top = folder.path().join("0");
        symlink("/../../../../etc/passwd", top.join("absolute")).unwrap();
        symlink("../../etc/passwd", top.join("relative")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        assert_eq!(text(&root, "/absolute").as_deref(), Some("inside"));
        assert_eq!(text(&root, "/relative").as_deref(), Some("inside"));
        assert_eq!(text(&root, "/x/etc/passwd"), None);
        assert!(root.read("/loop", 1).is_err());
    }

    #[test]
    fn a_path_is_resolved_as_far_as_it_leads() {
        let (folder, root) = root(&[&[("srv/app/f", Some("f"))]]);
        let top = folder.path().join("0");
        symlink("/../srv/./app", top.join("link")).unwrap();
        symlink("nowhere/x", top.join("dangling")).unwrap();
        let resolved = |path: &str| root.resolve(path.as_ref()).unwrap();
        assert_eq!(resolved("/link/f"), Path::new("/srv/app/f"));
        assert_eq!(resolved("/link/../a/b"), Path::new("/srv/a/b"));
        assert_eq!(resolved("/dangling"), Path::new("/nowhere/x"));
        assert_eq!(resolved("/"), Path::new("/"));
        let entry = |path: &str| root.entry(path.as_ref()).unwrap();
        assert!(matches!(entry("/link"), Some(Found::File { stat, .. }) if is_link(&stat)));
        assert!(matches!(entry("/link/f"), Some(Found::File { stat, .. }) if !is_link(&stat)));
        assert!(matches!(entry("/"), Some(Found::Folder(_))));
        assert!(entry("/srv/app/f/g").is_none());
    }

    #[test]
    fn a_missing_folder_is_made_in_the_upper_layer_and_never_outside() {
        let (folder, root) = root(&[&[], &[("srv/app/x", Some("x")), ("f", Some("f"))]]);
        let (upper, low) = (folder.path().join("upper"), folder.path().join("1"));
        fs::create_dir(&upper).unwrap();
        symlink("/srv/../../../srv/app", low.join("link")).unwrap();
        std::os::unix::fs::chown(low.join("srv/app"), Some(5), Some(6)).unwrap();
        root.make_folder(&upper, "/link/a/b").unwrap();
        assert!(upper.join("srv/app/a/b").is_dir());
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(upper.join("srv/app")).unwrap().uid(), 5);
        root.make_folder(&upper, "/srv/app").unwrap();
        assert!(root.make_folder(&upper, "/f/a").is_err());
    }

    #[test]
    fn a_fifo_and_a_huge_file_are_refused_at_once() {
        let (folder, root) = root(&[&[("big", Some("four"))]]);
        let fifo = folder.path().join("0/fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(root.read("/fifo", 10).is_err());
        assert!(root.read("/big", 3).is_err());
        assert!(root.read("/big", 4).unwrap().is_some());
    }
}
