//! Creating a container: its row, addresses, ports, volumes, folders and bundle. Nothing runs yet.

use std::sync::Arc;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::Replica;
use crate::spec::container::ContainerSpec;

/// What to create.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// `None`: a random one.
    pub name: Option<String>,
    /// Names of images, networks and volumes are names on this machine.
    pub spec: ContainerSpec,
    /// The stack's replica that it is.
    pub replica: Option<Replica>,
    /// Of the desired replica.
    pub hash: String,
}

/// A created container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Created {
    pub id: String,
    /// What the caller should know, in docker's words where it has them.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Creates a container; an image that is not here is `NoImage`.
    pub async fn create_container(
        self: &Arc<Self>,
        _request: CreateRequest,
    ) -> Result<Created, EngineError> {
        todo!()
    }

    /// Writes the bundle (`config.json`, `shim.json`) anew from the row, its addresses and this machine, right
    /// before a start.
    pub(crate) fn write_bundle(&self, _handle: &super::Handle) -> Result<(), EngineError> {
        todo!()
    }

    /// Makes what a start needs besides the bundle and may be gone after a boot: run folder, sandbox,
    /// endpoints, mount sources. Doing it twice does no harm.
    pub(crate) async fn prepare_start(
        self: &Arc<Self>,
        _handle: &super::Handle,
    ) -> Result<(), EngineError> {
        todo!()
    }
}
