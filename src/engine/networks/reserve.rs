//! Addresses of containers, inside the transactions that need them.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use super::live::{self, Rows};
use super::rows::has_bridge;
use super::{DEFAULT_NETWORK, purge};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::addresses::{self, Wish};
use crate::engine::state::containers::Container;
use crate::engine::state::networks::Network;
use crate::engine::state::{StateError, Transaction, ports};
use crate::spec::container::{Endpoint, NetworkMode};

impl Engine {
    /// Inside a create's transaction: settles the container's networks in its row and gives it an address on each.
    /// An address that the spec fixes may still be another's, who has until the start to leave; so may host ports.
    pub(crate) fn reserve_endpoints(
        &self,
        tx: &Transaction<'_>,
        row: &mut Container,
    ) -> Result<(), EngineError> {
        let rows = self.networks.rows();
        settle(&rows, row)?;
        self.reserve_addresses(tx, &rows, row, At::Creation)
    }

    /// Gives addresses and ports back, inside a removal's transaction.
    pub(crate) fn release_endpoints(
        &self,
        tx: &Transaction<'_>,
        container: &str,
    ) -> Result<(), EngineError> {
        addresses::release(tx, container)?;
        Ok(ports::release(tx, container)?)
    }

    /// Reserves what the container lacks on its networks.
    pub(super) fn reserve_addresses(
        &self,
        tx: &Transaction<'_>,
        rows: &Rows,
        row: &Container,
        at: At,
    ) -> Result<(), EngineError> {
        let held = addresses::of_container(tx, &row.id)?;
        for (name, wish) in live::memberships(row) {
            let missing = || EngineError::NoNetwork { word: name.to_owned() };
            let network = live::find(rows, name).ok_or_else(missing)?;
            let statics = [wish.ipv4.map(IpAddr::from), wish.ipv6.map(IpAddr::from)];
            for (family, fixed) in [(Wish::AnyV4, statics[0]), (Wish::AnyV6, statics[1])] {
                let is_v4 = family == Wish::AnyV4;
                let has = |wanted: Option<IpAddr>| {
                    held.iter().any(|(id, address)| {
                        *id == network.id
                            && address.is_ipv4() == is_v4
                            && wanted.is_none_or(|wanted| wanted == *address)
                    })
                };
                match fixed {
                    _ if has(fixed) => {}
                    Some(address) => self.reserve_fixed(tx, network, &row.id, address, at)?,
                    None => {
                        let kept = self.kept_addresses(network, &row.id);
                        let reserve =
                            || addresses::reserve(tx, &network.id, &row.id, family, &kept);
                        match reserve() {
                            Err(StateError::Exhausted { .. }) if purge::released_now(tx)? => {
                                reserve()?;
                            }
                            reserved => drop(reserved?),
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Reserves an address that the spec fixes. One that belongs to a container without a running program changes
    /// hands, as docker's containers have theirs while they run.
    fn reserve_fixed(
        &self,
        tx: &Transaction<'_>,
        network: &Network,
        container: &str,
        address: IpAddr,
        at: At,
    ) -> Result<(), EngineError> {
        let taken = addresses::reserve(tx, &network.id, container, Wish::Exactly(address), &[]);
        let Err(StateError::AddressTaken { .. }) = taken else {
            return taken.map(drop).map_err(EngineError::from);
        };
        match addresses::owner(tx, &network.id, address)? {
            Some(owner) if !self.is_connected(owner.as_deref()) => {
                if at == At::Start {
                    purge::now(address);
                    addresses::take_over(tx, &network.id, address, container)?;
                }
                Ok(())
            }
            Some(_) if at == At::Creation => Ok(()),
            _ => taken.map(drop).map_err(EngineError::from),
        }
    }

    fn is_connected(&self, container: Option<&str>) -> bool {
        container.is_some_and(|id| self.networks.live().contains_key(id))
    }

    /// Returns the addresses that no container gets without asking for them.
    fn kept_addresses(&self, network: &Network, container: &str) -> Vec<IpAddr> {
        let mut kept: Vec<IpAddr> =
            network.spec.subnets.iter().flat_map(|one| one.reserved.clone()).collect();
        let handles = self.containers.read().unwrap_or_else(PoisonError::into_inner);
        for handle in handles.values().filter(|handle| handle.id() != container) {
            let row = handle.row();
            if let Some(wish) = row.spec.networks.get(&network.name) {
                kept.extend(wish.ipv4.map(IpAddr::from));
                kept.extend(wish.ipv6.map(IpAddr::from));
            }
        }
        kept
    }
}

/// When addresses are reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Creation,
    Start,
}

/// Writes the container's networks into its spec by their names, so that what connects it has one place to look.
fn settle(rows: &Rows, row: &mut Container) -> Result<(), EngineError> {
    let first = match &row.spec.network_mode {
        NetworkMode::Default => DEFAULT_NETWORK.to_owned(),
        NetworkMode::Networks(first) => first.clone(),
        NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_) => return Ok(()),
    };
    let mut networks = std::mem::take(&mut row.spec.networks);
    if !first.is_empty() {
        networks.entry(first).or_default();
    }
    for (word, endpoint) in networks {
        let network = live::find(rows, &word).ok_or(EngineError::NoNetwork { word })?;
        check(network, &endpoint)?;
        row.spec.networks.insert(network.name.clone(), endpoint);
    }
    Ok(())
}

/// Refuses a wish that the network can't meet; the messages are docker's.
pub(super) fn check(network: &Arc<Network>, wish: &Endpoint) -> Result<(), EngineError> {
    let invalid = |message: String| Err(EngineError::Invalid { message });
    if !has_bridge(network) {
        let message =
            "container cannot be connected to multiple networks with one of the networks in \
                       private (none) or host mode"
                .to_owned();
        return Err(EngineError::Conflict { message });
    }
    let fixed = [wish.ipv4.map(IpAddr::from), wish.ipv6.map(IpAddr::from)];
    for address in fixed.into_iter().flatten() {
        if network.name == DEFAULT_NETWORK {
            return invalid(
                "user specified IP address is supported on user defined networks only".to_owned(),
            );
        }
        let is_configured = network.spec.subnets.iter().any(|one| one.subnet.contains(&address));
        if network.spec.subnets.is_empty() {
            return invalid(
                "user specified IP address is supported only when connecting to networks with user \
                 configured subnets"
                    .to_owned(),
            );
        }
        if !is_configured {
            return invalid(format!(
                "no configured subnet or ip-range of network {} contains the IP address {address}",
                network.name
            ));
        }
    }
    if let Some(mac) = &wish.mac {
        parse_mac(mac)?;
    }
    if let Some(key) = wish.driver_opts.keys().next() {
        return invalid(format!("network {}: the endpoint option {key} is unknown", network.name));
    }
    Ok(())
}

/// Reads six hex pairs joined by colons or dashes.
pub(super) fn parse_mac(text: &str) -> Result<[u8; 6], EngineError> {
    let invalid = || EngineError::Invalid { message: format!("invalid MAC address: {text}") };
    let pairs: Vec<&str> = text.split([':', '-']).collect();
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|pair| u8::from_str_radix(pair, 16).ok().filter(|_| pair.len() == 2))
        .collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(invalid)
}
