//! The files of a container that does not run: its root and its mounts in a mount namespace that no process is in.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use oci_spec::runtime::{Mount, Root, Spec};
use rustix::fs::{Mode, OFlags};

use super::bundle::{Rootfs, Sources};
use super::init::{During, InitError, rootfs};

/// A mounted root. The kernel unmounts all of it when both descriptors are closed.
#[derive(Debug)]
pub struct Mounted {
    /// The root, to be read and written below.
    pub root: OwnedFd,
    /// Keeps the mounts below the root: they go with their namespace, namespaces(7).
    pub namespace: OwnedFd,
}

/// What could not be mounted.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct MountError(#[from] InitError);

/// Mounts `rootfs` on the folder `target`, which only the new namespace sees, and `mounts` below it.
///
/// The work is done by a thread of its own, which leaves its file system and its mount namespace behind: the callers'
/// stay what they are.
pub fn mount(
    rootfs: &Rootfs,
    mounts: Vec<Mount>,
    sources: &Sources,
    read_only: bool,
    target: &Path,
) -> Result<Mounted, MountError> {
    let mut root = Root::default();
    root.set_readonly(Some(read_only));
    let mut spec = Spec::default();
    spec.set_root(Some(root)).set_mounts(Some(mounts)).set_linux(None);
    let work = || mount_here(rootfs, &spec, sources, target);
    let mounted = std::thread::scope(|scope| scope.spawn(work).join());
    mounted.unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map_err(MountError)
}

fn mount_here(
    rootfs: &Rootfs,
    spec: &Spec,
    sources: &Sources,
    target: &Path,
) -> Result<Mounted, InitError> {
    unshare(CloneFlags::CLONE_NEWNS).during(|| "make a mount namespace".into())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open("/proc/thread-self/ns/mnt", flags, Mode::empty())
        .during(|| "open the mount namespace".into())?;
    let mounted = rootfs::mount(spec, rootfs, target)?;
    rootfs::populate(spec, sources, BTreeMap::new(), mounted.as_fd())?;
    rootfs::seal(spec, mounted.as_fd())?;
    // Else the namespace would keep all mounts of the host busy.
    rootfs::enter(mounted.as_fd())?;
    let root = rustix::fs::open("/", flags | OFlags::DIRECTORY, Mode::empty())
        .during(|| "open the root".into())?;
    Ok(Mounted { root, namespace })
}
