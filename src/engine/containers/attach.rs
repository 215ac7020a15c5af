//! Attaching to a container's streams.

use std::sync::Arc;

use tokio::net::UnixStream;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// A connection to the shim. Read: docker's multiplexed frames (a tty's output is stream 1); write: raw stdin,
/// ended by a half-close.
#[derive(Debug)]
pub struct Attached {
    pub stream: UnixStream,
    /// Whether the API should strip the frames: clients of a terminal get the raw bytes.
    pub tty: bool,
}

impl Engine {
    /// Attaches to init's streams. Before the start it misses nothing.
    pub async fn attach_container(
        self: &Arc<Self>,
        _word: &str,
        _streams: Streams,
    ) -> Result<Attached, EngineError> {
        todo!()
    }
}
