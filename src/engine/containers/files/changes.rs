//! `diff`: what a container's own layer changes of its image.
//!
//! As docker has it (moby `pkg/archive/changes.go`): a folder is changed when something below it is or when its own
//! attributes are, and of what a start itself puts into every container nothing is told.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};

use super::archive::stat_of;
use crate::engine::containers::layered::{
    Found, MAX_DEPTH, Merged, Root, is_opaque, is_whiteout, too_deep,
};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;

/// Mount points and files that a start makes where the image has none.
const MADE_BY_START: [&str; 12] = [
    "/.dockerenv",
    "/dev",
    "/dev/console",
    "/dev/pts",
    "/dev/shm",
    "/etc",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/proc",
    "/sys",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Modified,
    Added,
    Deleted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    /// Absolute.
    pub path: PathBuf,
}

impl Engine {
    /// Returns what a container changed of its image, folders before what is in them.
    pub async fn container_changes(
        self: &Arc<Self>,
        word: &str,
    ) -> Result<Vec<Change>, EngineError> {
        let row = self.container(word)?.row();
        tokio::task::block_in_place(|| self.changes_of(&row))
    }

    pub(super) fn changes_of(
        &self,
        row: &crate::engine::state::containers::Container,
    ) -> Result<Vec<Change>, EngineError> {
        let doing = || EngineError::io(format!("compare container {} with its image", row.id));
        let layers = self.layers_of(row)?;
        let (upper, image) = layers.split_first().expect("a container has a layer of its own");
        let image = Root::open(image).map_err(doing())?;
        compare(upper, &image).map_err(doing())
    }
}

fn compare(upper: &Path, image: &Root) -> io::Result<Vec<Change>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = rustix::fs::openat(CWD, upper, flags, Mode::empty())?;
    let mut changes = Vec::new();
    let below = Some(image.folder());
    Level { own: &own, below, path: Path::new("/"), depth: 0 }.compare(&mut changes)?;
    Ok(changes)
}

/// A folder of the container's layer, and the image's folder of that name.
struct Level<'a> {
    own: &'a OwnedFd,
    below: Option<&'a Merged>,
    path: &'a Path,
    depth: usize,
}

impl Level<'_> {
    fn compare(&self, changes: &mut Vec<Change>) -> io::Result<()> {
        if self.depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let own = Merged::of(self.own.try_clone()?);
        let mut names = own.names()?;
        if let Some(below) = self.below.filter(|_| is_opaque(self.own)) {
            names.extend(below.names()?);
        }
        for name in names {
            self.compare_name(&name, changes)?;
        }
        Ok(())
    }

    fn compare_name(&self, name: &OsStr, changes: &mut Vec<Change>) -> io::Result<()> {
        let path = self.path.join(name);
        let change = |kind| Change { kind, path: path.clone() };
        let before = self.below.map(|below| below.look(name)).transpose()?.flatten();
        let stat = match rustix::fs::statat(self.own, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if !is_whiteout(&stat) => stat,
            Ok(_) | Err(rustix::io::Errno::NOENT) => {
                changes.extend(before.map(|_| change(ChangeKind::Deleted)));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let made = before.is_none() && MADE_BY_START.iter().any(|known| path == Path::new(known));
        let own = match &before {
            None => (!made).then_some(ChangeKind::Added),
            Some(before) => differ(&stat_of(before)?, &stat).then_some(ChangeKind::Modified),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            changes.extend(own.map(change));
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(self.own, name, flags, Mode::empty())?;
        let below = match &before {
            Some(Found::Folder(below)) => Some(below),
            _ => None,
        };
        let mut inside = Vec::new();
        Level { own: &folder, below, path: &path, depth: self.depth + 1 }.compare(&mut inside)?;
        let because = if made { ChangeKind::Added } else { ChangeKind::Modified };
        let kind = own.or((!inside.is_empty()).then_some(because));
        changes.extend(kind.map(change));
        changes.append(&mut inside);
        Ok(())
    }
}

/// A folder's size and time change with every name in it, so they say nothing.
fn differ(before: &Stat, now: &Stat) -> bool {
    let attributes = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    let content = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    let is_folder = FileType::from_raw_mode(now.st_mode) == FileType::Directory;
    attributes(before) != attributes(now) || (!is_folder && content(before) != content(now))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use std::fs;

    use rustix::fs::XattrFlags;

    use super::*;

    fn shown(upper: &Path, low: &Path) -> Vec<String> {
        let image = Root::open(&[low]).unwrap();
        let letter = |kind| match kind {
            ChangeKind::Modified => "C",
            ChangeKind::Added => "A",
            ChangeKind::Deleted => "D",
        };
        let changes = compare(upper, &image).unwrap();
        changes
            .iter()
            .map(|change| format!("{} {}", letter(change.kind), change.path.display()))
            .collect()
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn hide(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }

    #[test]
    fn changes_are_told_with_the_folders_above_them() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let (upper, low) = (folder.path().join("upper"), folder.path().join("low"));
        for (path, text) in [("srv/a", "a"), ("srv/b", "b"), ("opt/x/y", ""), ("was/folder/f", "")]
        {
            write(&low, path, text);
        }
        write(&upper, "srv/a", "other");
        hide(&upper, "srv/b");
        write(&upper, "new/deep/file", "");
        write(&upper, "was/folder", "");
        // Copied up and not changed.
        fs::create_dir_all(upper.join("opt/x")).unwrap();
        assert_eq!(
            shown(&upper, &low),
            [
                "A /new",
                "A /new/deep",
                "A /new/deep/file",
                "C /srv",
                "C /srv/a",
                "D /srv/b",
                "C /was",
                "C /was/folder",
            ]
        );
    }

    #[test]
    fn a_folder_that_was_made_anew_lost_what_it_had() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let (upper, low) = (folder.path().join("upper"), folder.path().join("low"));
        write(&low, "srv/old", "");
        write(&upper, "srv/new", "");
        let srv = fs::File::open(upper.join("srv")).unwrap();
        rustix::fs::fsetxattr(&srv, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
        assert_eq!(shown(&upper, &low), ["C /srv", "A /srv/new", "D /srv/old"]);
    }

    #[test]
    fn what_a_start_makes_is_not_told_and_what_a_program_adds_there_is() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let (upper, low) = (folder.path().join("upper"), folder.path().join("low"));
        fs::create_dir(&low).unwrap();
        for path in [".dockerenv", "etc/hosts", "etc/resolv.conf", "dev/console"] {
            write(&upper, path, "");
        }
        fs::create_dir(upper.join("proc")).unwrap();
        assert!(shown(&upper, &low).is_empty());
        write(&upper, "etc/motd", "");
        assert_eq!(shown(&upper, &low), ["A /etc", "A /etc/motd"]);
    }
}
