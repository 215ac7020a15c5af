//! `init: true`: the child stays as PID 1, forwards signals, reaps orphans and ends with the program.
//!
//! It is never dumpable, so the container cannot open its executable, and it holds no descriptor.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{During, InitError};
use crate::runtime::sys;

/// Returns in a child of PID 1, which is to execute the program; PID 1 itself never returns.
pub(crate) fn split(stdin: BorrowedFd<'_>) -> Result<(), InitError> {
    // Blocked before the clone: no signal may get lost between both.
    SigSet::all().thread_set_mask().during(|| "block signals".into())?;
    match sys::clone3(0, None).during(|| "clone the program's process".into())? {
        sys::Side::Child => {
            let own = Pid::from_raw(0);
            nix::unistd::setpgid(own, own).during(|| "start a process group".into())?;
            if rustix::termios::isatty(stdin) {
                // SIGTTOU is still blocked, so a group in the background may do it, tcsetpgrp(3).
                rustix::termios::tcsetpgrp(stdin, rustix::process::getpgrp())
                    .during(|| "take the terminal's foreground".into())?;
            }
            sys::reset_signals().during(|| "reset signals".into())
        }
        sys::Side::Parent { pid, .. } => serve(Pid::from_raw(pid)),
    }
}

fn serve(program: Pid) -> ! {
    // Neither may fail the container: both only matter when something else fails.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    // The shim waits for the end of the handshake, and clients for that of the streams.
    sys::close_all();
    loop {
        match SigSet::all().wait() {
            Ok(Signal::SIGCHLD) => reap(program),
            Ok(signal) => {
                // ESRCH: it ended meanwhile, as SIGCHLD will tell.
                let _ = kill(program, signal);
            }
            // A real-time signal has no name here.
            Err(_) => {}
        }
    }
}

fn reap(program: Pid) {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => sys::exit_now(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                sys::exit_now(128 + signal as i32)
            }
            Ok(WaitStatus::StillAlive) => return,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
