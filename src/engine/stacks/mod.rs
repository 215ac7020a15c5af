//! Stacks on this machine: what is wanted is kept here, one loop each keeps it so.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::protocol::{
    ApplyRequest, DownRequest, PlanReport, Progress, ServiceSelection, StackView,
};

/// The loops that run.
#[derive(Debug, Default)]
pub struct Stacks {}

/// What to do with some services of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceVerb {
    Start,
    Stop,
    Restart,
    Kill,
    Remove,
}

impl Engine {
    /// Starts the loop of every stack that the database has.
    pub(crate) async fn start_stacks(self: &Arc<Self>) -> Result<(), EngineError> {
        todo!()
    }

    /// Returns what `apply` would do.
    pub async fn plan_stack(
        self: &Arc<Self>,
        _request: ApplyRequest,
    ) -> Result<PlanReport, EngineError> {
        todo!()
    }

    /// Stores the stack and converges; the stream ends with `Finished`. A reader that goes away stops nothing.
    pub async fn apply_stack(
        self: &Arc<Self>,
        _request: ApplyRequest,
    ) -> Result<mpsc::Receiver<Progress>, EngineError> {
        todo!()
    }

    pub async fn down_stack(
        self: &Arc<Self>,
        _name: &str,
        _request: DownRequest,
    ) -> Result<mpsc::Receiver<Progress>, EngineError> {
        todo!()
    }

    pub async fn stack_services(
        self: &Arc<Self>,
        _name: &str,
        _verb: ServiceVerb,
        _selection: ServiceSelection,
    ) -> Result<mpsc::Receiver<Progress>, EngineError> {
        todo!()
    }

    pub fn stack_views(self: &Arc<Self>) -> Result<Vec<StackView>, EngineError> {
        todo!()
    }

    pub fn stack_view(self: &Arc<Self>, _name: &str) -> Result<StackView, EngineError> {
        todo!()
    }
}
