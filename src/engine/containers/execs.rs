//! Further processes in a running container.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attach::{Attached, Streams};
use super::exec_process;
use super::shim::{Shim, ShimError};
use crate::engine::containers::Handle;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::{Container, Phase};
use crate::runtime::shim::protocol::{Reply, Request};

/// Ended execs that can still be asked about, and those that were never started.
const KEPT: usize = 1024;

/// What to execute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: Option<String>,
    pub user: Option<String>,
    pub tty: bool,
    pub privileged: bool,
    pub streams: Streams,
    pub detach_keys: Option<String>,
}

/// What is known of an exec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecView {
    pub id: String,
    pub container: String,
    pub spec: ExecSpec,
    pub running: bool,
    pub pid: i32,
    pub exit_code: Option<i32>,
}

/// All execs of the engine, by id. A clone is the same list.
#[derive(Debug, Clone, Default)]
pub struct Execs {
    list: Arc<Mutex<List>>,
}

#[derive(Debug, Default)]
struct List {
    all: BTreeMap<String, ExecView>,
    /// Those that don't run, oldest first.
    idle: VecDeque<String>,
}

impl Execs {
    fn list(&self) -> MutexGuard<'_, List> {
        // Each change is whole in itself.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &str) -> Option<ExecView> {
        self.list().all.get(id).cloned()
    }

    fn add(&self, exec: ExecView) {
        let mut list = self.list();
        list.idle.push_back(exec.id.clone());
        list.all.insert(exec.id.clone(), exec);
        list.forget_oldest();
    }

    /// Marks the exec as running, once; `false` when it ran before.
    fn begin(&self, id: &str) -> bool {
        let mut list = self.list();
        list.idle.retain(|idle| idle != id);
        match list.all.get_mut(id).filter(|exec| !exec.running && exec.exit_code.is_none()) {
            Some(exec) => {
                exec.running = true;
                true
            }
            None => false,
        }
    }

    fn note_pid(&self, id: &str, pid: i32) {
        if let Some(exec) = self.list().all.get_mut(id) {
            exec.pid = pid;
        }
    }

    /// Notes the end of an exec.
    pub(super) fn ended(&self, id: &str, code: i32) {
        let mut list = self.list();
        let Some(exec) = list.all.get_mut(id) else { return };
        (exec.running, exec.exit_code) = (false, Some(code));
        list.idle.push_back(id.to_owned());
        list.forget_oldest();
    }

    /// Ends all that run in a container whose shim died, and returns their ids.
    pub(super) fn abandon(&self, container: &str, code: i32) -> Vec<String> {
        let running: Vec<String> = self.running_in(container);
        running.iter().for_each(|id| self.ended(id, code));
        running
    }

    /// Returns the ids of what runs in a container, for `inspect`.
    pub(crate) fn running_in(&self, container: &str) -> Vec<String> {
        let list = self.list();
        let running = list.all.values().filter(|exec| exec.running && exec.container == container);
        running.map(|exec| exec.id.clone()).collect()
    }
}

impl List {
    fn forget_oldest(&mut self) {
        while self.idle.len() > KEPT {
            if let Some(id) = self.idle.pop_front() {
                self.all.remove(&id);
            }
        }
    }
}

impl Engine {
    /// Registers an exec in a running container and returns its id.
    pub async fn create_exec(
        self: &Arc<Self>,
        container: &str,
        spec: ExecSpec,
    ) -> Result<String, EngineError> {
        let handle = self.container(container)?;
        self.executing_shim(&handle)?;
        if spec.command.is_empty() {
            return Err(EngineError::Invalid { message: "No exec command specified".to_owned() });
        }
        let id = random_id()?;
        let exec = ExecView {
            id: id.clone(),
            container: handle.id().to_owned(),
            spec,
            ..ExecView::default()
        };
        self.announce_exec(&handle.row(), "exec_create", &exec);
        self.execs.add(exec);
        Ok(id)
    }

    /// Tells whether an exec can be started: it did not run yet, and its container runs.
    pub fn check_exec(&self, id: &str) -> Result<(), EngineError> {
        let exec = self.known_exec(id)?;
        let handle = self.container(&exec.container)?;
        self.executing_shim(&handle)?;
        if exec.running || exec.exit_code.is_some() {
            return Err(ran(id));
        }
        Ok(())
    }

    /// Starts an exec; `None` when it was asked to run detached.
    pub async fn start_exec(
        self: &Arc<Self>,
        id: &str,
        detach: bool,
        size: Option<(u16, u16)>,
    ) -> Result<Option<Attached>, EngineError> {
        let exec = self.known_exec(id)?;
        let handle = self.container(&exec.container)?;
        let shim = self.executing_shim(&handle)?;
        if !self.execs.begin(id) {
            return Err(ran(id));
        }
        let started = self.begin_exec(&handle, &shim, &exec, detach).await;
        let attached = started.inspect_err(|error| {
            // Docker knows two: the program is not there, and everything else.
            let missing = matches!(error, EngineError::Start { code: 127, .. });
            self.execs.ended(id, if missing { 127 } else { 126 });
        })?;
        if let Some((rows, columns)) = size.filter(|_| exec.spec.tty) {
            // A program that ended already has no size.
            let _ = shim.order(Request::Resize { exec: Some(id.to_owned()), rows, columns }).await;
        }
        Ok(attached)
    }

    async fn begin_exec(
        &self,
        handle: &Handle,
        shim: &Shim,
        exec: &ExecView,
        detach: bool,
    ) -> Result<Option<Attached>, EngineError> {
        let process = exec_process::process(self, &handle.row(), &exec.spec)?;
        let stream = match detach {
            true => None,
            false => Some(
                shim.attach(Some(exec.id.clone()), exec.spec.streams)
                    .await
                    .map_err(|error| handle.of_shim(error))?,
            ),
        };
        let request = Request::Exec {
            id: exec.id.clone(),
            process,
            tty: exec.spec.tty,
            open_stdin: exec.spec.streams.stdin && !detach,
        };
        self.announce_exec(&handle.row(), "exec_start", exec);
        match shim.ask(request).await {
            Ok(Reply::ExecStarted { pid }) => {
                self.execs.note_pid(&exec.id, pid);
                Ok(stream.map(|stream| Attached { stream, tty: exec.spec.tty }))
            }
            Ok(other) => Err(handle.of_shim(ShimError::Unexpected(format!("{other:?}")))),
            Err(ShimError::Refused { message, code }) => Err(EngineError::Start {
                message: format!("OCI runtime exec failed: {message}"),
                code,
            }),
            Err(error) => Err(handle.of_shim(error)),
        }
    }

    pub async fn resize_exec(&self, id: &str, rows: u16, columns: u16) -> Result<(), EngineError> {
        let exec = self.known_exec(id)?;
        let handle = self.container(&exec.container)?;
        let shim = self.running_shim(&handle)?;
        self.obey(&handle, &shim, Request::Resize { exec: Some(exec.id), rows, columns }).await
    }

    /// Returns what is known of an exec. One whose stream has ended is known to have ended.
    pub async fn exec(&self, id: &str) -> Result<ExecView, EngineError> {
        let exec = self.known_exec(id)?;
        if exec.running
            && let Ok(handle) = self.container(&exec.container)
            && let Some(shim) = handle.shim()
        {
            // The shim tells the end before it closes the stream, and it answers in order: once this answer is
            // here, so is the end. A shim that is gone has ended it.
            let _ = shim.ask(Request::Status).await;
        }
        self.known_exec(id)
    }

    fn known_exec(&self, id: &str) -> Result<ExecView, EngineError> {
        self.execs.get(id).ok_or_else(|| EngineError::NoExec { id: id.to_owned() })
    }

    fn executing_shim(&self, handle: &Handle) -> Result<Arc<Shim>, EngineError> {
        if handle.row().phase == Phase::Paused {
            let message = format!(
                "Container {} is paused, unpause the container before exec",
                handle.row().name
            );
            return Err(EngineError::Conflict { message });
        }
        self.running_shim(handle)
    }

    /// Docker puts the command into the action: the program, a space, and its arguments.
    fn announce_exec(&self, row: &Container, action: &str, exec: &ExecView) {
        let Some((program, arguments)) = exec.spec.command.split_first() else { return };
        let action = format!("{action}: {program} {}", arguments.join(" "));
        self.announce(row, &action, &[("execID", exec.id.clone())]);
    }

    pub(super) fn announce_exec_end(&self, row: &Container, id: &str) {
        let Some(code) = self.execs.get(id).and_then(|exec| exec.exit_code) else { return };
        self.announce(
            row,
            "exec_die",
            &[("execID", id.to_owned()), ("exitCode", code.to_string())],
        );
    }
}

fn ran(id: &str) -> EngineError {
    EngineError::Conflict { message: format!("exec command {id} has already run") }
}

/// Returns 64 random hex digits.
fn random_id() -> Result<String, EngineError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| EngineError::io("draw a random number")(std::io::Error::other(error)))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
