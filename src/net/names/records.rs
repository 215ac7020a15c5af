//! What one container may resolve: the names of all endpoints on its own networks. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

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
    /// Returns what a container on `networks` sees.
    fn on(state: &State, networks: &BTreeSet<&str>) -> Self {
        let mut records = Self::default();
        let leads_out = |id: &&str| state.networks.get(*id).is_some_and(|one| !one.internal);
        if networks.iter().any(leads_out) {
            records.outside = Outside::Forwarded;
        }
        for endpoint in
            state.endpoints.iter().filter(|endpoint| networks.contains(endpoint.network.as_str()))
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

/// The records of every container, made once for all that are on the same networks.
#[derive(Debug)]
pub struct Views<'a> {
    state: &'a State,
    networks: BTreeMap<&'a str, BTreeSet<&'a str>>,
    made: BTreeMap<BTreeSet<&'a str>, Arc<Records>>,
}

impl<'a> Views<'a> {
    pub fn new(state: &'a State) -> Self {
        let mut networks: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for endpoint in &state.endpoints {
            networks.entry(&endpoint.container).or_default().insert(&endpoint.network);
        }
        Self { state, networks, made: BTreeMap::new() }
    }

    /// Returns the records of `container`.
    pub fn of(&mut self, container: &str) -> Arc<Records> {
        let networks = self.networks.get(container).cloned().unwrap_or_default();
        let state = self.state;
        let made = self.made.entry(networks);
        Arc::clone(made.or_insert_with_key(|networks| Arc::new(Records::on(state, networks))))
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
            masquerade: true,
            mtu: 1500,
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

    fn records(state: &State, container: &str) -> Arc<Records> {
        Views::new(state).of(container)
    }

    #[test]
    fn a_container_sees_its_own_networks_only() {
        let records = records(&state(), "a");
        assert_eq!(records.addresses("WWW.").unwrap().len(), 2);
        assert_eq!(records.addresses("web").unwrap().len(), 2);
        assert_eq!(records.addresses("db"), None);
        assert_eq!(records.name("10.0.0.3".parse().unwrap()), Some("b.shop_front"));
        assert_eq!(records.name("10.1.0.2".parse().unwrap()), None);
    }

    #[test]
    fn internal_networks_ask_nobody_outside() {
        assert_eq!(records(&state(), "a").outside, Outside::Forwarded);
        assert_eq!(records(&state(), "c").outside, Outside::Refused);
        assert_eq!(records(&state(), "stranger").outside, Outside::Refused);
    }
}
