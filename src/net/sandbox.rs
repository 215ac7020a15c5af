//! A sandbox: a network namespace that is pinned at a path and outlives the processes inside.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::netlink::{self, NetlinkError};

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("cannot make {}", path.display())]
    MakePin { path: PathBuf, source: io::Error },
    #[error("cannot unshare the network namespace")]
    Unshare { source: io::Error },
    #[error("cannot pin the namespace at {}", path.display())]
    Pin { path: PathBuf, source: io::Error },
    #[error("cannot unmount {}", path.display())]
    Unpin { path: PathBuf, source: io::Error },
    #[error("cannot remove {}", path.display())]
    RemovePin { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Creates a namespace with lo up and pins it at `path`. A namespace that is pinned there already is kept.
pub async fn create(path: &Path) -> Result<(), SandboxError> {
    if is_pinned(path) {
        return Ok(());
    }
    let make = |source| SandboxError::MakePin { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(make)?;
    }
    File::create(path).map_err(make)?;
    let pin = path.to_owned();
    let made = netlink::on_thread(move || unshare_and_pin(&pin)).await;
    if made.is_err() {
        // The first error is the one to report; what is left is taken by the next `remove`.
        drop(remove(path));
    }
    made
}

/// Pins the namespace of a process again that somebody unpinned.
pub fn pin(path: &Path, namespace: &File) -> Result<(), SandboxError> {
    let make = |source| SandboxError::MakePin { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(make)?;
    }
    File::create(path).map_err(make)?;
    let source = format!("/proc/thread-self/fd/{}", namespace.as_raw_fd());
    mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|errno| SandboxError::Pin { path: path.to_owned(), source: errno.into() })
}

fn unshare_and_pin(path: &Path) -> Result<(), SandboxError> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| SandboxError::Unshare { source: errno.into() })?;
    // `/proc/self` is the thread group's leader, which stayed outside.
    mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|errno| SandboxError::Pin { path: path.to_owned(), source: errno.into() })?;
    // Ping without NET_RAW: icmp(7). Ports below 1024 without NET_BIND_SERVICE: the namespace is the container's own.
    netlink::write_sysctl("ipv4/ping_group_range", "0 2147483647")?;
    netlink::write_sysctl("ipv4/ip_unprivileged_port_start", "0")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| NetlinkError::Thread { source })?;
    runtime.block_on(async {
        let handle = netlink::connect()?;
        let index = netlink::link_index(&handle, "lo").await?;
        netlink::set_up(&handle, index).await
    })?;
    Ok(())
}

/// Removes the pin; the namespace goes with its last process and socket. A missing pin is fine.
pub fn remove(path: &Path) -> Result<(), SandboxError> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // EINVAL: a plain file, nothing is mounted there (umount(2)).
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => {
            return Err(SandboxError::Unpin { path: path.to_owned(), source: errno.into() });
        }
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        // A read-only disk refuses before it looks whether there is anything.
        Err(_) if path.symlink_metadata().is_err_and(|error| is_missing(&error)) => Ok(()),
        Err(source) => Err(SandboxError::RemovePin { path: path.to_owned(), source }),
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Tells whether a namespace is pinned at `path`.
pub fn is_pinned(path: &Path) -> bool {
    nix::sys::statfs::statfs(path)
        .is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use crate::net::netlink::throwaway;

    #[test]
    fn a_sandbox_is_pinned_twice_without_harm_and_leaves_nothing_behind() {
        throwaway::host(async || {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("netns/c1");
            create(&path).await.unwrap();
            create(&path).await.unwrap();
            assert!(is_pinned(&path));
            let range = netlink::inside(&path, async || {
                Ok::<_, NetlinkError>(
                    fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap(),
                )
            });
            assert_eq!(range.await.unwrap(), "0\t2147483647\n");
            remove(&path).unwrap();
            remove(&path).unwrap();
            assert!(!path.exists());
        });
    }
}
