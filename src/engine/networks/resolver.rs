//! The engine's side of netd: it writes the state, asks for obedience, and starts netd when none answers.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

use crate::engine::error::EngineError;
use crate::engine::{awake, sys};
use crate::net::netd::{self, AskError, NetdState, Report, Request};
use crate::runtime::cgroup::Cgroup;

/// How long a new netd may take until it listens and has obeyed.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Where netd's files lie, and what it was told last.
#[derive(Debug)]
pub(super) struct Netd {
    folder: PathBuf,
    state_file: PathBuf,
    /// The one whose end is waited for.
    watched: Mutex<Option<u32>>,
}

impl Netd {
    pub(super) fn new(folder: &Path) -> Self {
        let state_file = folder.join("state.json");
        Self { folder: folder.to_owned(), state_file, watched: Mutex::default() }
    }

    /// Has netd obey `state`. One that doesn't answer is replaced by a new one, made of `program`.
    pub(super) async fn obey(
        &self,
        program: &Path,
        cgroup: Option<&Cgroup>,
        state: &NetdState,
    ) -> Result<Report, EngineError> {
        fs::create_dir_all(&self.folder)
            .map_err(EngineError::io(format!("create the folder {}", self.folder.display())))?;
        netd::write_state(&self.state_file, state).map_err(|error| {
            EngineError::io("hand the names over to netd")(std::io::Error::other(error))
        })?;
        match self.ask_it(Request::Obey).await {
            Ok(report) if report.generation == state.generation => return Ok(report),
            Ok(_) | Err(AskError::Silent { .. } | AskError::Unreadable { .. }) => self.kill(),
            Err(AskError::Absent { .. }) => {}
        }
        self.start(program, cgroup, state.generation).await
    }

    /// Asks netd something; `None` when it is not there or doesn't know the answer.
    pub(super) async fn ask(&self, request: Request) -> Option<Report> {
        self.ask_it(request).await.ok()
    }

    /// One that somebody stopped is woken, as it holds every start up.
    async fn ask_it(&self, request: Request) -> Result<Report, AskError> {
        let mut asked = pin!(netd::ask(&self.state_file, request));
        match tokio::time::timeout(awake::SILENCE, &mut asked).await {
            Ok(answer) => answer,
            Err(_) => {
                if let Some((pid, started)) = self.recorded() {
                    awake::wake(pid.cast_signed(), started);
                }
                asked.await
            }
        }
    }

    /// Ends netd, if there is one.
    pub(super) async fn end(&self) {
        // One that is gone or hangs holds no container up; the next start replaces it.
        drop(self.ask_it(Request::End).await);
    }

    async fn start(
        &self,
        program: &Path,
        cgroup: Option<&Cgroup>,
        generation: u64,
    ) -> Result<Report, EngineError> {
        // It holds sockets in the sandboxes, so an old one that hangs would keep names from the new one.
        self.kill();
        let log = self.folder.join("netd.log");
        let log =
            fs::File::create(&log).map_err(EngineError::io(format!("create {}", log.display())))?;
        let mut command = tokio::process::Command::new(program);
        if let Some(cgroup) = cgroup {
            let doors = cgroup.doors().map_err(|error| {
                EngineError::io("open the cgroup of netd")(std::io::Error::other(error))
            })?;
            sys::enter_before_exec(&mut command, doors);
        }
        let mut child = command
            .arg("__netd")
            .arg(&self.state_file)
            .current_dir("/")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(EngineError::io(format!("start {} __netd", program.display())))?;
        if let Some(pid) = child.id() {
            let record = format!("{pid} {}\n", start_time(pid).unwrap_or_default());
            let file = self.pid_file();
            fs::write(&file, record)
                .map_err(EngineError::io(format!("write {}", file.display())))?;
        }
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            match netd::ask(&self.state_file, Request::Obey).await {
                Ok(report) if report.generation == generation => {
                    // Waits for its end, so that it is no zombie of ours.
                    tokio::spawn(async move { drop(child.wait().await) });
                    return Ok(report);
                }
                outcome => {
                    let ended = child.try_wait().ok().flatten();
                    if ended.is_some() || Instant::now() >= deadline {
                        let text = fs::read_to_string(self.folder.join("netd.log"));
                        let text = text.unwrap_or_default();
                        let message = format!(
                            "netd, which answers names and holds ports, did not start: {ended:?} {outcome:?} {}",
                            text.trim()
                        );
                        return Err(EngineError::Start { message, code: 125 });
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Returns the pid of the recorded netd while it lives: a pid alone may be somebody else's by now.
    pub(super) fn pid(&self) -> Option<u32> {
        let (pid, started) = self.recorded()?;
        (start_time(pid) == Some(started)).then_some(pid)
    }

    /// The pid and the start time of the netd that was started last.
    fn recorded(&self) -> Option<(u32, u64)> {
        let record = fs::read_to_string(self.pid_file()).ok()?;
        let (pid, started) = record.trim().split_once(' ')?;
        Some((pid.parse().ok()?, started.parse().ok()?))
    }

    /// Returns a descriptor that is readable once the present netd ends; `None` when there is none, or somebody has
    /// asked already.
    pub(super) fn to_watch(&self) -> Option<AsyncFd<OwnedFd>> {
        let pid = self.pid()?;
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if *watched == Some(pid) {
            return None;
        }
        let number = rustix::process::Pid::from_raw(pid.cast_signed())?;
        // It fails when it ended just now, which whoever asks it next finds out.
        let pidfd =
            rustix::process::pidfd_open(number, rustix::process::PidfdFlags::NONBLOCK).ok()?;
        let pidfd = sys::readable(pidfd).ok()?;
        *watched = Some(pid);
        Some(pidfd)
    }

    fn kill(&self) {
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended by itself meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("netd.pid")
    }
}

/// Returns when a process started, in clock ticks since boot: field 22 of proc_pid_stat(5). The program's name
/// before it may hold spaces and parentheses.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(") ")?.1;
    // One that ended and is not reaped yet serves nobody.
    if fields.starts_with('Z') {
        return None;
    }
    fields.split(' ').nth(19)?.parse().ok()
}
