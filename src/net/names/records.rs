//! What one container may resolve: the names of all endpoints on its own networks. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::model::State;

/// The names that one container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// Lower-case name → addresses, in a fixed order.
    forward: BTreeMap<String, BTreeSet<IpAddr>>,
    reverse: BTreeMap<IpAddr, String>,
    /// Whether other names may be asked outside.
    pub outside: Outside,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outside {
    /// Some network of the container leads out.
    Forwarded,
    /// All its networks are internal: a query could carry data out.
    #[default]
    Refused,
}

impl Records {
    /// Returns the records of `container`.
    pub fn of(state: &State, container: &str) -> Self {
        let mine: BTreeSet<&str> = state
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.container == container)
            .map(|endpoint| endpoint.network.as_str())
            .collect();
        let mut records = Self::default();
        if mine.iter().any(|id| state.networks.get(*id).is_some_and(|network| !network.internal)) {
            records.outside = Outside::Forwarded;
        }
        for endpoint in
            state.endpoints.iter().filter(|endpoint| mine.contains(endpoint.network.as_str()))
        {
            let addresses = endpoint.addresses.iter().map(|net| net.addr());
            for name in endpoint.names.iter().chain(&endpoint.aliases) {
                records
                    .forward
                    .entry(name.to_ascii_lowercase())
                    .or_default()
                    .extend(addresses.clone());
            }
            let network = state
                .networks
                .get(&endpoint.network)
                .map_or(&endpoint.network, |network| &network.name);
            if let Some(name) = endpoint.names.first() {
                for address in addresses {
                    records.reverse.insert(address, format!("{name}.{network}"));
                }
            }
        }
        records
    }

    /// Returns a name's addresses of both families; `None` when the name is not ours.
    pub fn addresses(&self, name: &str) -> Option<&BTreeSet<IpAddr>> {
        self.forward.get(&name.trim_end_matches('.').to_ascii_lowercase())
    }

    /// Returns the name of an address on one of the container's networks.
    pub fn name(&self, address: IpAddr) -> Option<&str> {
        self.reverse.get(&address).map(String::as_str)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
pub(super) mod tests {
    use super::*;
    use crate::net::model::{EndpointConfig, NetworkConfig};

    fn endpoint(container: &str, network: &str, address: &str, alias: &str) -> EndpointConfig {
        EndpointConfig {
            container: container.to_owned(),
            network: network.to_owned(),
            addresses: vec![address.parse().unwrap()],
            mac: None,
            aliases: vec![alias.to_owned()],
            names: vec![container.to_owned(), "Web".to_owned()],
        }
    }

    pub(in crate::net::names) fn state() -> State {
        let network = |id: &str, internal| NetworkConfig {
            id: id.to_owned(),
            name: format!("shop_{id}"),
            bridge: id.to_owned(),
            subnets: Vec::new(),
            internal,
            ipv6: false,
        };
        let networks = [("front", network("front", false)), ("back", network("back", true))];
        State {
            networks: networks.into_iter().map(|(id, network)| (id.to_owned(), network)).collect(),
            endpoints: vec![
                endpoint("a", "front", "10.0.0.2/24", "www"),
                endpoint("b", "front", "10.0.0.3/24", "www"),
                endpoint("c", "back", "10.1.0.2/24", "db"),
            ],
            publications: Vec::new(),
        }
    }

    #[test]
    fn a_container_sees_its_own_networks_only() {
        let records = Records::of(&state(), "a");
        assert_eq!(records.addresses("WWW.").unwrap().len(), 2);
        assert_eq!(records.addresses("web").unwrap().len(), 2);
        assert_eq!(records.addresses("db"), None);
        assert_eq!(records.name("10.0.0.3".parse().unwrap()), Some("b.shop_front"));
        assert_eq!(records.name("10.1.0.2".parse().unwrap()), None);
    }

    #[test]
    fn internal_networks_ask_nobody_outside() {
        assert_eq!(Records::of(&state(), "a").outside, Outside::Forwarded);
        assert_eq!(Records::of(&state(), "c").outside, Outside::Refused);
        assert_eq!(Records::of(&state(), "stranger").outside, Outside::Refused);
    }
}
