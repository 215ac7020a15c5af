//! Every unsafe call of the engine, each behind a safe function.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lets tasks wait until the descriptor is readable. Needs a tokio runtime.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays the same descriptor as long as it lives, and the `AsyncFd` owns it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

/// Gives memory that was freed back to the kernel: after the work on a large stack most of the heap is free, and
/// an idle engine should not keep it. See malloc_trim(3).
pub(crate) fn give_back_memory() {
    // SAFETY: malloc_trim has no preconditions and is safe to call from any thread (MT-Safe).
    unsafe { libc::malloc_trim(0) };
}
