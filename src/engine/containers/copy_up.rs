//! What the image has where a new volume is mounted becomes the volume's first content, as in docker.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use super::layered::{Found, Merged, Root};

/// Copies what `root` has at `target` into the folder `data` if that is empty: owners, modes, times and extended
/// attributes too. Another process that fills the same folder is waited for.
pub(crate) fn fill(root: &Root, target: &str, data: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let data = rustix::fs::openat(CWD, data, flags, Mode::empty())?;
    rustix::fs::flock(&data, FlockOperation::LockExclusive)?;
    if !is_empty(&data)? {
        return Ok(());
    }
    match root.find(target)? {
        Some(Found::Folder(folder)) => copy_folder(&folder, &data),
        _ => Ok(()),
    }
}

fn is_empty(folder: &OwnedFd) -> io::Result<bool> {
    for entry in rustix::fs::Dir::read_from(folder)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn copy_folder(from: &Merged, to: &OwnedFd) -> io::Result<()> {
    for name in from.names()? {
        let Some(found) = from.look(&name)? else { continue };
        match found {
            Found::Folder(folder) => {
                rustix::fs::mkdirat(to, &*name, Mode::RWXU)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(to, &*name, flags, Mode::empty())?;
                copy_folder(&folder, &made)?;
            }
            Found::File { folder, stat, .. } => copy_file(&folder, &name, &stat, to.as_fd())?,
        }
    }
    let Some(top) = from.top() else { return Ok(()) };
    copy_attributes(top.as_fd(), &rustix::fs::fstat(top)?, to.as_fd())
}

fn copy_file(folder: &OwnedFd, name: &OsStr, stat: &Stat, to: BorrowedFd<'_>) -> io::Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let mut source = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mut target =
                File::from(rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
            io::copy(&mut source, &mut target)?;
            copy_attributes(source.as_fd(), stat, target.as_fd())
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
            rustix::fs::symlinkat(OsStr::from_bytes(target.as_bytes()), to, name)?;
            own(to, name, stat)
        }
        // A socket is of no use to anybody but the program that bound it.
        FileType::Socket => Ok(()),
        kind => {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?;
            own(to, name, stat)?;
            // The umask took part of the mode away.
            Ok(rustix::fs::chmodat(to, name, mode, AtFlags::empty())?)
        }
    }
}

fn own(to: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    Ok(rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn copy_attributes(from: BorrowedFd<'_>, stat: &Stat, to: BorrowedFd<'_>) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(to, Some(uid), Some(gid))?;
    // After the owner, whose change clears set-user-id bits and capabilities, chown(2).
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(from, to)?;
    let time = |seconds: i64, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or_default(),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(rustix::fs::futimens(to, &times)?)
}

/// Overlayfs's own attributes mean nothing outside a layer.
fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // The most that the kernel returns, xattr(7).
    let mut names = vec![0; 64 << 10];
    let size = match rustix::fs::flistxattr(from, &mut names) {
        Err(Errno::NOTSUP) => return Ok(()),
        size => size?,
    };
    let mut value = vec![0; 64 << 10];
    for name in names[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let length = rustix::fs::fgetxattr(from, name, &mut value)?;
        match rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            // The volume's file system keeps none of this kind.
            Err(Errno::NOTSUP) => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn layers() -> (tempfile::TempDir, Root, std::path::PathBuf) {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let (top, low) = (folder.path().join("top"), folder.path().join("low"));
        fs::create_dir_all(low.join("data/sub")).unwrap();
        fs::create_dir_all(top.join("data")).unwrap();
        fs::write(low.join("data/sub/file"), "low").unwrap();
        fs::write(low.join("data/over"), "low").unwrap();
        fs::write(top.join("data/over"), "top").unwrap();
        symlink("/etc/passwd", low.join("data/link")).unwrap();
        let volume = folder.path().join("volume");
        fs::create_dir(&volume).unwrap();
        let root = Root::open(&[top, low]).unwrap();
        (folder, root, volume)
    }

    #[test]
    fn an_empty_volume_gets_the_images_content_with_owners_and_modes() {
        let (folder, root, volume) = layers();
        let file = folder.path().join("low/data/sub/file");
        std::os::unix::fs::chown(&file, Some(5), Some(6)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4750)).unwrap();
        fs::set_permissions(folder.path().join("top/data"), fs::Permissions::from_mode(0o1777))
            .unwrap();
        fill(&root, "/data", &volume).unwrap();
        assert_eq!(fs::read_to_string(volume.join("over")).unwrap(), "top");
        assert_eq!(fs::read_link(volume.join("link")).unwrap(), Path::new("/etc/passwd"));
        let copied = fs::metadata(volume.join("sub/file")).unwrap();
        assert_eq!((copied.uid(), copied.gid(), copied.mode() & 0o7777), (5, 6, 0o4750));
        assert_eq!(fs::metadata(&volume).unwrap().mode() & 0o7777, 0o1777);
    }

    #[test]
    fn a_volume_with_content_keeps_it() {
        let (_folder, root, volume) = layers();
        fs::write(volume.join("mine"), "").unwrap();
        fill(&root, "/data", &volume).unwrap();
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 1);
    }

    #[test]
    fn a_target_that_the_image_lacks_or_that_is_a_file_gives_nothing() {
        let (_folder, root, volume) = layers();
        fill(&root, "/nowhere", &volume).unwrap();
        fill(&root, "/data/over", &volume).unwrap();
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
    }
}
