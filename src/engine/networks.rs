//! Networks of this root: their rows, the driver below them, published ports, and netd.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::config::Config;
use crate::engine::containers::Handle;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::paths::Paths;
use crate::engine::state::networks::Network;
use crate::net::driver::Driver;
use crate::spec::container::{Endpoint, PortSpec};
use crate::spec::stack::Network as NetworkSpec;

/// The driver and what is applied.
#[derive(Debug)]
pub struct Networks {
    #[expect(dead_code, reason = "for whoever fills this in")]
    driver: tokio::sync::Mutex<Driver>,
}

impl Networks {
    pub(crate) fn open(paths: &Paths, _config: &Config) -> Result<Self, EngineError> {
        Ok(Self { driver: tokio::sync::Mutex::new(Driver::open(paths.id(), paths.run())?) })
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct CreateNetwork {
    pub name: String,
    pub spec: NetworkSpec,
    pub stack: Option<String>,
}

impl Engine {
    /// After a start of the engine: bridges, rules and netd as the database says; `bridge` is made if missing.
    pub(crate) async fn restore_networks(self: &Arc<Self>) -> Result<(), EngineError> {
        todo!()
    }

    /// Creates a network; its subnet is the wished one, or the next free one of the pools.
    pub async fn create_network(
        self: &Arc<Self>,
        _request: CreateNetwork,
    ) -> Result<Network, EngineError> {
        todo!()
    }

    pub fn networks(&self) -> Result<Vec<Network>, EngineError> {
        todo!()
    }

    /// Returns the network that `word` means: id, name or unique prefix; `host` and `none` are there too.
    pub fn network(&self, _word: &str) -> Result<Network, EngineError> {
        todo!()
    }

    /// Removes a network without endpoints; `bridge`, `host`, `none` never.
    pub async fn remove_network(self: &Arc<Self>, _word: &str) -> Result<(), EngineError> {
        todo!()
    }

    /// Connects a container, running or not.
    pub async fn connect_network(
        self: &Arc<Self>,
        _network: &str,
        _container: &str,
        _endpoint: Endpoint,
    ) -> Result<(), EngineError> {
        todo!()
    }

    pub async fn disconnect_network(
        self: &Arc<Self>,
        _network: &str,
        _container: &str,
        _force: bool,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Inside a create's transaction: gives the container its addresses on every network of its spec, and its
    /// host ports (`bound`), or fails with who has them. Names were resolved before.
    pub(crate) fn reserve_endpoints(
        &self,
        _tx: &crate::engine::state::Transaction<'_>,
        _row: &mut crate::engine::state::containers::Container,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Gives addresses and ports back, inside a removal's transaction.
    pub(crate) fn release_endpoints(
        &self,
        _tx: &crate::engine::state::Transaction<'_>,
        _container: &str,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Makes sandbox and links of a container that is about to start. Twice does no harm.
    pub(crate) async fn connect_sandbox(
        self: &Arc<Self>,
        _handle: &Handle,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Tells rules and netd that the container serves now: its ports and names work when this returns.
    pub(crate) async fn publish_container(
        self: &Arc<Self>,
        _handle: &Handle,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// The opposite, when it stopped: ports and names are free when this returns; links go behind it.
    pub(crate) async fn unpublish_container(
        self: &Arc<Self>,
        _handle: &Handle,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Removes what a container has in the kernel's network, for its removal.
    pub(crate) async fn remove_sandbox(
        self: &Arc<Self>,
        _container: &str,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Text of /etc/hosts, /etc/hostname and /etc/resolv.conf of a container.
    pub(crate) fn network_files(&self, _handle: &Handle) -> Result<NetworkFiles, EngineError> {
        todo!()
    }

    /// Who holds a host port that is neither ours nor free: container, or program and pid.
    pub fn port_holder(&self, _port: &PortSpec, _ours: &[String]) -> Option<String> {
        todo!()
    }

    /// Changes a running container's published ports.
    pub(crate) async fn change_ports(
        self: &Arc<Self>,
        _handle: &Handle,
        _ports: Vec<PortSpec>,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Endpoints of a container, by network name.
    pub(crate) fn endpoints(
        &self,
        _row: &crate::engine::state::containers::Container,
    ) -> Result<BTreeMap<String, crate::engine::containers::view::EndpointView>, EngineError> {
        todo!()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NetworkFiles {
    pub(crate) hosts: String,
    pub(crate) hostname: String,
    pub(crate) resolv_conf: String,
}
