//! Further processes in a running container.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::attach::{Attached, Streams};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;

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

/// All execs of the engine, by id.
#[derive(Debug, Default)]
pub struct Execs {
    pub(super) all: Mutex<BTreeMap<String, ExecView>>,
}

impl Engine {
    /// Registers an exec in a running container and returns its id.
    pub async fn create_exec(
        self: &Arc<Self>,
        _container: &str,
        _spec: ExecSpec,
    ) -> Result<String, EngineError> {
        todo!()
    }

    /// Starts an exec; `None` when it was asked to run detached.
    pub async fn start_exec(
        self: &Arc<Self>,
        _id: &str,
        _detach: bool,
        _size: Option<(u16, u16)>,
    ) -> Result<Option<Attached>, EngineError> {
        todo!()
    }

    pub async fn resize_exec(
        &self,
        _id: &str,
        _rows: u16,
        _columns: u16,
    ) -> Result<(), EngineError> {
        todo!()
    }

    pub fn exec(&self, _id: &str) -> Result<ExecView, EngineError> {
        todo!()
    }

    /// Runs a command without streams to its end and returns its code and the beginning of its output: health
    /// probes.
    pub(crate) async fn run_exec(
        self: &Arc<Self>,
        _container: &str,
        _spec: ExecSpec,
        _timeout: std::time::Duration,
    ) -> Result<(i32, String), EngineError> {
        todo!()
    }
}
