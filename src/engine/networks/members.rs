//! Connecting and disconnecting containers that exist.

use std::net::IpAddr;
use std::sync::Arc;

use super::live;
use super::reserve::{At, check};
use super::rows::has_bridge;
use crate::engine::containers::Handle;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::Container;
use crate::engine::state::networks::Network;
use crate::engine::state::{Durability, addresses};
use crate::net::driver::DefaultRoute;
use crate::spec::container::{Endpoint, NetworkMode};

impl Engine {
    /// Connects a container, running or not.
    pub async fn connect_network(
        self: &Arc<Self>,
        network: &str,
        container: &str,
        endpoint: Endpoint,
    ) -> Result<(), EngineError> {
        let network = Arc::new(self.network(network)?);
        let handle = self.container(container)?;
        let _verb = handle.verb.lock().await;
        may_change(&handle.row(), &network)?;
        check(&network, &endpoint)?;
        if handle.row().spec.networks.contains_key(&network.name) {
            let message = format!(
                "endpoint with name {} already exists in network {}",
                handle.row().name,
                network.name
            );
            return Err(EngineError::Forbidden { message });
        }
        let row = self.change(&handle, Durability::Process, |row| {
            row.spec.networks.insert(network.name.clone(), endpoint);
        })?;
        let joined = self.join(&row, &network).await;
        if joined.is_err() {
            // As before: the first error is the one to report.
            drop(self.leave(&handle, &network).await);
        }
        joined
    }

    /// Gives a container its address on a network and, while it is connected, its link.
    async fn join(
        self: &Arc<Self>,
        row: &Arc<Container>,
        network: &Network,
    ) -> Result<(), EngineError> {
        let networks = &self.networks;
        let connected = networks.live().contains_key(&row.id);
        let at = if connected { At::Start } else { At::Creation };
        let rows = networks.rows();
        self.write(Durability::Process, |tx| self.reserve_addresses(tx, &rows, row, at))?;
        if !connected {
            return Ok(());
        }
        self.see_membership(row)?;
        let wish = &row.spec.networks[&network.name];
        let endpoint = self.endpoint(row, &network.id, wish)?;
        let inner = networks.driver.free_device(&row.id).await?;
        networks.driver.connect(&endpoint, &inner, DefaultRoute::Elsewhere).await?;
        self.route(row).await?;
        self.refresh_publications().await?;
        self.network_event("connect", network, Some(&row.id));
        Ok(())
    }

    /// Disconnects a container from a network, running or not.
    pub async fn disconnect_network(
        self: &Arc<Self>,
        network: &str,
        container: &str,
        force: bool,
    ) -> Result<(), EngineError> {
        let network = self.network(network)?;
        let handle = match self.container(container) {
            // There is nothing left to force.
            Err(EngineError::NoContainer { .. }) if force => return Ok(()),
            found => found?,
        };
        let _verb = handle.verb.lock().await;
        may_change(&handle.row(), &network)?;
        if !handle.row().spec.networks.contains_key(&network.name) {
            let message =
                format!("container {} is not connected to network {}", handle.id(), network.name);
            return Err(EngineError::Forbidden { message });
        }
        self.leave(&handle, &network).await
    }

    async fn leave(
        self: &Arc<Self>,
        handle: &Handle,
        network: &Network,
    ) -> Result<(), EngineError> {
        let row = self.change(handle, Durability::Process, |row| {
            row.spec.networks.remove(&network.name);
            // The mode names the first network, which is made up for when it is missing.
            let first = row.spec.networks.keys().next().cloned().unwrap_or_default();
            match &row.spec.network_mode {
                NetworkMode::Default => row.spec.network_mode = NetworkMode::Networks(first),
                NetworkMode::Networks(name) if *name == network.name => {
                    row.spec.network_mode = NetworkMode::Networks(first);
                }
                _ => {}
            }
        })?;
        if self.networks.live().contains_key(&row.id) {
            self.see_membership(&row)?;
            self.refresh_publications().await?;
            self.networks.driver.disconnect(&row.id, &network.id).await?;
            self.route(&row).await?;
            self.network_event("disconnect", network, Some(&row.id));
        }
        self.write(Durability::Process, |tx| addresses::release_on(tx, &network.id, &row.id))?;
        self.purge_released_soon();
        Ok(())
    }

    /// Notes a running container's changed networks and their addresses.
    fn see_membership(&self, row: &Arc<Container>) -> Result<(), EngineError> {
        let held = self.read(|connection| addresses::of_container(connection, &row.id))?;
        let rows = self.networks.rows();
        let members: Vec<&str> = live::memberships(row)
            .into_iter()
            .filter_map(|(name, _)| live::find(&rows, name))
            .map(|network| network.id.as_str())
            .collect();
        let held: Vec<(String, IpAddr)> =
            held.into_iter().filter(|(network, _)| members.contains(&network.as_str())).collect();
        let addresses = self.networks.with_prefixes(&held);
        if let Some(found) = self.networks.live().get_mut(&row.id) {
            found.addresses = addresses;
            found.row = Arc::clone(row);
        }
        Ok(())
    }

    /// Leads the default routes through the network that has them now.
    pub(super) async fn route(&self, row: &Container) -> Result<(), EngineError> {
        Ok(self.networks.driver.route(&row.id, &self.gateways(row)).await?)
    }

    /// Returns the gateways of a container's default routes.
    pub(super) fn gateways(&self, row: &Container) -> Vec<IpAddr> {
        let rows = self.networks.rows();
        let first = live::memberships(row).into_iter().next();
        let network = first.and_then(|(name, _)| live::find(&rows, name));
        match network.filter(|network| !network.spec.internal) {
            Some(network) => network.subnets.iter().map(|one| one.gateway).collect(),
            None => Vec::new(),
        }
    }
}

/// Refuses to change what has no networks of its own; the messages are docker's.
fn may_change(row: &Container, network: &Network) -> Result<(), EngineError> {
    let conflict = |message: &str| Err(EngineError::Conflict { message: message.to_owned() });
    match row.spec.network_mode {
        NetworkMode::Container(_) => conflict(
            "container sharing network namespace with another container or host cannot be connected to \
             any other network",
        ),
        NetworkMode::Host => conflict(
            "container cannot be disconnected from host network or connected to host network",
        ),
        NetworkMode::None => conflict(
            "container cannot be connected to multiple networks with one of the networks in private \
             (none) mode",
        ),
        _ if !has_bridge(network) => conflict(
            "container cannot be disconnected from host network or connected to host network",
        ),
        _ => Ok(()),
    }
}
