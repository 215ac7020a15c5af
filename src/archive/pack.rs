//! Writes real files as an archive, with the owners, modes, times, links and capabilities that they have. What a
//! header has no room for stands in a PAX record before it, pax(1).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

const CAPABILITY: &str = "security.capability";
/// Bytes of a name in the header itself.
const NAME_ROOM: usize = 100;

/// An archive that is being written.
pub struct Packer<W: Write> {
    builder: Builder<W>,
    /// The name under which each file with several links was written first.
    first_links: BTreeMap<(u64, u64), Vec<u8>>,
}

/// What stands in an entry's header beside the file's attributes.
struct Fields<'a> {
    kind: EntryType,
    size: u64,
    link: &'a [u8],
    capability: Option<Vec<u8>>,
}

impl<W: Write> Packer<W> {
    pub fn new(output: W) -> Self {
        Self { builder: Builder::new(output), first_links: BTreeMap::new() }
    }

    /// Adds what `name` in `folder` is, as `path`. A socket is left out: an archive has no word for it.
    pub fn file(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        stat: &Stat,
        path: &[u8],
    ) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let first = self.first_links.entry((stat.st_dev, stat.st_ino));
            match first {
                std::collections::btree_map::Entry::Occupied(first) => {
                    let target = first.get().clone();
                    return self.entry(path, stat, &Fields::new(EntryType::Link, &target));
                }
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(path.to_vec());
                }
            }
        }
        match kind {
            FileType::RegularFile => self.regular(folder, name, stat, path),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
                self.entry(path, stat, &Fields::new(EntryType::Symlink, target.as_bytes()))
            }
            FileType::Socket => Ok(()),
            FileType::Fifo => self.entry(path, stat, &Fields::new(EntryType::Fifo, b"")),
            FileType::CharacterDevice => self.entry(path, stat, &Fields::new(EntryType::Char, b"")),
            FileType::BlockDevice => self.entry(path, stat, &Fields::new(EntryType::Block, b"")),
            FileType::Directory | FileType::Unknown => Err(Errno::ISDIR.into()),
        }
    }

    /// Adds a folder; `path` ends with a slash.
    pub fn folder(&mut self, stat: &Stat, path: &[u8]) -> io::Result<()> {
        self.entry(path, stat, &Fields::new(EntryType::Directory, b""))
    }

    /// Adds a file without content whose name alone says something: a layer's whiteout.
    pub fn mark(&mut self, path: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        for set in [Header::set_uid, Header::set_gid, Header::set_mtime, Header::set_size] {
            set(&mut header, 0);
        }
        header.set_mode(0o600);
        self.append(header, path, &Fields::new(EntryType::Regular, b""), io::empty())
    }

    /// Ends the archive and returns what it was written to.
    pub fn finish(self) -> io::Result<W> {
        self.builder.into_inner()
    }

    fn regular(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        stat: &Stat,
        path: &[u8],
    ) -> io::Result<()> {
        // A fifo that took the name meanwhile is not waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
        let size = file.metadata()?.len();
        let capability = capability(file.as_fd())?;
        let fields = Fields { kind: EntryType::Regular, size, link: b"", capability };
        let header = header(stat, &fields)?;
        // The header states a size, so a file that shrinks is filled up and one that grows is cut.
        self.append(header, path, &fields, file.chain(io::repeat(0)).take(size))
    }

    fn entry(&mut self, path: &[u8], stat: &Stat, fields: &Fields<'_>) -> io::Result<()> {
        self.append(header(stat, fields)?, path, fields, io::empty())
    }

    fn append(
        &mut self,
        mut header: Header,
        path: &[u8],
        fields: &Fields<'_>,
        data: impl Read,
    ) -> io::Result<()> {
        let capability_key = format!("SCHILY.xattr.{CAPABILITY}");
        let mut records: Vec<(&str, &[u8])> = Vec::new();
        if path.len() > NAME_ROOM {
            records.push(("path", path));
        }
        if fields.link.len() > NAME_ROOM {
            records.push(("linkpath", fields.link));
        }
        records.extend(fields.capability.as_deref().map(|value| (capability_key.as_str(), value)));
        if !records.is_empty() {
            self.builder.append_pax_extensions(records)?;
        }
        let old = header.as_old_mut();
        fill(&mut old.name, path);
        fill(&mut old.linkname, fields.link);
        header.set_cksum();
        self.builder.append(&header, data)
    }
}

impl<'a> Fields<'a> {
    fn new(kind: EntryType, link: &'a [u8]) -> Self {
        Self { kind, size: 0, link, capability: None }
    }
}

fn header(stat: &Stat, fields: &Fields<'_>) -> io::Result<Header> {
    let mut header = Header::new_gnu();
    header.set_entry_type(fields.kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_size(fields.size);
    // No archive tells of times before the epoch.
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    if matches!(fields.kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(rustix::fs::major(stat.st_rdev))?;
        header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
    }
    Ok(header)
}

fn fill(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    field[length..].fill(0);
}

fn capability(file: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
    let mut value = [0; 64];
    match rustix::fs::fgetxattr(file, CAPABILITY, &mut value) {
        Ok(length) => Ok(Some(value[..length].to_vec())),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl<W: Write> std::fmt::Debug for Packer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("first_links", &self.first_links).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::AtFlags;

    use super::*;
    use crate::archive::read::{Entry, TarReader};

    fn entries(archive: &[u8]) -> Vec<(Entry, String)> {
        let mut reader = TarReader::new(archive);
        let mut all = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            all.push((entry, text));
        }
        all
    }

    #[test]
    fn files_are_written_as_they_are() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), "content").unwrap();
        std::os::unix::fs::chown(path("a"), Some(70_000), Some(3_000_000)).unwrap();
        // The bits come last: a change of owner clears them.
        fs::set_permissions(path("a"), fs::Permissions::from_mode(0o4750)).unwrap();
        fs::hard_link(path("a"), path("b")).unwrap();
        symlink("a", path("c")).unwrap();
        let opened = File::open(folder.path()).unwrap();
        let mut packer = Packer::new(Vec::new());
        let long = format!("{}/b", "x".repeat(200));
        for (name, at) in [("a", "a"), ("b", long.as_str()), ("c", "c")] {
            let stat = rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            packer.file(opened.as_fd(), name.as_ref(), &stat, at.as_bytes()).unwrap();
        }
        packer.mark(b"etc/.wh.gone").unwrap();
        let written = entries(&packer.finish().unwrap());
        let kinds: Vec<_> = written.iter().map(|(entry, _)| entry.kind).collect();
        let regular = EntryType::Regular;
        assert_eq!(kinds, [regular, EntryType::Link, EntryType::Symlink, regular]);
        let (first, content) = &written[0];
        assert_eq!((first.mode, first.uid, first.gid), (0o4750, 70_000, 3_000_000));
        assert_eq!(content, "content");
        assert_eq!(written[1].0.path, long.as_bytes());
        assert_eq!(
            (written[1].0.link.as_slice(), written[2].0.link.as_slice()),
            (&b"a"[..], &b"a"[..])
        );
        assert_eq!(written[3].0.path, b"etc/.wh.gone");
    }
}
