//! Named and anonymous volumes: a folder and a row each.

use std::collections::BTreeMap;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::volumes::Volume;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateVolume {
    /// `None`: an anonymous one, named by 64 random hex digits.
    pub name: Option<String>,
    /// "" is `local`.
    pub driver: String,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub stack: Option<String>,
}

impl Engine {
    /// Creates a volume, or returns the one that has the name and the same driver and options.
    pub fn create_volume(&self, _request: CreateVolume) -> Result<Volume, EngineError> {
        todo!()
    }

    pub fn volumes(&self) -> Result<Vec<Volume>, EngineError> {
        todo!()
    }

    pub fn volume(&self, _name: &str) -> Result<Volume, EngineError> {
        todo!()
    }

    /// Ids of the containers that mount it.
    pub fn volume_users(&self, _name: &str) -> Vec<String> {
        todo!()
    }

    /// Removes a volume and its data; one in use is a `Conflict`.
    pub async fn remove_volume(&self, _name: &str, _force: bool) -> Result<(), EngineError> {
        todo!()
    }
}
