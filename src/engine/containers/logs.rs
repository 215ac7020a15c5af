//! A container's log as a stream.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::logs::{Entry, LogError, Query};

impl Engine {
    /// Streams the log's lines. A follower's stream ends when the container has stopped and everything is read.
    pub fn container_logs(
        self: &Arc<Self>,
        _word: &str,
        _query: Query,
        _follow: bool,
    ) -> Result<mpsc::Receiver<Result<Entry, LogError>>, EngineError> {
        todo!()
    }
}
