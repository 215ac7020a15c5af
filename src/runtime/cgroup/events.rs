//! Killing, freezing and removing: the operations that wait for the kernel.
//!
//! Waiting is `poll(2)`: a version 2 `cgroup.events` signals `POLLPRI` when `populated` or `frozen` changes;
//! a version 1 hierarchy tells nothing, so there a pidfd of each remaining process is polled.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::v1::tree;
use super::{Cgroup, CgroupError, files};

/// How long `remove` and `freeze` wait for the kernel.
const PATIENCE: Duration = Duration::from_secs(5);
/// A process leaves its cgroup a moment before or after its pidfd signals, so a wait is bounded and re-checked.
const RECHECK_MS: u16 = 20;

/// The state that `set_frozen` shall reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freezer {
    Frozen,
    Thawed,
}

/// Freezes or thaws in the version 2 tree wherever there is one: a task frozen by version 1 survives
/// `cgroup.kill`. Nothing is frozen in a cgroup that lacks the hierarchy, as a crash half-way leaves it.
pub(super) fn set_frozen(cgroup: &Cgroup, wanted: Freezer) -> Result<(), CgroupError> {
    let is_there = |dir: &Path| wanted == Freezer::Frozen || dir.exists();
    if let Some(dir) = cgroup.v2_dir() {
        if !is_there(dir) {
            return Ok(());
        }
        let digit = if wanted == Freezer::Frozen { "1" } else { "0" };
        files::write(&dir.join("cgroup.freeze"), digit)?;
        let line = if wanted == Freezer::Frozen { "frozen 1" } else { "frozen 0" };
        return wait_for_event(dir, line);
    }
    let Some(dir) = cgroup.v1_dir("freezer") else {
        return Err(CgroupError::NoFreezer { path: cgroup.path.clone() });
    };
    if !is_there(&dir) {
        return Ok(());
    }
    let state = if wanted == Freezer::Frozen { "FROZEN" } else { "THAWED" };
    let file = dir.join("freezer.state");
    let deadline = Instant::now() + PATIENCE;
    loop {
        // `FREEZING` needs another write: a fork may have slipped in (cgroup-v1/freezer-subsystem.rst).
        files::write(&file, state)?;
        if files::read(&file)?.trim() == state {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(CgroupError::StateNotReached { dir, wanted: state });
        }
        pause();
    }
}

/// Kills everything below the cgroup.
pub(super) fn kill(cgroup: &Cgroup) -> Result<(), CgroupError> {
    if let Some(dir) = cgroup.v2_dir()
        && dir.join("cgroup.kill").exists()
    {
        return files::write(&dir.join("cgroup.kill"), "1");
    }
    // Without `cgroup.kill`, freeze first, so that nothing forks between listing and killing.
    let frozen = set_frozen(cgroup, Freezer::Frozen).is_ok();
    let killed = kill_listed(cgroup);
    if frozen {
        set_frozen(cgroup, Freezer::Thawed)?;
    }
    killed
}

/// Lists the processes in any hierarchy, each once.
pub(super) fn processes(cgroup: &Cgroup) -> Result<Vec<i32>, CgroupError> {
    let mut pids = Vec::new();
    for dir in cgroup.dirs() {
        for level in levels(&dir)? {
            let text = files::read_optional(&level.join("cgroup.procs"))?.unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// Waits until the cgroup is empty, then removes every level in every hierarchy.
pub(super) fn remove(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let deadline = Instant::now() + PATIENCE;
    let mut first_error = None;
    for dir in cgroup.dirs() {
        // Do all that can be done; one stuck hierarchy must not keep the others.
        if let Err(error) = remove_tree(cgroup, &dir, deadline) {
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

fn remove_tree(cgroup: &Cgroup, dir: &Path, deadline: Instant) -> Result<(), CgroupError> {
    loop {
        let Err((level, source)) = try_remove(dir) else { return Ok(()) };
        if source.raw_os_error() != Some(libc::EBUSY) || Instant::now() >= deadline {
            return Err(CgroupError::Remove { dir: level, source });
        }
        wait_for_exit(cgroup)?;
    }
}

fn try_remove(dir: &Path) -> Result<(), (PathBuf, io::Error)> {
    for level in tree(dir).map_err(|error| (dir.to_owned(), error))? {
        match fs::remove_dir(&level) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err((level, error)),
        }
    }
    Ok(())
}

/// Returns when `cgroup.events` changes, a process goes, or a short while has passed.
fn wait_for_exit(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let mut fds: Vec<OwnedFd> = processes(cgroup)?
        .into_iter()
        .filter_map(Pid::from_raw)
        // A process that is gone already needs no waiting.
        .filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .collect();
    let mut events: Option<OwnedFd> = None;
    if let Some(dir) = cgroup.v2_dir()
        && let Ok(mut file) = File::open(dir.join("cgroup.events"))
    {
        // Only a change after a read signals (cgroup-v2.rst, `cgroup.events`).
        let mut text = String::new();
        if file.read_to_string(&mut text).is_ok() && text.contains("populated 1") {
            events = Some(file.into());
        }
    }
    if fds.is_empty() && events.is_none() {
        pause();
        return Ok(());
    }
    // One process is enough to wait for: a big cgroup must not cost thousands of fds for long.
    fds.truncate(64);
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    if let Some(events) = &events {
        polled.push(PollFd::new(events.as_fd(), PollFlags::POLLPRI));
    }
    poll_once(&mut polled);
    Ok(())
}

/// Waits until `cgroup.events` of `dir` has `line`.
fn wait_for_event(dir: &Path, line: &'static str) -> Result<(), CgroupError> {
    let file = dir.join("cgroup.events");
    let error = |source| CgroupError::Watch { file: file.clone(), source };
    let mut events = File::open(&file).map_err(error)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut text = String::new();
        events.rewind().map_err(error)?;
        events.read_to_string(&mut text).map_err(error)?;
        if text.lines().any(|found| found == line) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(CgroupError::StateNotReached { dir: dir.to_owned(), wanted: line });
        }
        let fd: BorrowedFd<'_> = events.as_fd();
        poll_once(&mut [PollFd::new(fd, PollFlags::POLLPRI)]);
    }
}

fn kill_listed(cgroup: &Cgroup) -> Result<(), CgroupError> {
    for pid in processes(cgroup)? {
        let Some(target) = Pid::from_raw(pid) else { continue };
        // A pidfd names the process that was listed even if its number is taken again.
        let Ok(pidfd) = pidfd_open(target, PidfdFlags::empty()) else { continue };
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => {
                let dir = cgroup.dirs().pop().unwrap_or_default();
                return Err(CgroupError::Kill { pid, dir, source: errno.into() });
            }
        }
    }
    Ok(())
}

fn levels(dir: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    tree(dir).map_err(|source| CgroupError::Read { file: dir.to_owned(), source })
}

fn pause() {
    poll_once(&mut []);
}

/// Polls once; an interrupted or failed poll just means that the caller checks again.
fn poll_once(fds: &mut [PollFd<'_>]) {
    let _ = poll(fds, PollTimeout::from(RECHECK_MS));
}
