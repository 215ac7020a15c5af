//! The files here: packing them for a container, unpacking a container's.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use crate::archive::{ApplyError, Extraction, Limits, Packer, extract};

/// More folders in one another than a container takes.
const MAX_DEPTH: usize = 256;

/// Counts what is written through it.
struct Counted<W> {
    output: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Writes the archive of `path`, in which it is called `name`, and returns its size.
pub(super) fn pack(path: &Path, name: &str, output: impl Write) -> io::Result<u64> {
    let mut packer = Packer::new(Counted { output, bytes: 0 });
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let folder = open(CWD.as_fd(), path.as_os_str())?;
        packer.folder(&stat, &[name.as_bytes(), b"/"].concat())?;
        pack_below(&mut packer, &folder, &[name.as_bytes(), b"/"].concat(), 0)?;
    } else {
        packer.file(CWD, path.as_os_str(), &stat, name.as_bytes())?;
    }
    let mut written = packer.finish()?;
    written.flush()?;
    Ok(written.bytes)
}

fn pack_below<W: Write>(
    packer: &mut Packer<W>,
    folder: &OwnedFd,
    prefix: &[u8],
    depth: usize,
) -> io::Result<()> {
    if depth > MAX_DEPTH {
        let message = format!("there are more than {MAX_DEPTH} folders in one another");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut names: Vec<OsString> = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    for name in names {
        let stat = rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mut path = [prefix, name.as_bytes()].concat();
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            path.push(b'/');
            packer.folder(&stat, &path)?;
            pack_below(packer, &open(folder.as_fd(), &name)?, &path, depth + 1)?;
        } else {
            packer.file(folder.as_fd(), &name, &stat, &path)?;
        }
    }
    Ok(())
}

fn open(at: std::os::fd::BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

/// Unpacks a container's archive into the open `folder`; links in it lead nowhere outside. Without `keep_owners` all
/// of it is the caller's own.
pub(super) fn unpack(
    archive: impl Read,
    folder: &File,
    rename: Option<&str>,
    keep_owners: bool,
) -> Result<(), ApplyError> {
    let own = || {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        (user.as_raw(), group.as_raw())
    };
    let how = Extraction {
        keep_kinds: true,
        owner: (!keep_owners).then(own),
        rename: rename.map(OsString::from),
        ..Extraction::default()
    };
    let limits = Limits { entries: u64::MAX, bytes: u64::MAX, depth: MAX_DEPTH };
    extract(archive, folder.as_fd(), &how, &limits)
}
