//! A container as clients see it: its row, its image, its endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::merge::ImageFacts;
use crate::engine::state::containers::Container;

/// All that `inspect` and `ps` need.
#[derive(Debug, Clone)]
pub struct View {
    pub row: Arc<Container>,
    pub facts: ImageFacts,
    pub endpoints: Vec<EndpointView>,
    /// Where each volume mount's data is, by target.
    pub mounts: Vec<MountView>,
    /// Host name, resolved program and arguments.
    pub hostname: String,
    pub arguments: Vec<String>,
    pub log_path: std::path::PathBuf,
}

/// One endpoint on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointView {
    pub network_id: String,
    pub network: String,
    pub addresses: Vec<ipnet::IpNet>,
    pub gateways: Vec<IpAddr>,
    pub mac: String,
    pub aliases: Vec<String>,
    /// All names that resolve to it.
    pub names: Vec<String>,
}

/// One mount as `inspect`'s `Mounts` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountView {
    /// `bind`, `volume`, `tmpfs`.
    pub kind: &'static str,
    /// Of a volume.
    pub name: Option<String>,
    pub source: String,
    pub target: String,
    pub read_only: bool,
    pub propagation: String,
}

impl Engine {
    pub fn view_container(&self, _word: &str) -> Result<View, EngineError> {
        todo!()
    }
}
