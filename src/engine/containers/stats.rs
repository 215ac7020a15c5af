//! What a container uses, and which processes are in it.

use std::sync::Arc;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::runtime::cgroup::Stats;

/// One process of a container, as `ps` prints it: titles and rows of the host's `ps`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Top {
    pub titles: Vec<String>,
    pub processes: Vec<Vec<String>>,
}

impl Engine {
    /// Reads the container's cgroup once.
    pub fn container_stats(self: &Arc<Self>, _word: &str) -> Result<Stats, EngineError> {
        todo!()
    }

    /// Lists its processes with ps(1)'s arguments (default `-ef`).
    pub async fn container_top(
        self: &Arc<Self>,
        _word: &str,
        _arguments: &[String],
    ) -> Result<Top, EngineError> {
        todo!()
    }
}
