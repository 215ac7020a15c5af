//! Every `unsafe` of this driver.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime that runs us.
pub(crate) fn watch_descriptor(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `AsyncFd` owns the `OwnedFd`, whose number stays the same and open until it is dropped.
    let registered = unsafe { AsyncFd::register(descriptor) };
    Ok(registered?)
}
