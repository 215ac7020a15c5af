//! The driver: what the engine calls. It remembers the rules that it applied, so a change sends the difference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rtnetlink::Handle;

use super::endpoint::Place;
use super::model::{self, EndpointConfig, NetworkConfig, State};
use super::netlink::{self, NetlinkError};
use super::nft::apply::{self, ApplyError};
use super::nft::ruleset::{self, Ruleset};
use super::sandbox::{self, SandboxError};
use super::{bridge, endpoint};

#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Rules(#[from] ApplyError),
    #[error("network {network} does not exist")]
    NoNetwork { network: String },
}

/// Networks of one engine root, in the namespace of the thread that opened it.
#[derive(Debug)]
pub struct Driver {
    root_id: String,
    sandboxes: PathBuf,
    handle: Handle,
    networks: BTreeMap<String, NetworkConfig>,
    applied: Option<Ruleset>,
}

impl Driver {
    /// Opens the driver; sandboxes are pinned below `run_dir`. Needs a tokio runtime.
    pub fn open(root_id: &str, run_dir: &Path) -> Result<Self, NetError> {
        Ok(Self {
            root_id: root_id.to_owned(),
            sandboxes: run_dir.join("netns"),
            handle: netlink::connect()?,
            networks: BTreeMap::new(),
            applied: None,
        })
    }

    /// Returns where a container's namespace is pinned.
    pub fn sandbox_path(&self, container: &str) -> PathBuf {
        self.sandboxes.join(container)
    }

    /// Creates what is missing of the networks and removes bridges of ours that are no longer wanted. Rules follow
    /// with the next [`Driver::publish`].
    pub async fn apply_networks(
        &mut self,
        networks: &BTreeMap<String, NetworkConfig>,
    ) -> Result<(), NetError> {
        for (id, network) in networks {
            if self.networks.get(id) != Some(network) {
                bridge::create(&self.handle, network).await?;
                self.networks.insert(id.clone(), network.clone());
            }
        }
        let unwanted: Vec<NetworkConfig> = self
            .networks
            .values()
            .filter(|network| !networks.contains_key(&network.id))
            .cloned()
            .collect();
        for network in unwanted {
            bridge::remove(&self.handle, &network.bridge).await?;
            self.networks.remove(&network.id);
        }
        Ok(())
    }

    /// Creates a container's namespace and returns its path. One that exists is kept.
    pub async fn create_sandbox(&self, container: &str) -> Result<PathBuf, NetError> {
        let path = self.sandbox_path(container);
        sandbox::create(&path).await?;
        Ok(path)
    }

    /// Removes a container's namespace. Its links are disconnected first: a socket may keep a namespace alive.
    pub fn remove_sandbox(&self, container: &str) -> Result<(), NetError> {
        Ok(sandbox::remove(&self.sandbox_path(container))?)
    }

    /// Connects a container's sandbox to a network as device `inner`.
    pub async fn connect(
        &self,
        endpoint: &EndpointConfig,
        inner: &str,
        route: DefaultRoute,
    ) -> Result<(), NetError> {
        let missing = || NetError::NoNetwork { network: endpoint.network.clone() };
        let network = self.networks.get(&endpoint.network).ok_or_else(missing)?;
        let sandbox = self.sandbox_path(&endpoint.container);
        let outer = model::veth_name(&self.root_id, &endpoint.network, &endpoint.container);
        let default_route = route == DefaultRoute::Here;
        let place = Place { network, sandbox: &sandbox, outer: &outer, inner, default_route };
        Ok(endpoint::create(&self.handle, endpoint, &place).await?)
    }

    /// Disconnects a container from a network; twice does no harm.
    pub async fn disconnect(&self, container: &str, network: &str) -> Result<(), NetError> {
        let outer = model::veth_name(&self.root_id, network, container);
        Ok(endpoint::remove(&self.handle, &outer).await?)
    }

    /// Makes the packet rules those of `state`, in one transaction.
    pub fn publish(&mut self, state: &State) -> Result<(), NetError> {
        let wanted = ruleset::ruleset(&self.root_id, state);
        apply::apply(self.applied.as_ref(), &wanted)?;
        self.applied = Some(wanted);
        Ok(())
    }

    /// Forgets what was applied, so that the next [`Driver::publish`] writes the whole table: somebody flushed it.
    pub fn forget_rules(&mut self) {
        self.applied = None;
    }

    /// Removes the root's packet rules.
    pub fn remove_rules(&mut self) -> Result<(), NetError> {
        self.applied = None;
        Ok(apply::remove(&ruleset::table_name(&self.root_id))?)
    }
}

/// Whether an endpoint's network carries the container's default route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultRoute {
    Here,
    Elsewhere,
}
