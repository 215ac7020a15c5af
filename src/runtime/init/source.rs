//! The sources of binds, cloned as trees that are not mounted yet.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use super::rootfs::{clone_tree, open_inside};
use crate::runtime::bundle::Lookup;
use crate::runtime::mounts::Bind;

/// Clones what is at `source`, looked up as `lookup` says.
pub(super) fn clone(
    source: &Path,
    bind: Bind,
    lookup: Option<&Lookup>,
) -> rustix::io::Result<OwnedFd> {
    match lookup {
        None => clone_tree(CWD, source, bind),
        Some(Lookup::Folder(folder)) => clone_below(folder, source, bind),
        Some(Lookup::Namespace(namespace)) => clone_elsewhere(namespace, source, bind),
    }
}

/// The descriptor that was resolved is the one that is cloned: a container that has the same volume may exchange a
/// folder for a link at any moment.
fn clone_below(folder: &Path, source: &Path, bind: Bind) -> rustix::io::Result<OwnedFd> {
    let below = source.strip_prefix(folder).map_err(|_| Errno::XDEV)?;
    let root = open(folder)?;
    let found = open_inside(root.as_fd(), below, OFlags::PATH)?;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if bind == Bind::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(&found, "", flags)
}

/// A mount can be cloned only in its own namespace (open_tree(2)), and there no link leads out of the container.
///
/// setns(2) changes root and working folder, so both are put back.
fn clone_elsewhere(namespace: &Path, source: &Path, bind: Bind) -> rustix::io::Result<OwnedFd> {
    let own = open_namespace(Path::new("/proc/self/ns/mnt"))?;
    let root = open(Path::new("/"))?;
    let other = open_namespace(namespace)?;
    enter(&other)?;
    let tree = clone_tree(CWD, source, bind);
    enter(&own)?;
    rustix::process::fchdir(&root)?;
    rustix::process::chroot(".")?;
    tree
}

fn open_namespace(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn enter(namespace: &OwnedFd) -> rustix::io::Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

fn open(folder: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::empty())
}
