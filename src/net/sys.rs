//! The unsafe calls of the network driver.

use std::io;
use std::os::fd::OwnedFd;

use rtnetlink::sys::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Tells the runtime of a netlink socket. Needs a tokio runtime.
pub(super) fn readable(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns its descriptor and never replaces it, and the `AsyncFd` owns the `Socket`.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(io::Error::from)
}

/// Tells the runtime of a descriptor. Needs a tokio runtime.
pub(super) fn readable_file(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays the same descriptor as long as it lives, and the `AsyncFd` owns it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}
