//! Tells when mounts of a mount namespace change: poll(2) on a process's mountinfo, proc_pid_mountinfo(5).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use tokio::io::unix::AsyncFd;

use crate::engine::sys;

/// The mounts that one process sees.
#[derive(Debug)]
pub(crate) struct MountWatch {
    mounts: AsyncFd<OwnedFd>,
}

impl MountWatch {
    /// Needs a tokio runtime.
    pub(crate) fn open(mountinfo: &Path) -> io::Result<Self> {
        let mounts = sys::readable(File::open(mountinfo)?.into())?;
        Ok(Self { mounts })
    }

    /// Returns at once the first time, then after the next change. Cancel safe: a change is kept until it is told.
    pub(crate) async fn next(&mut self) -> io::Result<()> {
        // The file is always readable; each change is an edge, which is all that the runtime looks at.
        self.mounts.readable().await?.clear_ready();
        Ok(())
    }
}
