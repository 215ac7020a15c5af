//! Waiting for a container's exit or removal.

use super::{WaitFor, is_up};
use crate::engine::containers::Snapshot;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::Phase;
use crate::runtime::shim::protocol::Exit;

impl Engine {
    /// Waits as asked. The watch begins when this function is called, not when its future is first polled.
    pub fn wait_container(
        &self,
        word: &str,
        condition: WaitFor,
    ) -> Result<impl Future<Output = Result<Exit, EngineError>> + Send + 'static, EngineError> {
        let handle = self.container(word)?;
        let mut watch = handle.watch();
        let before = watch.borrow().row.exit.clone();
        drop(handle);
        Ok(async move {
            let met = |state: &Snapshot| match condition {
                _ if state.removed => true,
                WaitFor::Removed => false,
                WaitFor::NextExit => state.row.exit != before,
                WaitFor::NotRunning => state.row.exit != before || is_at_rest(state.row.phase),
            };
            // An end of the channel is the engine's; what it knew last holds.
            let _ = watch.wait_for(met).await;
            let last = watch.borrow().row.exit.clone();
            Ok(last.unwrap_or(Exit { incarnation: 0, code: 0, oom: false, at: 0 }))
        })
    }
}

/// As docker sees it, a container between two restarts is running.
fn is_at_rest(phase: Phase) -> bool {
    !is_up(phase) && !matches!(phase, Phase::Starting | Phase::Restarting)
}
