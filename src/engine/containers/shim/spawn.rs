//! A new shim process: its own session, no streams, its listening socket as stdin, and its own cgroup where the engine
//! was given one.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rustix::pipe::{PipeFlags, pipe_with};

use super::{Place, open_folder, socket_in};
use crate::engine::sys::{self, Child};
use crate::runtime::cgroup::{Birth, Doors};

/// Starts the shim and returns its pid. It is our child until its pidfd was waited for.
pub(super) fn spawn(place: &Place<'_>) -> io::Result<i32> {
    let Place { program, bundle, run, cgroup } = *place;
    let folder = open_folder(run).map_err(io::Error::other)?;
    for name in ["shim.sock", "shim.error"] {
        match fs::remove_file(run.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let socket = socket_in(&folder);
    let listener = UnixListener::bind(&socket)?;
    fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
    let words = ["__shim".as_ref(), "--bundle".as_ref(), bundle, "--run".as_ref(), run];
    match cgroup {
        None => beside_us(program, words, listener.into()),
        Some(cgroup) => {
            inside(program, words, &listener.into(), &cgroup.doors().map_err(io::Error::other)?)
        }
    }
}

fn beside_us(program: &Path, words: [&Path; 5], stdin: OwnedFd) -> io::Result<i32> {
    let child = Command::new(program)
        .args(words)
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .env_clear()
        .spawn()?;
    i32::try_from(child.id()).map_err(io::Error::other)
}

/// The standard library can't clone into a cgroup, and moving there afterwards waits for an RCU grace period.
fn inside(program: &Path, words: [&Path; 5], stdin: &OwnedFd, doors: &Doors) -> io::Result<i32> {
    let words: Vec<CString> = [program]
        .into_iter()
        .chain(words)
        .map(|word| CString::new(word.as_os_str().as_bytes()))
        .collect::<Result<_, _>>()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for birth in [Birth::Inside, Birth::Outside] {
        let (ours, report) = pipe_with(PipeFlags::CLOEXEC)?;
        let child = Child { words: &words, stdin, output: &null, doors, birth, report: &report };
        let pid = sys::start(&child)?;
        drop(report);
        if let Some(executed) = outcome(File::from(ours))? {
            return executed.map(|()| pid).inspect_err(|_| reap(pid));
        }
        // See `Birth::Outside`.
        reap(pid);
    }
    Err(io::Error::other("it was killed before it could do anything"))
}

/// Reads what the child told: that it lives, then why it could not be executed. Nothing: it was killed at its birth.
fn outcome(mut report: File) -> io::Result<Option<io::Result<()>>> {
    let mut told = Vec::new();
    report.read_to_end(&mut told)?;
    Ok(match told.as_slice() {
        [] => None,
        [_] => Some(Ok(())),
        [_, errno @ ..] => {
            let errno = errno.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
            Some(Err(io::Error::from_raw_os_error(errno)))
        }
    })
}

fn reap(pid: i32) {
    // It has ended, so this neither waits nor fails.
    let _ = waitpid(Pid::from_raw(pid), None);
}

/// Ends a shim that can't be spoken with. Its number is its own, as nobody has waited for it.
pub(super) fn discard(pid: i32) {
    let pid = Pid::from_raw(pid);
    // Both fail only when it is gone already.
    let _ = kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
}
