//! Starting a container, and undoing a start that failed.

use std::sync::Arc;
use std::time::SystemTime;

use super::By;
use crate::engine::containers::Handle;
use crate::engine::containers::shim::{Shim, ShimError};
use crate::engine::core::{Engine, now};
use crate::engine::error::EngineError;
use crate::engine::health::{Check, Monitor};
use crate::engine::state::containers::{Container, Phase, Runtime};
use crate::engine::state::{Durability, restarts};
use crate::runtime::shim::protocol::{Exit, Reply, Request};

/// What docker exits with when something other than the program failed.
const UNKNOWN: i32 = 128;

impl Engine {
    /// Starts a container; one that runs is `NotModified`.
    pub async fn start_container(self: &Arc<Self>, word: &str, by: By) -> Result<(), EngineError> {
        let handle = self.container(word)?;
        let _verb = handle.verb.lock().await;
        self.start_asked(&handle, by).await
    }

    /// A start that somebody asked for forgets the stop before it, and a user's the failures too. The caller holds
    /// the lock.
    pub(super) async fn start_asked(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
        by: By,
    ) -> Result<(), EngineError> {
        check_startable(&handle.row())?;
        if by == By::User {
            self.write(Durability::Process, |tx| restarts::reset(tx, handle.id()))?;
        }
        self.change(handle, Durability::Process, |row| {
            row.stopped_by_user = false;
            row.restart_count = 0;
        })?;
        let started = self.start_locked(handle).await;
        if started.is_err() && handle.row().spec.auto_remove {
            self.remove_exited(handle).await;
        }
        started
    }

    /// The start itself. The caller holds the lock.
    pub(super) async fn start_locked(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
    ) -> Result<(), EngineError> {
        let before = handle.row();
        check_startable(&before)?;
        let row = self.change(handle, Durability::Process, |row| {
            row.phase = Phase::Starting;
            row.error = None;
        })?;
        let incarnation = row.runtime.as_ref().map_or(1, |runtime| runtime.incarnation + 1);
        let started = self.try_start(handle, incarnation).await;
        if let Err(error) = &started {
            self.undo_start(handle, incarnation, error).await;
        }
        started
    }

    async fn try_start(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
        incarnation: u64,
    ) -> Result<(), EngineError> {
        self.prepare_start(handle).await?;
        self.write_bundle(handle)?;
        self.note_cgroup(&handle.row())?;
        let shim = self.ensure_shim(handle).await?;
        self.open_resolver(handle).await?;
        // An exit that follows at once is told after the start.
        let _turn = handle.turn.lock().await;
        let (pid, start_time) = match shim.ask(Request::Start { incarnation }).await {
            Ok(Reply::Started { pid, start_time }) => (pid, start_time),
            Ok(other) => return Err(handle.of_shim(ShimError::Unexpected(format!("{other:?}")))),
            Err(ShimError::Refused { message, code }) => {
                return Err(EngineError::Start { message, code });
            }
            Err(error) => return Err(handle.of_shim(error)),
        };
        self.note_start(handle, &shim, Running { incarnation, pid, start_time, at: now() })?;
        if let Err(error) = self.publish_container(handle).await {
            self.change(handle, Durability::Process, |row| row.phase = Phase::Starting)?;
            self.shut_shim(handle).await?;
            return Err(error);
        }
        self.announce(&handle.row(), "start", &[]);
        self.watch_health(handle);
        self.watch_mounts(handle);
        Ok(())
    }

    /// Writes down that init runs.
    pub(in crate::engine::containers) fn note_start(
        &self,
        handle: &Handle,
        shim: &Shim,
        running: Running,
    ) -> Result<Arc<Container>, EngineError> {
        let Running { incarnation, pid, start_time, at } = running;
        let runtime = Runtime {
            boot_id: self.machine.boot_id.clone(),
            incarnation,
            shim_pid: shim.pid(),
            shim_start_time: shim.start_time(),
            pid,
            start_time,
            started_at: at,
        };
        let row = handle.row();
        let check =
            Check::new(row.spec.healthcheck.as_ref(), self.image_facts(&row).healthcheck.as_ref());
        Ok(self.change(handle, Durability::Power, |row| {
            row.phase = Phase::Running;
            row.runtime = Some(runtime);
            row.health = check.map(|_| Monitor::new(SystemTime::now()));
        })?)
    }

    /// Puts back what a failed start made, and writes down why it failed.
    async fn undo_start(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
        incarnation: u64,
        error: &EngineError,
    ) {
        let code = match error {
            EngineError::Start { code, .. } => *code,
            _ => UNKNOWN,
        };
        let undone = [self.unpublish_container(handle).await, self.shut_shim(handle).await];
        for error in undone.into_iter().filter_map(Result::err) {
            tracing::warn!(
                container = handle.id(),
                error = error.full(),
                "a failed start is not undone whole"
            );
            self.leaks.collect_soon();
        }
        let message = error.full();
        self.note(handle, |row| {
            // As docker has it: a container that never ran is still `created`, with a code.
            let ran = row.runtime.is_some();
            row.phase = if ran { Phase::Exited } else { Phase::Created };
            row.error = Some(message.clone());
            let at = if ran { now() } else { 0 };
            row.exit = Some(Exit { incarnation, code, oom: false, at });
        });
    }
}

/// A process as it was started.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine::containers) struct Running {
    pub(in crate::engine::containers) incarnation: u64,
    pub(in crate::engine::containers) pid: i32,
    pub(in crate::engine::containers) start_time: u64,
    /// Unix time in nanoseconds.
    pub(in crate::engine::containers) at: i64,
}

fn check_startable(row: &Container) -> Result<(), EngineError> {
    match row.phase {
        Phase::Created | Phase::Exited | Phase::Restarting => Ok(()),
        Phase::Paused => Err(EngineError::Conflict {
            message: "cannot start a paused container, try unpause instead".to_owned(),
        }),
        Phase::Removing => Err(EngineError::Conflict {
            message: "container is marked for removal and cannot be started".to_owned(),
        }),
        Phase::Creating => Err(EngineError::Conflict {
            message: format!("container {} is not created yet", row.id),
        }),
        Phase::Running | Phase::Starting | Phase::Stopping => {
            Err(EngineError::NotModified { id: row.id.clone(), state: "running" })
        }
    }
}
