//! Attaching to a container's streams.

use std::sync::Arc;

use tokio::net::UnixStream;

use super::lifecycle::is_up;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::Phase;

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
        word: &str,
        streams: Streams,
    ) -> Result<Attached, EngineError> {
        let handle = self.container(word)?;
        let up = handle.shim().filter(|_| is_up(handle.row().phase));
        let shim = match up {
            Some(shim) => shim,
            None => {
                let _verb = handle.verb.lock().await;
                if handle.row().phase == Phase::Removing {
                    let message = "cannot attach to a container that is being removed".to_owned();
                    return Err(EngineError::Conflict { message });
                }
                self.ensure_shim(&handle).await?
            }
        };
        let stream = shim.attach(None, streams).await.map_err(|error| handle.of_shim(error))?;
        let row = handle.row();
        self.announce(&row, "attach", &[]);
        Ok(Attached { stream, tty: row.spec.tty })
    }
}
