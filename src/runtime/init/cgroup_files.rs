//! `/sys/fs/cgroup` inside a container, as runc mounts it: its own cgroups and nothing of the host's.
//!
//! In a cgroup namespace of its own the container's cgroup is each hierarchy's root. Version 1 has no such namespace by
//! docker's default, so its own folder of each hierarchy is bound there.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;

use super::rootfs::{clone_tree, new_filesystem, place};
use super::{During, InitError};
use crate::runtime::mounts::{self, Bind};
use crate::runtime::sys::{self, MountAttributes};

const HOST: &str = "/sys/fs/cgroup";

/// Mounts the cgroups of the calling process at `destination`, with the mount attributes `set`.
pub(super) fn mount(root: BorrowedFd<'_>, destination: &Path, set: u64) -> Result<(), InitError> {
    let action = || format!("mount cgroup on {}", destination.display());
    if Path::new(HOST).join("cgroup.controllers").exists() {
        let options = mounts::Options { set, ..Default::default() };
        let fd = new_filesystem("cgroup2", Path::new("cgroup"), &options).during(action)?;
        return place(root, &fd, destination, true).during(action);
    }
    let writable = mounts::Options {
        set: set & !mounts::READ_ONLY,
        data: vec![("mode".into(), Some("755".into()))],
        ..Default::default()
    };
    let tmpfs = new_filesystem("tmpfs", Path::new("tmpfs"), &writable).during(action)?;
    place(root, &tmpfs, destination, true).during(action)?;
    let own = fs::read_to_string("/proc/self/cgroup").during(action)?;
    for hierarchy in own.lines().filter_map(Hierarchy::parse) {
        // One that the host has not mounted, or not where it belongs, is left out as other runtimes do.
        if let Ok(fd) = hierarchy.mount(set) {
            place(root, &fd, &destination.join(hierarchy.folder), true).during(action)?;
        }
    }
    link_merged(tmpfs.as_fd()).during(action)?;
    let attributes = MountAttributes { set: set & mounts::READ_ONLY, ..Default::default() };
    sys::mount_setattr(tmpfs.as_fd(), false, &attributes).during(action)
}

/// A hierarchy of version 1, or version 2's beside it.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy<'a> {
    /// Its folder in `/sys/fs/cgroup`.
    folder: &'a str,
    /// What mount(2) is told; empty for version 2.
    options: Vec<(String, Option<String>)>,
    /// The process's cgroup.
    path: &'a str,
}

impl<'a> Hierarchy<'a> {
    /// Reads a line of `/proc/self/cgroup` (cgroups(7)): number, controllers, path.
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (folder, options) = match controllers.split_once('=') {
            Some((_, name)) => {
                (name, vec![("none".into(), None), ("name".into(), Some(name.into()))])
            }
            None if controllers.is_empty() => ("unified", Vec::new()),
            None => (controllers, controllers.split(',').map(|one| (one.into(), None)).collect()),
        };
        Some(Self { folder, options, path })
    }

    fn mount(&self, set: u64) -> std::io::Result<OwnedFd> {
        if self.path == "/" {
            let options = mounts::Options { set, data: self.options.clone(), ..Default::default() };
            let kind = if self.options.is_empty() { "cgroup2" } else { "cgroup" };
            return Ok(new_filesystem(kind, Path::new("cgroup"), &options)?);
        }
        let own = Path::new(HOST).join(self.folder).join(self.path.trim_start_matches('/'));
        let tree = clone_tree(CWD, &own, Bind::One)?;
        let attributes = MountAttributes { set, ..Default::default() };
        sys::mount_setattr(tree.as_fd(), false, &attributes)?;
        Ok(tree)
    }
}

/// Repeats the host's links, such as `cpu` → `cpu,cpuacct`.
fn link_merged(tmpfs: BorrowedFd<'_>) -> std::io::Result<()> {
    for entry in fs::read_dir(HOST)?.flatten() {
        if entry.file_type()?.is_symlink() {
            let target = fs::read_link(entry.path())?;
            rustix::fs::symlinkat(target, tmpfs, entry.file_name())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_names_a_folder_its_options_and_the_own_cgroup() {
        let parse =
            |line| Hierarchy::parse(line).map(|one| (one.folder, one.options.len(), one.path));
        assert_eq!(parse("4:cpu,cpuacct:/bargee/c"), Some(("cpu,cpuacct", 2, "/bargee/c")));
        assert_eq!(parse("1:name=systemd:/a:b"), Some(("systemd", 2, "/a:b")));
        assert_eq!(parse("0::/"), Some(("unified", 0, "/")));
        assert_eq!(parse("nonsense"), None);
    }
}
