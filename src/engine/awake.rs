//! A shim or netd that somebody stopped by a signal (SIGSTOP, signal(7)) goes on: containers and verbs would wait for
//! it, and nobody else knows that they do.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long one may be silent before it is looked at whether it is stopped.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);

/// Wakes the process if it is stopped. `started` is its start time: a number alone may be another process's by now.
pub(crate) fn wake(pid: i32, started: u64) {
    let Some(number) = Pid::from_raw(pid) else { return };
    // It fails when it has ended.
    let Ok(pidfd) = pidfd_open(number, PidfdFlags::empty()) else { return };
    if !is_stopped(&Path::new("/proc").join(pid.to_string()), started) {
        return;
    }
    match pidfd_send_signal(&pidfd, Signal::CONT) {
        Ok(()) => tracing::warn!(pid, "somebody stopped this helper; it goes on"),
        Err(error) => tracing::debug!(pid, %error, "it has ended"),
    }
}

/// Reads fields 3 and 22 of proc_pid_stat(5). One that a debugger holds (`t`) is not ours to wake.
fn is_stopped(process: &Path, started: u64) -> bool {
    let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
    // The name in field 2 may hold spaces and parentheses.
    let Some((_, fields)) = stat.rsplit_once(") ") else { return false };
    let mut fields = fields.split(' ');
    fields.next() == Some("T")
        && fields.nth(18).and_then(|field| field.parse().ok()) == Some(started)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;
    use crate::engine::containers::start_time;

    #[test]
    fn a_stopped_process_goes_on_unless_it_is_another_one() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let started = start_time(pid).unwrap();
        let process = Path::new("/proc").join(pid.to_string());
        rustix::process::kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
        let until = |stopped| {
            let start = Instant::now();
            while is_stopped(&process, started) != stopped {
                assert!(start.elapsed() < Duration::from_secs(5), "{stopped}");
                std::thread::yield_now();
            }
        };
        until(true);
        wake(pid, started + 1);
        assert!(is_stopped(&process, started));
        wake(pid, started);
        until(false);
        child.kill().unwrap();
        child.wait().unwrap();
        wake(pid, started);
    }
}
