//! Stopping, restarting and killing.

use std::sync::Arc;
use std::time::Duration;

use super::{By, StopOptions, is_up};
use crate::engine::containers::Handle;
use crate::engine::containers::shim::{Shim, ShimError};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::signals;
use crate::engine::state::Durability;
use crate::engine::state::containers::{Container, Phase};
use crate::runtime::shim::protocol::Request;

/// How long the kernel may take to end what was sent SIGKILL.
const PATIENCE: Duration = Duration::from_secs(30);

impl Engine {
    /// Stops a container with its stop signal, then SIGKILL; one that doesn't run is `NotModified`.
    pub async fn stop_container(
        self: &Arc<Self>,
        word: &str,
        options: &StopOptions,
        by: By,
    ) -> Result<(), EngineError> {
        let handle = self.container(word)?;
        let signal = self.stop_signal(&handle.row(), options.signal.as_deref())?;
        let _verb = handle.verb.lock().await;
        let row = handle.row();
        if by == By::User && !row.stopped_by_user {
            self.change(&handle, Durability::Power, |row| row.stopped_by_user = true)?;
        }
        if !is_up(row.phase) && row.phase != Phase::Restarting {
            return Err(EngineError::NotModified { id: row.id.clone(), state: "stopped" });
        }
        self.stop_locked(&handle, signal, options).await
    }

    /// Stops it if it runs, then starts it.
    pub async fn restart_container(
        self: &Arc<Self>,
        word: &str,
        options: &StopOptions,
        by: By,
    ) -> Result<(), EngineError> {
        let handle = self.container(word)?;
        let signal = self.stop_signal(&handle.row(), options.signal.as_deref())?;
        let _verb = handle.verb.lock().await;
        let phase = handle.row().phase;
        if is_up(phase) || phase == Phase::Restarting {
            self.stop_locked(&handle, signal, options).await?;
        }
        self.start_asked(&handle, by).await?;
        self.announce(&handle.row(), "restart", &[]);
        Ok(())
    }

    /// Sends a signal to init. It doesn't wait for other verbs, so that it can cut a long stop short.
    pub async fn kill_container(
        self: &Arc<Self>,
        word: &str,
        signal: i32,
    ) -> Result<(), EngineError> {
        let handle = self.container(word)?;
        let row = handle.row();
        // Whoever sends these wants it to end, and not to come back by its policy.
        let ends = signal == libc::SIGKILL || signal == self.stop_signal(&row, None)?;
        if row.phase == Phase::Restarting && ends {
            self.change(&handle, Durability::Process, |row| {
                if row.phase == Phase::Restarting {
                    (row.phase, row.stopped_by_user) = (Phase::Exited, true);
                }
            })?;
            self.rest_later(&handle);
            return Ok(());
        }
        let Some(shim) = handle.shim().filter(|_| is_up(row.phase)) else {
            return Err(EngineError::Conflict {
                message: format!(
                    "cannot kill container: {word}: container {} is not running",
                    row.id
                ),
            });
        };
        if ends {
            self.change(&handle, Durability::Process, |row| row.stopped_by_user = true)?;
        }
        self.signal(&handle, &shim, signal).await
    }

    /// Kills what runs of a container and returns when its exit is recorded. The caller holds the `verb` lock; the
    /// exit's own work never takes it.
    pub(crate) async fn kill_and_wait(
        self: &Arc<Self>,
        handle: &Handle,
    ) -> Result<(), EngineError> {
        match self.begin_stop(handle)? {
            Some(shim) => self.kill_now(handle, &shim).await,
            None => Ok(()),
        }
    }

    /// Writes down that a container is about to end, and returns its shim if it is up. An exit may be written down at
    /// any moment, be it of a kill that waited for no verb, and stays.
    fn begin_stop(&self, handle: &Handle) -> Result<Option<Arc<Shim>>, EngineError> {
        let shim = handle.shim();
        let row = self.change(handle, Durability::Process, |row| {
            row.phase = match row.phase {
                Phase::Restarting => Phase::Exited,
                phase if is_up(phase) && shim.is_some() => Phase::Stopping,
                phase => phase,
            };
        })?;
        Ok(shim.filter(|_| row.phase == Phase::Stopping))
    }

    /// Kills what runs without waiting for the verb that is under way, so that this one ends soon.
    pub(in crate::engine::containers) async fn cut_short(
        &self,
        handle: &Handle,
    ) -> Result<(), EngineError> {
        let Some(shim) = handle.shim().filter(|_| is_up(handle.row().phase)) else {
            return Ok(());
        };
        let kill = Request::Signal { signal: libc::SIGKILL, all: true };
        self.ignore_gone(handle, shim.order(kill).await)?;
        // A task that version 1 froze dies only once it is thawed.
        self.ignore_gone(handle, shim.order(Request::Resume).await)
    }

    async fn stop_locked(
        self: &Arc<Self>,
        handle: &Handle,
        signal: i32,
        options: &StopOptions,
    ) -> Result<(), EngineError> {
        let row = handle.row();
        if let Some(shim) = self.begin_stop(handle)? {
            if let Some(limit) = options.drain {
                self.drain(&row, limit).await;
            }
            let paused = row.phase == Phase::Paused;
            self.signal(handle, &shim, signal).await?;
            if paused {
                // A frozen program can't obey.
                self.ignore_gone(handle, shim.order(Request::Resume).await)?;
                self.announce(&row, "unpause", &[]);
            }
            let grace = options
                .grace
                .or(row.spec.stop_timeout)
                .unwrap_or(self.config.containers.stop_timeout);
            let ended = match u64::try_from(grace) {
                Ok(seconds) => {
                    let rest = wait_for_rest(handle);
                    tokio::time::timeout(Duration::from_secs(seconds), rest).await.is_ok()
                }
                // Negative: wait for ever.
                Err(_) => {
                    wait_for_rest(handle).await;
                    true
                }
            };
            if !ended {
                self.kill_now(handle, &shim).await?;
            }
        } else {
            self.change(handle, Durability::Process, |row| row.phase = Phase::Exited)?;
            // Whoever waits for its restart finds it exited.
            self.shut_shim(handle).await?;
        }
        // The `die` event comes first.
        drop(handle.turn.lock().await);
        self.announce(&handle.row(), "stop", &[]);
        Ok(())
    }

    async fn kill_now(self: &Arc<Self>, handle: &Handle, shim: &Shim) -> Result<(), EngineError> {
        {
            // The exit is told after the kill.
            let _turn = handle.turn.lock().await;
            let killed = shim.order(Request::Signal { signal: libc::SIGKILL, all: true }).await;
            self.ignore_gone(handle, killed)?;
            self.announce(&handle.row(), "kill", &[("signal", libc::SIGKILL.to_string())]);
        }
        // A task that version 1 froze dies only once it is thawed.
        self.ignore_gone(handle, shim.order(Request::Resume).await)?;
        if tokio::time::timeout(PATIENCE, wait_for_rest(handle)).await.is_err() {
            return Err(EngineError::Io {
                doing: format!(
                    "end container {}: SIGKILL was sent, and it is still there",
                    handle.id()
                ),
                source: std::io::ErrorKind::TimedOut.into(),
            });
        }
        drop(handle.turn.lock().await);
        Ok(())
    }

    async fn signal(&self, handle: &Handle, shim: &Shim, signal: i32) -> Result<(), EngineError> {
        // The exit that may follow is told after it.
        let _turn = handle.turn.lock().await;
        self.ignore_gone(handle, shim.order(Request::Signal { signal, all: false }).await)?;
        self.announce(&handle.row(), "kill", &[("signal", signal.to_string())]);
        Ok(())
    }

    /// A process that ended just now needs no signal: its exit is on its way.
    fn ignore_gone(&self, handle: &Handle, sent: Result<(), ShimError>) -> Result<(), EngineError> {
        match sent {
            Ok(()) | Err(ShimError::Gone { .. } | ShimError::Refused { .. }) => Ok(()),
            Err(error) => Err(handle.of_shim(error)),
        }
    }

    /// Returns the signal that ends the container politely: the asked one, its own, its image's, or SIGTERM.
    fn stop_signal(&self, row: &Container, asked: Option<&str>) -> Result<i32, EngineError> {
        let of_image = || self.image_facts(row).stop_signal;
        let word =
            asked.map(str::to_owned).or_else(|| row.spec.stop_signal.clone()).or_else(of_image);
        match word {
            None => Ok(libc::SIGTERM),
            Some(word) => signals::parse(&word)
                .ok_or_else(|| EngineError::Invalid { message: format!("Invalid signal: {word}") }),
        }
    }
}

/// Returns when init has ended and that is written down.
async fn wait_for_rest(handle: &Handle) {
    let mut watch = handle.watch();
    // The channel's end is the container's.
    let _ = watch.wait_for(|state| state.removed || !is_up(state.row.phase)).await;
}
