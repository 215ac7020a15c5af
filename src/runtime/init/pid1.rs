//! `init: true`: the child stays as PID 1, forwards signals, reaps orphans and ends with the program.
//!
//! It is never dumpable, so the container cannot open its executable, it holds no descriptor, may do no more than
//! signal, and its command line tells nothing of the host.

use std::io;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use oci_spec::runtime::Process;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{During, InitError};
use crate::runtime::sys;

/// Returns in a child of PID 1, which is to execute the program; PID 1 itself never returns.
pub(crate) fn split(
    stdin: BorrowedFd<'_>,
    command_line: &CommandLine,
    process: &Process,
) -> Result<(), InitError> {
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
        sys::Side::Parent { pid, .. } => {
            command_line.replace(&title(process.args().as_deref().unwrap_or_default()));
            rustix::thread::set_name(c"bargee-init").during(|| "take a name".into())?;
            // The programs inside may have other users.
            let only = CapabilitySet::KILL;
            let sets = CapabilitySets {
                effective: only,
                permitted: only,
                inheritable: CapabilitySet::empty(),
            };
            rustix::thread::set_capabilities(None, sets)
                .during(|| "drop the capabilities of PID 1".into())?;
            serve(Pid::from_raw(pid))
        }
    }
}

/// What docker-init's command line looks like, as one string.
fn title(program: &[String]) -> Vec<u8> {
    format!("bargee-init -- {}", program.join(" ")).into_bytes()
}

/// The memory that the kernel shows as a process's command line and environment.
#[derive(Debug)]
pub(crate) struct CommandLine {
    start: usize,
    /// Where the arguments end, and where the environment behind them does.
    arguments_end: usize,
    end: usize,
}

impl CommandLine {
    /// Finds the calling process's own. `/proc` must still be the host's: what a container mounted there must not
    /// decide where we write.
    pub(crate) fn find() -> io::Result<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        // Fields 48 to 51; the name in field 2 may hold spaces and parentheses, proc(5).
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields = after_name.split_whitespace().skip(45).take(4).map(str::parse);
        let fields: Vec<usize> = fields.collect::<Result<_, _>>().map_err(io::Error::other)?;
        match *fields.as_slice() {
            [start, arguments_end, environment, end]
                if start < arguments_end && arguments_end <= environment && environment <= end =>
            {
                Ok(Self { start, arguments_end, end })
            }
            _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }

    /// Writes as much of `title` as there is room for and wipes the rest.
    fn replace(&self, title: &[u8]) {
        let room = self.arguments_end - self.start;
        let mut memory = vec![0; self.end - self.start];
        let length = title.len().min(room.saturating_sub(2));
        memory[..length].copy_from_slice(&title[..length]);
        // Unless the arguments end with a NUL the kernel shows one string up to its own end (setproctitle(3), as
        // get_mm_cmdline in fs/proc/base.c takes it), else all that there is.
        memory[room - 1] = b' ';
        sys::overwrite(self.start, &memory);
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
