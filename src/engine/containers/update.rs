//! Changing a container that exists: name, limits, restart policy, published ports.

use std::sync::Arc;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::reconcile::host::LiveChange;

impl Engine {
    pub async fn rename_container(
        self: &Arc<Self>,
        _word: &str,
        _to: &str,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Changes limits, restart policy and ports without a restart; returns warnings.
    pub async fn update_container(
        self: &Arc<Self>,
        _word: &str,
        _change: LiveChange,
    ) -> Result<Vec<String>, EngineError> {
        todo!()
    }
}
