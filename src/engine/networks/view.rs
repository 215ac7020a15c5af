//! Endpoints as clients see them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;

use super::live;
use crate::engine::containers::view::EndpointView;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::Container;
use crate::engine::state::networks::Network;
use crate::net::model;
use crate::spec::container::NetworkMode;

impl Engine {
    /// Endpoints of a container, by network name. Addresses are there while the container is connected.
    pub(crate) fn endpoints(
        &self,
        row: &Container,
    ) -> Result<BTreeMap<String, EndpointView>, EngineError> {
        let rows = self.networks.rows();
        let connected = self.networks.live().get(&row.id).map(|found| found.addresses.clone());
        let lone = match row.spec.network_mode {
            NetworkMode::Host => Some("host"),
            NetworkMode::None => Some("none"),
            _ => None,
        };
        let mut all = BTreeMap::new();
        if let Some((name, network)) = lone.and_then(|name| Some((name, live::find(&rows, name)?)))
        {
            all.insert(name.to_owned(), empty(&network.id, name));
        }
        for (name, wish) in live::memberships(row) {
            let Some(network) = live::find(&rows, name) else {
                all.insert(name.to_owned(), empty("", name));
                continue;
            };
            let addresses = connected.as_ref().and_then(|all| all.get(&network.id));
            let addresses = addresses.cloned().unwrap_or_default();
            let mac = mac(wish.mac.as_deref(), &addresses);
            let mut names = live::own_names(row);
            names.extend(live::shared_names(row, wish));
            let view = EndpointView {
                gateways: match addresses.is_empty() || network.spec.internal {
                    true => Vec::new(),
                    false => network.subnets.iter().map(|one| one.gateway).collect(),
                },
                addresses,
                mac,
                aliases: wish.aliases.clone(),
                names,
                ..empty(&network.id, &network.name)
            };
            all.insert(network.name.clone(), view);
        }
        Ok(all)
    }
}

/// A connected container, as a network shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub container: String,
    pub name: String,
    pub mac: String,
    pub addresses: Vec<IpNet>,
}

impl Engine {
    /// Returns the connected containers of a network.
    pub fn network_members(&self, network: &Network) -> Vec<Member> {
        let live = self.networks.live();
        let members = live.iter().filter_map(|(id, found)| {
            let addresses = found.addresses.get(&network.id)?;
            // A container may have been renamed since it was connected.
            let row = self.container(id).map_or_else(|_| Arc::clone(&found.row), |one| one.row());
            let wish = row.spec.networks.get(&network.name);
            Some(Member {
                container: id.clone(),
                name: row.name.clone(),
                mac: mac(wish.and_then(|wish| wish.mac.as_deref()), addresses),
                addresses: addresses.clone(),
            })
        });
        members.collect()
    }
}

/// Returns the wished MAC address, or the one that belongs to the first IP address.
fn mac(wished: Option<&str>, addresses: &[IpNet]) -> String {
    match (wished, addresses.first()) {
        (_, None) => String::new(),
        (Some(mac), _) => mac.to_lowercase().replace('-', ":"),
        (None, Some(net)) => {
            let bytes = model::derived_mac(net.addr());
            bytes.map(|byte| format!("{byte:02x}")).join(":")
        }
    }
}

fn empty(network_id: &str, network: &str) -> EndpointView {
    EndpointView {
        network_id: network_id.to_owned(),
        network: network.to_owned(),
        addresses: Vec::new(),
        gateways: Vec::new(),
        mac: String::new(),
        aliases: Vec::new(),
        names: Vec::new(),
    }
}
