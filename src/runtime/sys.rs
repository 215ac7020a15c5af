//! Every unsafe call of the runtime driver, each behind a safe function.

use std::ffi::{CStr, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The kernel's `struct clone_args`, clone(2), as far as version 2 (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Of linux/sched.h; it fits no `c_int`, so libc has none for clone3.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// The kernel's `struct mount_attr`, mount_setattr(2).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MountAttributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns_fd: u64,
}

/// Which side of [`clone3`] this is.
#[derive(Debug)]
pub(crate) enum Side {
    Parent { pid: i32, pidfd: OwnedFd },
    Child,
}

/// Forks with new namespaces, into a cgroup of version 2 if one is given: a move there later would wait for an RCU grace
/// period, 5 to 25 ms. The caller is single-threaded, so the child may run any code.
pub(crate) fn clone3(namespaces: c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Side> {
    let mut pidfd: c_int = -1;
    let mut args = CloneArgs {
        flags: u64::from((namespaces | libc::CLONE_PIDFD).cast_unsigned()),
        pidfd: (&raw mut pidfd).expose_provenance() as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: `args` is a clone_args of the given size and outlives the call; without CLONE_VM the child
    // gets its own copy of memory, so a stack of zero is right.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match i32::try_from(pid).expect("a pid fits 32 bits") {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => {
            // SAFETY: CLONE_PIDFD stored a new descriptor there that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Parent { pid, pidfd })
        }
    }
}

/// Overwrites the strings that execve(2) left on the stack: arguments or environment of this process, by their
/// address. Only for a process that reads neither any more.
pub(crate) fn overwrite(address: usize, bytes: &[u8]) {
    let strings = std::ptr::with_exposed_provenance_mut::<u8>(address);
    // SAFETY: the kernel maps these strings writable as long as the process lives, and says where; the caller reads
    // them no more, and no other thread exists.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), strings, bytes.len()) }
}

/// Ends a cloned child without running the parent's exit handlers.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Changes attributes of the mount at `fd` itself.
pub(crate) fn mount_setattr(
    fd: BorrowedFd<'_>,
    recursive: bool,
    attributes: &MountAttributes,
) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: path and attributes outlive the call, and the size is theirs.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttributes>(),
        )
    };
    check(result)
}

/// Marks every descriptor from 3 on close-on-exec, close_range(2).
pub(crate) fn close_on_exec_from_3() -> io::Result<()> {
    // SAFETY: only flags of descriptors change.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 4_u32) })
}

/// Closes every descriptor. Only for a process that ends by [`exit_now`] and opens nothing more.
pub(crate) fn close_all() {
    // SAFETY: owners of the descriptors are never dropped, since the process never unwinds.
    let _ = check(unsafe { libc::syscall(libc::SYS_close_range, 0_u32, u32::MAX, 0_u32) });
}

/// Sends a signal by pidfd; unlike rustix's it takes real-time signals too.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed by pidfd_send_signal(2).
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0_u32)
    })
}

/// Gives every signal its default action and unblocks all, as a new program expects.
pub(crate) fn reset_signals() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            continue;
        }
        // SAFETY: the default action runs none of our code.
        unsafe { sigaction(signal, &default) }?;
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Sets groups and user of the only thread.
pub(crate) fn set_credentials(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the slice is valid for its length.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    // SAFETY: setresgid(2) takes plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: setresuid(2) takes plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// Mounts by mount(2) with a data string, for kernels without `lowerdir+`.
pub(crate) fn mount_overlay(target: &CStr, data: &CStr) -> io::Result<()> {
    let kind = c"overlay".as_ptr();
    // SAFETY: all pointers are C strings that outlive the call.
    check(c_long::from(unsafe {
        libc::mount(kind, target.as_ptr(), kind, 0, data.as_ptr().cast())
    }))
}

/// Returns the number of a descriptor, for messages and links in `/proc/self/fd`.
pub(crate) fn number(fd: &impl AsRawFd) -> RawFd {
    fd.as_raw_fd()
}

fn check(result: c_long) -> io::Result<()> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
