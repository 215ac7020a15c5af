//! After a start of the engine: what the database says, made true again.
//!
//! A shim that answers is adopted; without one nothing of the container may live. Exits that nobody heard are
//! read from the shim's record. Half-done verbs are finished or undone.

use std::sync::Arc;

use futures_util::StreamExt;

use super::Handle;
use super::lifecycle::{By, Running, StopOptions, is_up};
use super::remove::RemoveOptions;
use super::shim::{Shim, kill_shim};
use crate::engine::awake;
use crate::engine::core::{Engine, now};
use crate::engine::error::EngineError;
use crate::engine::state::Durability;
use crate::engine::state::containers::{self, Container, Phase};
use crate::runtime::shim::protocol::{Exit, Reply, Request, ShimState, Status};
use crate::spec::container::RestartPolicy;

/// Containers that are looked at at once.
const AT_ONCE: usize = 32;
/// Docker's code of a container that a reboot ended.
const LOST: i32 = 255;

impl Engine {
    /// Makes a handle of every row. Everything else that starts looks at them.
    pub(crate) fn load_containers(&self) -> Result<(), EngineError> {
        for row in self.read(containers::list)? {
            self.insert_handle(row);
        }
        Ok(())
    }

    /// Adopts running shims, reads exits that were missed, resumes or undoes half-done verbs, restarts by policy.
    ///
    /// One container that can't be recovered keeps no other from it.
    pub(crate) async fn recover_containers(self: &Arc<Self>) -> Result<(), EngineError> {
        let all = futures_util::stream::iter(self.handles());
        all.for_each_concurrent(AT_ONCE, |handle| async move {
            if let Err(error) = self.recover(&handle).await {
                tracing::error!(container = handle.id(), error = error.full(), "not recovered");
            }
        })
        .await;
        Ok(())
    }

    async fn recover(self: &Arc<Self>, handle: &Arc<Handle>) -> Result<(), EngineError> {
        let row = handle.row();
        if row.is_from_another_boot(&self.machine.boot_id) {
            return self.recover_from_boot(handle, &row).await;
        }
        let adopted = self.adopt(handle).await;
        if adopted.is_none() {
            // Whatever it was, nobody looks after it any more.
            self.kill_orphans(handle).await;
        }
        match row.phase {
            Phase::Creating | Phase::Removing => {
                let options = RemoveOptions { force: true, volumes: row.spec.auto_remove };
                self.remove_container(handle.id(), options).await
            }
            Phase::Running | Phase::Paused | Phase::Starting | Phase::Stopping => {
                self.settle(handle, &row, adopted.as_ref()).await
            }
            Phase::Restarting => {
                self.restart_later(handle, self.wait_of(handle.id()));
                Ok(())
            }
            Phase::Exited if row.spec.auto_remove => {
                let options = RemoveOptions { force: false, volumes: true };
                self.remove_container(handle.id(), options).await
            }
            Phase::Created => self.shut_shim(handle).await,
            Phase::Exited => {
                self.shut_shim(handle).await?;
                if must_run(&row) {
                    self.start_later(handle);
                }
                Ok(())
            }
        }
    }

    /// Connects to the container's shim if one answers.
    async fn adopt(self: &Arc<Self>, handle: &Arc<Handle>) -> Option<Status> {
        let run = self.paths.container_run(handle.id());
        if !run.join("shim.sock").exists() {
            return None;
        }
        if let Some(runtime) = &handle.row().runtime {
            awake::wake(runtime.shim_pid, runtime.shim_start_time);
        }
        let follow = self.follower(handle.id());
        match Shim::adopt(&run, self.execs.clone(), follow).await {
            Ok((shim, status)) => {
                handle.set_shim(Some(shim));
                Some(status)
            }
            Err(error) => {
                tracing::info!(container = handle.id(), %error, "its shim does not answer");
                if let Some(runtime) = &handle.row().runtime {
                    kill_shim(runtime.shim_pid, runtime.shim_start_time);
                }
                None
            }
        }
    }

    /// Finishes what was under way when the last engine ended.
    async fn settle(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
        row: &Container,
        status: Option<&Status>,
    ) -> Result<(), EngineError> {
        let known = row.runtime.as_ref().map_or(0, |runtime| runtime.incarnation);
        match status.map(|status| &status.state) {
            Some(ShimState::Running { pid, start_time, incarnation, paused }) => {
                if *incarnation != known {
                    // The start was under way: it succeeded, and nobody was told.
                    return self.finish_start(handle, *incarnation, *pid, *start_time).await;
                }
                if row.phase == Phase::Stopping {
                    return self.finish_stop(handle).await;
                }
                let phase = if *paused { Phase::Paused } else { Phase::Running };
                self.change(handle, Durability::Process, |row| row.phase = phase)?;
                self.publish_container(handle).await?;
                self.watch_health(handle);
                self.watch_mounts(handle);
                Ok(())
            }
            Some(ShimState::Exited(exit)) if exit.incarnation > known => {
                // It was started and ended before anybody was told.
                let (shim, exit) = (handle.shim(), exit.clone());
                if let Some(shim) = shim {
                    let running = Running {
                        incarnation: exit.incarnation,
                        pid: 0,
                        start_time: 0,
                        at: exit.at,
                    };
                    self.note_start(handle, &shim, running)?;
                }
                self.exited(handle, exit).await;
                Ok(())
            }
            _ if row.phase == Phase::Starting => self.undo_unfinished_start(handle).await,
            _ => {
                self.exited(handle, self.missed_exit(handle.id(), known)).await;
                Ok(())
            }
        }
    }

    async fn finish_start(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
        incarnation: u64,
        pid: i32,
        start_time: u64,
    ) -> Result<(), EngineError> {
        let Some(shim) = handle.shim() else { return self.undo_unfinished_start(handle).await };
        self.note_start(handle, &shim, Running { incarnation, pid, start_time, at: now() })?;
        // An end that was told before it was written down as running was told to nobody.
        match shim.ask(Request::Status).await {
            Ok(Reply::Status(Status { state: ShimState::Exited(exit), .. })) => {
                self.exited(handle, exit).await;
                return Ok(());
            }
            Ok(_) => {}
            Err(_) => {
                handle.set_shim(None);
                self.kill_orphans(handle).await;
                self.exited(handle, self.missed_exit(handle.id(), incarnation)).await;
                return Ok(());
            }
        }
        self.publish_container(handle).await?;
        self.announce(&handle.row(), "start", &[]);
        self.watch_health(handle);
        self.watch_mounts(handle);
        Ok(())
    }

    /// The stop goes on behind the engine's start, as it may take its grace.
    async fn finish_stop(self: &Arc<Self>, handle: &Arc<Handle>) -> Result<(), EngineError> {
        self.publish_container(handle).await?;
        let (engine, id) = (Arc::clone(self), handle.id().to_owned());
        tokio::spawn(async move {
            match engine.stop_container(&id, &StopOptions::default(), By::Plan).await {
                Ok(()) | Err(EngineError::NotModified { .. }) => {}
                Err(error) => {
                    tracing::error!(container = id, error = error.full(), "not stopped");
                }
            }
        });
        Ok(())
    }

    /// Nothing runs: as before the start. Whoever wanted it asks again; a policy does so by itself.
    async fn undo_unfinished_start(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
    ) -> Result<(), EngineError> {
        let ran = handle.row().runtime.is_some();
        self.unpublish_container(handle).await?;
        self.shut_shim(handle).await?;
        let phase = if ran { Phase::Exited } else { Phase::Created };
        let row = self.change(handle, Durability::Process, |row| row.phase = phase)?;
        if row.spec.restart != RestartPolicy::No {
            self.start_later(handle);
        }
        Ok(())
    }

    /// The machine was booted: no process of before lives.
    async fn recover_from_boot(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
        row: &Container,
    ) -> Result<(), EngineError> {
        match row.phase {
            Phase::Creating | Phase::Removing => {
                let options = RemoveOptions { force: true, volumes: row.spec.auto_remove };
                return self.remove_container(handle.id(), options).await;
            }
            Phase::Starting => return self.undo_unfinished_start(handle).await,
            Phase::Restarting => {
                self.restart_later(handle, std::time::Duration::ZERO);
                return Ok(());
            }
            phase if is_up(phase) => {
                let incarnation = row.runtime.as_ref().map_or(0, |runtime| runtime.incarnation);
                let exit = Exit { incarnation, code: LOST, oom: false, at: now() };
                self.exited(handle, exit).await;
                return Ok(());
            }
            _ => {}
        }
        // As docker: `always` means at every boot, even after a stop. A stack's replica stays as its user left it.
        if row.phase == Phase::Exited
            && row.replica.is_none()
            && (row.spec.restart == RestartPolicy::Always || must_run(row))
        {
            self.start_later(handle);
        }
        Ok(())
    }

    fn start_later(self: &Arc<Self>, handle: &Arc<Handle>) {
        let (engine, id) = (Arc::clone(self), handle.id().to_owned());
        tokio::spawn(async move {
            if let Err(error) = engine.start_container(&id, By::Plan).await {
                tracing::warn!(container = id, error = error.full(), "not started again");
            }
        });
    }
}

/// Whether a container that no stack keeps was stopped only because the last engine stopped everything.
fn must_run(row: &Container) -> bool {
    let code = row.exit.as_ref().map_or(0, |exit| exit.code);
    let wanted = match row.spec.restart {
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        // One with a limit of tries may have used them up.
        RestartPolicy::OnFailure { max } => max == 0 && code != 0,
        RestartPolicy::No => false,
    };
    wanted && row.replica.is_none() && !row.stopped_by_user && row.error.is_none()
}
