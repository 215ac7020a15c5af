//! Starting, stopping, waiting, and what happens when a container exits.

use std::sync::Arc;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::runtime::shim::protocol::Exit;

/// The control connection to one shim.
#[derive(Debug)]
pub struct Shim {}

/// On whose behalf: a user's stop is remembered, so that healing leaves the container alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    User,
    /// A plan of the reconciler, or the engine itself.
    Plan,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// Seconds before SIGKILL; `None`: the container's own; -1 waits for ever.
    pub grace: Option<i64>,
    /// `None`: the container's own.
    pub signal: Option<String>,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitFor {
    #[default]
    NotRunning,
    NextExit,
    Removed,
}

impl Engine {
    /// Starts a container; one that runs is `NotModified`.
    pub async fn start_container(
        self: &Arc<Self>,
        _word: &str,
        _by: By,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Stops a container with its stop signal, then SIGKILL; one that doesn't run is `NotModified`.
    pub async fn stop_container(
        self: &Arc<Self>,
        _word: &str,
        _options: &StopOptions,
        _by: By,
    ) -> Result<(), EngineError> {
        todo!()
    }

    pub async fn restart_container(
        self: &Arc<Self>,
        _word: &str,
        _options: &StopOptions,
        _by: By,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Sends a signal to init.
    pub async fn kill_container(
        self: &Arc<Self>,
        _word: &str,
        _signal: i32,
    ) -> Result<(), EngineError> {
        todo!()
    }

    pub async fn pause_container(self: &Arc<Self>, _word: &str) -> Result<(), EngineError> {
        todo!()
    }

    pub async fn unpause_container(self: &Arc<Self>, _word: &str) -> Result<(), EngineError> {
        todo!()
    }

    pub async fn resize_container(
        &self,
        _word: &str,
        _rows: u16,
        _columns: u16,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Waits as asked. The watch begins when this function is called, not when its future is first polled.
    pub fn wait_container(
        &self,
        _word: &str,
        _condition: WaitFor,
    ) -> Result<impl Future<Output = Result<Exit, EngineError>> + Send + 'static, EngineError> {
        if true {
            todo!()
        }
        Ok(std::future::pending())
    }

    /// Kills what runs of a container and returns when its exit is recorded. The caller holds the `verb` lock; the
    /// exit's own work never takes it.
    pub(crate) async fn kill_and_wait(
        self: &Arc<Self>,
        _handle: &super::Handle,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Ends the shim of a container that doesn't run: rootfs unmounted, cgroup gone. The caller holds the lock.
    pub(crate) async fn shut_shim(
        self: &Arc<Self>,
        _handle: &super::Handle,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Adopts running shims, reads exits that were missed, resumes or undoes half-done verbs, restarts by policy.
    pub(crate) async fn recover_containers(self: &Arc<Self>) -> Result<(), EngineError> {
        todo!()
    }
}
