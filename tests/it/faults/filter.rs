//! The seccomp filter that a process under test starts with: system calls that change something outside the process
//! wait for our word, seccomp_unotify(2). It is inherited, so that shims, inits and netd are under it too.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Calls that wait. `openat` does only when it may write or create.
pub const WATCHED: &[(i64, &str)] = &[
    (libc::SYS_openat, "openat"),
    (libc::SYS_write, "write"),
    (libc::SYS_pwrite64, "pwrite"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_syncfs, "syncfs"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_rmdir, "rmdir"),
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_rename, "rename"),
    (libc::SYS_renameat, "renameat"),
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_symlink, "symlink"),
    (libc::SYS_symlinkat, "symlinkat"),
    (libc::SYS_link, "link"),
    (libc::SYS_linkat, "linkat"),
    (libc::SYS_mknodat, "mknodat"),
    (libc::SYS_chmod, "chmod"),
    (libc::SYS_fchmod, "fchmod"),
    (libc::SYS_fchmodat, "fchmodat"),
    (libc::SYS_chown, "chown"),
    (libc::SYS_fchown, "fchown"),
    (libc::SYS_fchownat, "fchownat"),
    (libc::SYS_fsetxattr, "fsetxattr"),
    (libc::SYS_setxattr, "setxattr"),
    (libc::SYS_mount, "mount"),
    (libc::SYS_umount2, "umount"),
    (libc::SYS_fsopen, "fsopen"),
    (libc::SYS_fsconfig, "fsconfig"),
    (libc::SYS_fsmount, "fsmount"),
    (libc::SYS_move_mount, "move_mount"),
    (libc::SYS_open_tree, "open_tree"),
    (libc::SYS_mount_setattr, "mount_setattr"),
    (libc::SYS_pivot_root, "pivot_root"),
    (libc::SYS_setns, "setns"),
    (libc::SYS_unshare, "unshare"),
    (libc::SYS_clone3, "clone3"),
    (libc::SYS_fork, "fork"),
    (libc::SYS_vfork, "vfork"),
    (libc::SYS_execve, "execve"),
    (libc::SYS_execveat, "execveat"),
    (libc::SYS_socket, "socket"),
    (libc::SYS_bind, "bind"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_pidfd_open, "pidfd_open"),
    (libc::SYS_inotify_add_watch, "inotify_add_watch"),
    (libc::SYS_sethostname, "sethostname"),
    (libc::SYS_setresuid, "setresuid"),
];

/// Of linux/bpf_common.h and linux/seccomp.h.
const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const NOTIFY: u32 = 0x7fc0_0000;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const THIRD_ARGUMENT: u32 = 16 + 2 * 8;
const X86_64: u32 = 0xc000_003e;

fn program() -> Vec<libc::sock_filter> {
    let op = |code: u16, jt: u8, jf: u8, k: u32| libc::sock_filter { code, jt, jf, k };
    let mut program = vec![
        op(LOAD, 0, 0, ARCHITECTURE),
        op(EQUAL, 1, 0, X86_64),
        op(RETURN, 0, 0, ALLOW),
        op(LOAD, 0, 0, NUMBER),
        // openat: only what may write or create.
        op(EQUAL, 0, 4, u32::try_from(libc::SYS_openat).expect("a small number")),
        op(LOAD, 0, 0, THIRD_ARGUMENT),
        op(ANY_BIT, 0, 1, (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT).cast_unsigned()),
        op(RETURN, 0, 0, NOTIFY),
        op(RETURN, 0, 0, ALLOW),
    ];
    for (number, _) in WATCHED.iter().skip(1) {
        program.push(op(EQUAL, 0, 1, u32::try_from(*number).expect("a small number")));
        program.push(op(RETURN, 0, 0, NOTIFY));
    }
    program.push(op(RETURN, 0, 0, ALLOW));
    program
}

/// Puts the calling thread, and all that it will ever start, under the filter; returns where calls are decided.
///
/// A call that waits is not cut short by signals, except by one that kills
/// (`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`).
pub fn install() -> io::Result<OwnedFd> {
    const SET_MODE_FILTER: libc::c_ulong = 1;
    const NEW_LISTENER: libc::c_ulong = 1 << 3;
    const WAIT_KILLABLE: libc::c_ulong = 1 << 5;
    let mut program = program();
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).expect("a short program"),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program lives until the call returns, and the kernel copies it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            NEW_LISTENER | WAIT_KILLABLE,
            &raw const filter,
        )
    };
    let fd = i32::try_from(fd).expect("a descriptor");
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel gave a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A call that waits: `struct seccomp_notif`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Call {
    pub id: u64,
    /// The thread.
    pub pid: u32,
    flags: u32,
    pub number: i32,
    architecture: u32,
    instruction: u64,
    pub arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `SECCOMP_IOCTL_NOTIF_RECV` and `SECCOMP_IOCTL_NOTIF_SEND`.
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
const CONTINUE: u32 = 1;

/// Takes the next call; `None` when it went away meanwhile.
pub fn receive(listener: BorrowedFd<'_>) -> Option<Call> {
    let mut call = Call::default();
    // SAFETY: `call` has the size that the request's number tells, and is zeroed as the kernel asks.
    let taken = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut call) };
    (taken == 0).then_some(call)
}

/// Lets a call happen, or fail with `errno` without happening.
pub fn answer(listener: BorrowedFd<'_>, call: &Call, errno: Option<i32>) {
    let flags = if errno.is_none() { CONTINUE } else { 0 };
    let response = Response { id: call.id, value: 0, error: -errno.unwrap_or(0), flags };
    // SAFETY: `response` has the size that the request's number tells.
    // A caller that was killed meanwhile needs no answer.
    let _ = unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw const response) };
}
