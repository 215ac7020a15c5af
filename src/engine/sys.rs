//! Every unsafe call of the engine, each behind a safe function.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::runtime::cgroup::{Birth, Doors};

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

/// A process to start in a cgroup, with an empty environment and in the root folder.
#[derive(Debug)]
pub(crate) struct Child<'a> {
    /// Program and arguments.
    pub(crate) words: &'a [CString],
    pub(crate) stdin: &'a OwnedFd,
    /// Standard output and error.
    pub(crate) output: &'a File,
    pub(crate) doors: &'a Doors,
    pub(crate) birth: Birth,
    /// A close-on-exec pipe. The child writes a byte first, and the error's number when it can't execute its program.
    pub(crate) report: &'a OwnedFd,
}

/// Clones the child and returns its pid.
pub(crate) fn start(child: &Child<'_>) -> io::Result<i32> {
    // All that the child needs is made before the clone: a lock that another thread holds now is held for ever there.
    let words: Vec<_> = child.words.iter().map(|word| word.as_ptr()).collect();
    let words = [words, vec![std::ptr::null()]].concat();
    let no_environment = [std::ptr::null()];
    let root = c"/";
    let cgroup = child.doors.dir.as_ref().filter(|_| child.birth == Birth::Inside);
    // A handler of ours must not run in the child.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let pid = clone_into(cgroup);
    if !matches!(pid, Ok(0)) {
        mask.thread_set_mask()?;
        return pid;
    }
    let report = child.report.as_raw_fd();
    // SAFETY: write(2) of a static byte; nothing here and below but system calls, as signal-safety(7) wants it.
    unsafe { libc::write(report, c"+".as_ptr().cast(), 1) };
    let told = enter(child).and_then(|()| {
        // SAFETY: the default action runs none of our code.
        unsafe { signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl) }?;
        SigSet::empty().thread_set_mask()?;
        // SAFETY: the path is a string that lives.
        check(unsafe { libc::chdir(root.as_ptr()) })?;
        // SAFETY: both lists end with a null pointer and hold strings that live.
        check(unsafe { libc::execve(words[0], words.as_ptr(), no_environment.as_ptr()) })
    });
    let errno = told.err().and_then(|error| error.raw_os_error()).unwrap_or_default();
    let bytes = errno.to_ne_bytes();
    // SAFETY: write(2) of an array that lives.
    unsafe { libc::write(report, bytes.as_ptr().cast(), bytes.len()) };
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(127) }
}

/// Joins the cgroup wherever the child is not in it, and connects the streams.
fn enter(child: &Child<'_>) -> io::Result<()> {
    let late = child.doors.procs.as_ref().filter(|_| child.birth == Birth::Outside);
    for door in child.doors.tasks.iter().chain(late) {
        write_zero(door)?;
    }
    let (stdin, output) = (child.stdin.as_raw_fd(), child.output.as_raw_fd());
    for (from, to) in [(stdin, 0), (output, 1), (output, 2)] {
        // SAFETY: dup2(2) takes plain numbers; the copies lack close-on-exec.
        check(unsafe { libc::dup2(from, to) })?;
    }
    Ok(())
}

fn write_zero(door: &File) -> io::Result<()> {
    // SAFETY: write(2) of a static byte.
    let written = unsafe { libc::write(door.as_raw_fd(), c"0".as_ptr().cast(), 1) };
    if written == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn check(result: i32) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Forks, into a cgroup of version 2 if one is given; 0 in the child.
fn clone_into(cgroup: Option<&File>) -> io::Result<i32> {
    // SAFETY: clone_args is plain numbers, and zero is right for all that is left out: clone(2).
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some(cgroup) = cgroup {
        arguments.flags = CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    let size = size_of::<libc::clone_args>();
    // SAFETY: the arguments outlive the call; without CLONE_VM the child has its own copy of memory and stack.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size) };
    match i32::try_from(pid) {
        Ok(pid) if pid >= 0 => Ok(pid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Of linux/sched.h; it fits no `c_int`.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Has the command enter a cgroup before it executes its program; slower than being born there.
pub(crate) fn enter_before_exec(command: &mut tokio::process::Command, doors: Doors) {
    let enter = move || doors.tasks.iter().chain(doors.procs.as_ref()).try_for_each(write_zero);
    // SAFETY: the closure makes system calls only, as signal-safety(7) wants it.
    unsafe { command.pre_exec(enter) };
}
