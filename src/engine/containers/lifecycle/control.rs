//! Pausing, going on, and the terminal's size.

use std::sync::Arc;

use crate::engine::containers::Handle;
use crate::engine::containers::shim::{Shim, ShimError};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::Durability;
use crate::engine::state::containers::Phase;
use crate::runtime::shim::protocol::Request;

impl Engine {
    /// Freezes all processes of a container.
    pub async fn pause_container(self: &Arc<Self>, word: &str) -> Result<(), EngineError> {
        let handle = self.container(word)?;
        let _verb = handle.verb.lock().await;
        if handle.row().phase == Phase::Paused {
            return Err(EngineError::Conflict {
                message: format!("Container {} is already paused", handle.id()),
            });
        }
        let shim = self.running_shim(&handle)?;
        self.obey(&handle, &shim, Request::Pause).await?;
        self.turn_phase(&handle, Phase::Running, Phase::Paused, "pause")
    }

    pub async fn unpause_container(self: &Arc<Self>, word: &str) -> Result<(), EngineError> {
        let handle = self.container(word)?;
        let _verb = handle.verb.lock().await;
        if handle.row().phase != Phase::Paused {
            return Err(EngineError::Conflict {
                message: format!("Container {} is not paused", handle.id()),
            });
        }
        let shim = self.running_shim(&handle)?;
        self.obey(&handle, &shim, Request::Resume).await?;
        self.turn_phase(&handle, Phase::Paused, Phase::Running, "unpause")
    }

    /// Sets the size of the container's terminal; without one it does nothing.
    pub async fn resize_container(
        &self,
        word: &str,
        rows: u16,
        columns: u16,
    ) -> Result<(), EngineError> {
        let handle = self.container(word)?;
        let shim = self.running_shim(&handle)?;
        self.obey(&handle, &shim, Request::Resize { exec: None, rows, columns }).await
    }

    /// Writes the phase down, unless the container exited meanwhile.
    fn turn_phase(
        &self,
        handle: &Handle,
        from: Phase,
        to: Phase,
        action: &str,
    ) -> Result<(), EngineError> {
        let row = self.change(handle, Durability::Process, |row| {
            if row.phase == from {
                row.phase = to;
            }
        })?;
        self.announce(&row, action, &[]);
        Ok(())
    }

    /// Returns the shim of a container whose init lives, or docker's words.
    pub(in crate::engine::containers) fn running_shim(
        &self,
        handle: &Handle,
    ) -> Result<Arc<Shim>, EngineError> {
        handle.shim().filter(|_| super::is_up(handle.row().phase)).ok_or_else(|| {
            EngineError::Conflict { message: format!("container {} is not running", handle.id()) }
        })
    }

    /// Sends a request that the shim may refuse for reasons that the client should read.
    pub(in crate::engine::containers) async fn obey(
        &self,
        handle: &Handle,
        shim: &Shim,
        request: Request,
    ) -> Result<(), EngineError> {
        match shim.order(request).await {
            Ok(()) => Ok(()),
            Err(ShimError::Refused { message, .. }) => Err(EngineError::Conflict { message }),
            Err(error) => Err(handle.of_shim(error)),
        }
    }
}
