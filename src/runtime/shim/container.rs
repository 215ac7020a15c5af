//! The processes of one container as the shim holds them: starting init and execs, and their ends.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxResources, Process, Spec};

use super::log::JsonLog;
use super::protocol::ShimPaths;
use super::stdio::{self, Channel, Stream};
use crate::runtime::bundle::{LogConfig, ShimConfig};
use crate::runtime::cgroup::{Birth, Cgroup, Roots};
use crate::runtime::init::handshake::{self, Outcome};
use crate::runtime::init::pid1::CommandLine;
use crate::runtime::init::{self, During, InitError, Namespaces};
use crate::runtime::{exec, sys};

/// Why a process was not started, with docker's exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct StartError {
    pub(crate) message: String,
    pub(crate) code: i32,
}

impl From<InitError> for StartError {
    fn from(error: InitError) -> Self {
        Self { message: error.to_string(), code: error.code() }
    }
}

/// A fault before anything ran: docker's 125.
fn before(error: impl std::fmt::Display) -> StartError {
    StartError { message: error.to_string(), code: 125 }
}

/// A process with its streams.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) channel: Channel,
}

impl Running {
    /// Ends a process that cannot be kept.
    fn discard(&self) {
        // Both fail only when it is gone already.
        let _ = sys::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = waitpid(Pid::from_raw(self.pid), None);
    }
}

/// A started container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) init: Running,
    pub(crate) start_time: u64,
    pub(crate) incarnation: u64,
    pub(crate) paused: bool,
    pub(crate) stdin_once: bool,
    /// Set when a pid namespace ends with init; else the cgroup has to be killed after it.
    pub(crate) own_pids: bool,
    pub(crate) log: Option<JsonLog>,
    pub(crate) cgroup: Cgroup,
    /// Kills for memory that were told already.
    pub(crate) ooms: u64,
    ooms_at_start: u64,
    spec: Spec,
}

/// Says that `shim.files` were written; beside the config, since it must live as long as the upper layer.
const POPULATED: &str = "populated";

impl Container {
    /// Reads the bundle, makes the cgroup, clones init and waits until it executed its program.
    pub(crate) fn start(paths: &ShimPaths, incarnation: u64) -> Result<Self, StartError> {
        let spec: Spec = read(&paths.bundle.join("config.json"))?;
        let shim: ShimConfig = read(&paths.bundle.join("shim.json"))?;
        // "Where allowed": lowering needs CAP_SYS_RESOURCE, proc(5). Init sets its own.
        let _ = fs::write("/proc/self/oom_score_adj", shim.shim_oom_score_adj.to_string());
        let process =
            spec.process().as_ref().ok_or_else(|| before("config.json has no process"))?;
        let log = match &shim.log {
            LogConfig::JsonFile { path, max_size, max_files } => {
                let open = JsonLog::open(path, *max_size, *max_files);
                Some(open.during(|| format!("open the log {}", path.display()))?)
            }
            LogConfig::None => None,
        };
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let roots = Roots::detect(Path::new("/sys/fs/cgroup")).map_err(before)?;
        let cgroup = Cgroup::create(&roots, &shim.cgroup, resources).map_err(before)?;
        let ooms = cgroup.oom_count().unwrap_or(0);
        let populated = paths.bundle.join(POPULATED);
        let stays = shim.init.then(CommandLine::find).transpose();
        let stays = stays.during(|| "find the command line in memory".into())?;
        let plan = init::Plan {
            spec: &spec,
            process,
            shim: &shim,
            bundle: paths.bundle.clone(),
            cgroup: &cgroup,
            first_start: !populated.exists(),
            stays,
            namespaces: Namespaces::open(&spec)?,
        };
        let pid_namespace = plan.namespaces.pid.as_ref().map(AsFd::as_fd);
        let cloned = plan.namespaces.cloned;
        let init = spawn(
            |birth| init::clone_into(pid_namespace, cloned, &cgroup, birth),
            || stdio::open(process.terminal().unwrap_or(false), shim.open_stdin),
            shim.open_stdin,
            |birth, streams, parent| init::run(&plan, birth, streams, parent),
        )?;
        let noted = fs::write(&populated, b"")
            .during(|| format!("write {}", populated.display()))
            .and_then(|()| start_time(init.pid).during(|| "read init's start time".into()));
        let start_time = noted.inspect_err(|_| init.discard())?;
        let own_pids = cloned & libc::CLONE_NEWPID != 0;
        let stdin_once = shim.stdin_once;
        Ok(Self {
            init,
            start_time,
            incarnation,
            paused: false,
            stdin_once,
            own_pids,
            log,
            ooms,
            ooms_at_start: ooms,
            cgroup,
            spec,
        })
    }

    /// Executes another process inside.
    pub(crate) fn exec(
        &self,
        process: &Process,
        terminal: bool,
        open_stdin: bool,
    ) -> Result<Running, StartError> {
        let pid_namespace = exec::pid_namespace(self.init.pid)?;
        let plan = exec::Plan {
            process,
            seccomp: self.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()),
            cgroup: &self.cgroup,
            init: self.init.pidfd.as_fd(),
        };
        spawn(
            |birth| init::clone_into(Some(pid_namespace.as_fd()), 0, &self.cgroup, birth),
            || stdio::open(terminal, open_stdin),
            open_stdin,
            |birth, streams, parent| exec::run(&plan, birth, streams, parent),
        )
    }

    /// Moves what init wrote to the log and to `sink`: a piece of each stream, or all that is there.
    pub(crate) fn drain(&mut self, all: bool, mut sink: impl FnMut(Stream, &[u8])) {
        let mut buffer = [0; 32 * 1024];
        for stream in [Stream::Stdout, Stream::Stderr] {
            while let Some(bytes) = self.init.channel.read(stream, &mut buffer) {
                if let Some(log) = &mut self.log {
                    // A full disk must not stop the container; docker drops the line too.
                    let _ = log.write(stream, bytes, Timestamp::now());
                }
                sink(stream, bytes);
                if !all {
                    break;
                }
            }
        }
    }

    pub(crate) fn signal(&self, signal: i32, all: bool) -> io::Result<()> {
        if !all {
            return sys::send_signal(self.init.pidfd.as_fd(), signal);
        }
        if signal == libc::SIGKILL {
            return self.cgroup.kill().map_err(io::Error::other);
        }
        let signal = nix::sys::signal::Signal::try_from(signal)?;
        for pid in self.cgroup.processes().map_err(io::Error::other)? {
            // One that is gone by now needs no signal.
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
        }
        Ok(())
    }

    pub(crate) fn pause(&mut self, pause: bool) -> io::Result<()> {
        let result = if pause { self.cgroup.freeze() } else { self.cgroup.thaw() };
        result.map_err(io::Error::other)?;
        self.paused = pause;
        Ok(())
    }

    pub(crate) fn update(&self, resources: serde_json::Value) -> io::Result<()> {
        let resources: LinuxResources = serde_json::from_value(resources)?;
        self.cgroup.update(&resources).map(drop).map_err(io::Error::other)
    }

    /// Whether memory ran out since the start.
    pub(crate) fn was_oom(&self) -> bool {
        self.cgroup.oom_count().unwrap_or(0) > self.ooms_at_start
    }
}

/// Clones a child that runs `child`, and waits until it executed its program or failed.
fn spawn(
    clone: impl Fn(Birth) -> io::Result<sys::Side>,
    open: impl Fn() -> io::Result<(handshake::Streams, Channel)>,
    open_stdin: bool,
    child: impl Fn(
        Birth,
        handshake::Streams,
        std::os::fd::BorrowedFd<'_>,
    ) -> Result<std::convert::Infallible, InitError>,
) -> Result<Running, StartError> {
    for birth in [Birth::Inside, Birth::Outside] {
        let (theirs, mut channel) = open().during(|| "open the streams".into())?;
        let (ours, parent) = handshake::pair().during(|| "open a socket pair".into())?;
        let (pid, pidfd) = match clone(birth).during(|| "clone a process".into())? {
            sys::Side::Child => {
                handshake::announce(parent.as_fd());
                let Err(error) = child(birth, theirs, parent.as_fd());
                handshake::report(parent.as_fd(), &error);
                sys::exit_now(128)
            }
            sys::Side::Parent { pid, pidfd } => (pid, pidfd),
        };
        drop((theirs, parent));
        match handshake::wait(ours).during(|| "hear from the child".into())? {
            Outcome::Executed { terminal } => {
                let taken = terminal.map(|master| channel.take_terminal(master, open_stdin));
                let running = Running { pid, pidfd, channel };
                let taken = taken.transpose().during(|| "take the terminal".into());
                taken.inspect_err(|_| running.discard())?;
                return Ok(running);
            }
            Outcome::Failed { message, code } => {
                end(pid, &pidfd);
                return Err(StartError { message, code });
            }
            Outcome::Stillborn => end(pid, &pidfd),
        }
    }
    Err(before("it was killed before it could do anything"))
}

/// Waits for a child that has failed, so that it isn't taken for a container's exit. One that lives on all the same
/// would be waited for for ever.
fn end(pid: i32, pidfd: &OwnedFd) {
    // It is gone, as a rule.
    let _ = sys::send_signal(pidfd.as_fd(), libc::SIGKILL);
    let _ = waitpid(Pid::from_raw(pid), None);
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, StartError> {
    let explain =
        |error: &dyn std::fmt::Display| before(format!("cannot read {}: {error}", path.display()));
    let bytes = fs::read(path).map_err(|error| explain(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| explain(&error))
}

/// Field 22 of `/proc/PID/stat`; the name in field 2 may hold spaces and parentheses, proc(5).
fn start_time(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = after_name.split_whitespace().nth(19).and_then(|field| field.parse().ok());
    field.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The exit code that a shell would show, of an ended process.
pub(crate) fn exit_of(status: WaitStatus) -> Option<(i32, i32)> {
    match status {
        WaitStatus::Exited(pid, code) => Some((pid.as_raw(), code)),
        WaitStatus::Signaled(pid, signal, _) => Some((pid.as_raw(), 128 + signal as i32)),
        _ => None,
    }
}
