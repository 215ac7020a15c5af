//! Removing a container with everything that is its own.

use std::sync::Arc;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
}

impl Engine {
    /// Removes a container: kills (`force`), gives name, addresses and ports back, and clears its folders in the
    /// background. A removal that a crash interrupted goes on from where it was.
    pub async fn remove_container(
        self: &Arc<Self>,
        _word: &str,
        _options: RemoveOptions,
    ) -> Result<(), EngineError> {
        todo!()
    }
}
