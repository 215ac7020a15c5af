//! Processes, as /proc shows them.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use super::engine::{PATIENCE, wait_for};

pub fn signal(pid: i64, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("it runs");
}

/// One that only waits to be reaped, by whoever adopted it, is dead.
pub fn lives(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|text| text.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

pub fn parent_of(pid: i64) -> i64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    fields.split(' ').nth(1).expect("a parent").parse().expect("a number")
}

/// Pids and command lines of those whose command line names `word`.
pub fn processes(word: &str) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("proc is mounted").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(word) {
            found.push((pid, line));
        }
    }
    found
}

/// Asks a child to end, and makes it.
pub fn end(child: &mut Child) {
    let _gone = kill_process(Pid::from_child(child), Signal::TERM);
    if wait_for(PATIENCE, || child.try_wait().ok().flatten()).is_none() {
        drop(child.kill());
        drop(child.wait());
    }
}
