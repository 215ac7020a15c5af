//! A new shim process: its own session, no streams, its listening socket as stdin.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::{open_folder, socket_in};

/// Starts the shim and returns its pid. It is our child until its pidfd was waited for.
pub(super) fn spawn(program: &Path, bundle: &Path, run: &Path) -> io::Result<i32> {
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
    let child = Command::new(program)
        .args(["__shim", "--bundle"])
        .arg(bundle)
        .arg("--run")
        .arg(run)
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .env_clear()
        .spawn()?;
    i32::try_from(child.id()).map_err(io::Error::other)
}

/// Ends a shim that can't be spoken with. Its number is its own, as nobody has waited for it.
pub(super) fn discard(pid: i32) {
    let pid = Pid::from_raw(pid);
    // Both fail only when it is gone already.
    let _ = kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
}
