//! Who the program runs as, and the program itself: limits, user, capabilities, seccomp, `execve`.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access, execve};
use oci_spec::runtime::{LinuxSeccomp, Process};
use rustix::fs::Mode;
use rustix::thread::{CapabilitiesSecureBits, set_capabilities_secure_bits};

use super::{During, InitError, handshake};
use crate::runtime::{capabilities, rlimits, seccomp, sys};

/// The last steps, the same for init and for an exec. The order is capabilities(7)'s: the bounding set
/// needs CAP_SETPCAP, a filter needs no_new_privs or CAP_SYS_ADMIN.
pub(crate) fn become_user_and_execute(
    process: &Process,
    filter: Option<&LinuxSeccomp>,
    parent: BorrowedFd<'_>,
) -> Result<Infallible, InitError> {
    // Before the filter, which may forbid it.
    handshake::announce_ready(parent);
    let refused = |error: &dyn std::fmt::Display| InitError::Restrict(error.to_string());
    sys::close_on_exec_from_3().during(|| "mark descriptors".into())?;
    if let Some(limits) = process.rlimits() {
        rlimits::apply(limits).map_err(|error| refused(&error))?;
    }
    let program = filter.map(seccomp::compile).transpose().map_err(|error| refused(&error))?;
    let flags = filter.and_then(|filter| filter.flags().clone()).unwrap_or_default();
    let filter = program;
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    if let Some(filter) = filter.as_deref().filter(|_| !no_new_privileges) {
        // Without no_new_privs only now: the right to install a filter goes with the capabilities.
        seccomp::install(filter, &flags).map_err(|error| refused(&error))?;
    }
    set_user(process)?;
    if let Some(capabilities) = process.capabilities() {
        capabilities::apply(capabilities).map_err(|error| refused(&error))?;
    }
    // After the last change of credentials, each of which clears it, prctl(2).
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .during(|| "ask to die with the shim".into())?;
    let cwd = process.cwd();
    rustix::process::chdir(cwd).during(|| format!("enter the folder {}", cwd.display()))?;
    if no_new_privileges {
        rustix::thread::set_no_new_privs(true).during(|| "set no_new_privs".into())?;
    }
    let program = find_program(process)?;
    if let Some(filter) = filter.as_deref().filter(|_| no_new_privileges) {
        seccomp::install(filter, &flags).map_err(|error| refused(&error))?;
    }
    execute(process, &program)
}

fn set_user(process: &Process) -> Result<(), InitError> {
    let user = process.user();
    rustix::process::umask(Mode::from_raw_mode(user.umask().unwrap_or(0o022)));
    let groups = user.additional_gids().clone().unwrap_or_default();
    // Leaving user 0 would take the effective set, which the next step needs, capabilities(7).
    let keep = CapabilitiesSecureBits::NO_SETUID_FIXUP;
    set_capabilities_secure_bits(keep).during(|| "keep capabilities".into())?;
    sys::set_credentials(user.uid(), user.gid(), &groups)
        .during(|| format!("become user {}:{}", user.uid(), user.gid()))?;
    let none = CapabilitiesSecureBits::empty();
    set_capabilities_secure_bits(none).during(|| "reset the secure bits".into())
}

/// Looks the program up as a shell does, in the container's own `PATH`.
fn find_program(process: &Process) -> Result<PathBuf, InitError> {
    let program = process.args().iter().flatten().next().cloned().unwrap_or_default();
    if program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    let path = process.env().iter().flatten().rev().find_map(|entry| entry.strip_prefix("PATH="));
    let mut forbidden = None;
    for folder in path.unwrap_or_default().split(':').filter(|_| !program.is_empty()) {
        let candidate = Path::new(if folder.is_empty() { "." } else { folder }).join(&program);
        match access(&candidate, AccessFlags::X_OK) {
            Ok(()) if !candidate.is_dir() => return Ok(candidate),
            Err(Errno::EACCES) => forbidden = Some(Errno::EACCES),
            _ => {}
        }
    }
    match forbidden {
        Some(errno) => Err(InitError::Execute { program, source: errno.into() }),
        None => Err(InitError::NotFound { program }),
    }
}

fn execute(process: &Process, program: &Path) -> Result<Infallible, InitError> {
    let run = || -> io::Result<Infallible> {
        let c_strings = |texts: &Option<Vec<String>>| -> io::Result<Vec<CString>> {
            texts.iter().flatten().map(|text| Ok(CString::new(text.as_str())?)).collect()
        };
        let path = CString::new(program.as_os_str().as_bytes())?;
        let (arguments, environment) = (c_strings(process.args())?, c_strings(process.env())?);
        Ok(execve(&path, &arguments, &environment)?)
    };
    run().map_err(|source| InitError::Execute { program: program.display().to_string(), source })
}
