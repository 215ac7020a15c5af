//! System calls of a process's start.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// First descriptor that a service manager passes: sd_listen_fds(3).
const FIRST_PASSED: i32 = 3;

/// Which of the two processes this is after a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fork {
    Parent,
    Child,
}

/// Splits the process in two: fork(2).
pub(super) fn fork() -> io::Result<Fork> {
    // SAFETY: the caller is single-threaded, so the child may go on as it is.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { .. } => Ok(Fork::Parent),
        nix::unistd::ForkResult::Child => Ok(Fork::Child),
    }
}

/// Lets tasks wait until the descriptor is readable. Needs a tokio runtime.
pub(super) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays the same descriptor as long as it lives, and the `AsyncFd` owns it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

/// Takes the `count` descriptors that a service manager passed.
pub(super) fn take_passed(count: i32) -> Vec<OwnedFd> {
    (FIRST_PASSED..FIRST_PASSED.saturating_add(count))
        // SAFETY: sd_listen_fds(3): they are open and meant for this process, and nothing else took them before.
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
        .collect()
}

/// Closes what was inherited besides the three standard streams. Call it before anything of ours is open.
pub(super) fn close_inherited() -> io::Result<()> {
    close_range(0)
}

/// Has descriptors that were passed to us closed at exec.
pub(super) fn close_at_exec() -> io::Result<()> {
    close_range(libc::CLOSE_RANGE_CLOEXEC.cast_signed())
}

/// close_range(2) from the first descriptor behind the standard streams on.
fn close_range(flags: i32) -> io::Result<()> {
    // SAFETY: no memory is passed, and no owner of such a descriptor exists or loses it but at exec.
    let result = unsafe { libc::close_range(FIRST_PASSED.cast_unsigned(), u32::MAX, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps glibc from making an arena per thread, each of which holds memory for good: mallopt(3).
pub(super) fn use_few_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: called before any thread exists.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
