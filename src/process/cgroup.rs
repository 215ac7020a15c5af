//! Where a process of ours stands in systemd's cgroups: a keeper leaves the login session that it was started from, and
//! the parked process holds the unit that the containers live in.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{ProcessError, sd_notify};
use crate::engine::machine::CGROUP_MOUNT;
use crate::runtime::cgroup::{Birth, Cgroup, Roots};

/// The slice of units that belong to nobody's session: systemd.special(7).
const SLICE: &str = "/system.slice";
/// How long PID 1 may take to move us, or to forget a scope that ended. A machine at work takes seconds for it.
const PATIENCE: Duration = Duration::from_secs(15);

/// Moves this process, which has one thread, out of the session's cgroup into a scope of its own, and returns the
/// scope's cgroup. `None` where systemd is not in charge, sd_booted(3).
///
/// The scope is delegated to us: in a cgroup of its own making systemd takes no controller away. One that containers of
/// an earlier engine of this root still live in is entered again.
pub(super) fn leave_session(root_id: &str) -> io::Result<Option<String>> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(None);
    }
    let roots = Roots::detect(Path::new(CGROUP_MOUNT)).map_err(io::Error::other)?;
    let unit = format!("bargee-{root_id}.scope");
    let scope = format!("{SLICE}/{unit}");
    let deadline = Instant::now() + PATIENCE;
    while !is_populated(&roots, &scope) {
        match ask_for_scope(&unit) {
            Ok(()) => {
                wait_until_in(&scope, deadline)?;
                break;
            }
            // The last engine's scope is about to go.
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(error),
        }
    }
    enter(&roots, &format!("{scope}/engine"))?;
    Ok(Some(scope))
}

fn is_populated(roots: &Roots, path: &str) -> bool {
    Cgroup::open(roots, path)
        .and_then(|cgroup| cgroup.processes())
        .is_ok_and(|processes| !processes.is_empty())
}

/// Asks PID 1 for a scope with this process in it: org.freedesktop.systemd1(5). `busctl` is a part of systemd.
fn ask_for_scope(unit: &str) -> io::Result<()> {
    let own = std::process::id().to_string();
    let manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1"];
    let said = Command::new("busctl")
        .args(["--system", "--quiet", "call"])
        .args(manager)
        .args(["org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))"])
        .args([unit, "fail", "5"])
        .args(["Description", "s", "Bargee container engine, started by a command"])
        .args(["Slice", "s", SLICE.trim_start_matches('/')])
        .args(["Delegate", "b", "true"])
        .args(["CollectMode", "s", "inactive-or-failed"])
        .args(["PIDs", "au", "1", &own, "0"])
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot run busctl: {error}")))?;
    if said.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&said.stderr);
    Err(io::Error::other(format!("systemd makes no scope {unit}: {}", words.trim())))
}

fn wait_until_in(scope: &str, deadline: Instant) -> io::Result<()> {
    while !own_cgroup()?.starts_with(scope) {
        if Instant::now() >= deadline {
            return Err(io::Error::other(format!("systemd did not move us into {scope}")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// A group with processes of its own gives no controller to those below it, so we stand beside the containers.
fn enter(roots: &Roots, path: &str) -> io::Result<()> {
    Cgroup::ensure(roots, path)
        .and_then(|cgroup| cgroup.join(Birth::Outside))
        .map_err(io::Error::other)
}

/// Returns this process's cgroup in the hierarchy that systemd works with: cgroups(7).
fn own_cgroup() -> io::Result<String> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    cgroup_of_systemd(&text)
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("/proc/self/cgroup names no hierarchy of systemd's"))
}

fn cgroup_of_systemd(text: &str) -> Option<&str> {
    let of = |controllers: &str| {
        text.lines().find_map(|line| {
            let (found, path) = line.split_once(':')?.1.split_once(':')?;
            (found == controllers).then_some(path)
        })
    };
    of("name=systemd").or_else(|| of(""))
}

/// Holds a delegated unit, whose containers live as long as it: moves below it, says `READY=1` and waits to be ended.
pub(super) fn park() -> Result<(), ProcessError> {
    let failed = |error: io::Error| ProcessError::io("make room for containers")(error);
    let mut signals =
        Signals::new([SIGTERM, SIGINT]).map_err(ProcessError::io("listen to signals"))?;
    let roots =
        Roots::detect(Path::new(CGROUP_MOUNT)).map_err(|error| failed(io::Error::other(error)))?;
    let own = own_cgroup().map_err(failed)?;
    if own.trim_matches('/').is_empty() {
        return Err(failed(io::Error::other("this process is in no unit of a service manager's")));
    }
    enter(&roots, &format!("{}/parked", own.trim_end_matches('/'))).map_err(failed)?;
    sd_notify::tell("READY=1");
    signals.forever().next();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_cgroup_is_found_in_every_kind_of_hierarchy() {
        let unified = "0::/user.slice/session-1.scope\n";
        assert_eq!(cgroup_of_systemd(unified), Some("/user.slice/session-1.scope"));
        let hybrid = "12:pids:/x\n1:name=systemd:/system.slice/a.service\n0::/y\n";
        assert_eq!(cgroup_of_systemd(hybrid), Some("/system.slice/a.service"));
        assert_eq!(cgroup_of_systemd("4:memory:/\n"), None);
    }
}
