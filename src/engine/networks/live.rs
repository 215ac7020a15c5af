//! What connected containers mean for the packet rules, names and host ports: rows in, the driver's state out. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::engine::state::containers::{Container, Phase};
use crate::engine::state::networks::Network;
use crate::net::model::{self, EndpointConfig, NetworkConfig, Publication, State};
use crate::net::netd::Sandbox;
use crate::reconcile::observed::Health;
use crate::spec::container::{Endpoint, NetworkMode, PortSpec, Protocol};

/// Docker's option for the host address of ports that name none.
pub(super) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";

/// A container whose sandbox is connected.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Live {
    pub(super) sandbox: Sandbox,
    /// By network id.
    pub(super) addresses: BTreeMap<String, Vec<IpNet>>,
    /// Whether its program runs, so that names and ports lead to it.
    pub(super) serves: bool,
    pub(super) row: Arc<Container>,
}

/// Rows of networks by id.
pub(super) type Rows = BTreeMap<String, Arc<Network>>;

/// Returns the network of `rows` that `word` is the name or id of.
pub(super) fn find<'a>(rows: &'a Rows, word: &str) -> Option<&'a Arc<Network>> {
    rows.get(word).or_else(|| rows.values().find(|row| row.name == word))
}

/// Returns the networks that a container is on with what it asks of each: the one with the default route first, the
/// others by name. None in `host`, `none` and another container's sandbox.
pub(super) fn memberships(row: &Container) -> Vec<(&str, &Endpoint)> {
    if !has_endpoints(row) {
        return Vec::new();
    }
    let mut all: Vec<(&str, &Endpoint)> =
        row.spec.networks.iter().map(|(name, endpoint)| (name.as_str(), endpoint)).collect();
    all.sort_by_key(|(name, endpoint)| (std::cmp::Reverse(endpoint.gw_priority), *name));
    all
}

pub(super) fn has_endpoints(row: &Container) -> bool {
    matches!(row.spec.network_mode, NetworkMode::Default | NetworkMode::Networks(_))
}

/// Returns the whole state of all `live` containers, which are keyed by id.
pub(super) fn state(
    networks: &BTreeMap<String, NetworkConfig>,
    rows: &Rows,
    live: &BTreeMap<String, Live>,
    host_has_ipv6: bool,
) -> State {
    let balanced = balanced(live);
    let served: BTreeSet<_> = live
        .values()
        .filter(|container| container.serves)
        .filter_map(|container| service_of(&container.row))
        .collect();
    // Who is looked up before anybody serves is found all the same, as by a first node that looks for its peers.
    let named = |id: &str, container: &Live| match container.serves {
        true => balanced.contains(id),
        false => service_of(&container.row).is_none_or(|service| !served.contains(&service)),
    };
    let mut endpoints = Vec::new();
    for (id, container) in live {
        for (name, wish) in memberships(&container.row) {
            let Some(network) = find(rows, name) else { continue };
            let Some(addresses) = container.addresses.get(&network.id) else { continue };
            endpoints.push(EndpointConfig {
                container: id.clone(),
                network: network.id.clone(),
                addresses: addresses.clone(),
                mac: None,
                aliases: match named(id, container) {
                    true => shared_names(&container.row, wish),
                    false => Vec::new(),
                },
                names: own_names(&container.row),
            });
        }
    }
    let publications = publications(rows, live, &balanced, host_has_ipv6);
    State { networks: networks.clone(), endpoints, publications }
}

/// Names that mean this container alone: its name, short id and host name.
pub(super) fn own_names(row: &Container) -> Vec<String> {
    let short = row.id.get(..12).unwrap_or(&row.id).to_owned();
    let mut names = vec![row.name.clone(), short];
    if let Some(hostname) = row.spec.hostname.as_ref().filter(|name| !names.contains(name)) {
        names.push(hostname.clone());
    }
    names
}

/// Names that others may share: aliases, and the service of a stack's replica.
pub(super) fn shared_names(row: &Container, wish: &Endpoint) -> Vec<String> {
    let mut names = wish.aliases.clone();
    // A one-off container only borrows the service's configuration.
    let service = row.replica.as_ref().filter(|replica| !replica.oneoff);
    if let Some(service) =
        service.map(|replica| &replica.service).filter(|name| !names.contains(name))
    {
        names.push(service.clone());
    }
    names
}

/// Returns those that take traffic: of a service with a replica that is healthy and stays only such ones, else all that
/// serve.
pub(super) fn balanced(live: &BTreeMap<String, Live>) -> BTreeSet<&str> {
    let serving = || live.iter().filter(|(_, container)| container.serves);
    let is_well = |row: &Container| {
        row.phase != Phase::Stopping
            && row.health.as_ref().is_none_or(|monitor| monitor.status() == Health::Healthy)
    };
    let well: BTreeSet<_> = serving()
        .filter(|(_, container)| is_well(&container.row))
        .filter_map(|(_, container)| service_of(&container.row))
        .collect();
    serving()
        .filter(|(_, container)| {
            let has_better = service_of(&container.row).is_some_and(|one| well.contains(&one));
            is_well(&container.row) || !has_better
        })
        .map(|(id, _)| id.as_str())
        .collect()
}

/// Returns the stack and service that the container is a replica of.
pub(super) fn service_of(row: &Container) -> Option<(&str, &str)> {
    let replica = row.replica.as_ref().filter(|replica| !replica.oneoff)?;
    Some((&replica.stack, &replica.service))
}

fn publications(
    rows: &Rows,
    live: &BTreeMap<String, Live>,
    balanced: &BTreeSet<&str>,
    host_has_ipv6: bool,
) -> Vec<Publication> {
    let mut all: BTreeMap<(IpAddr, u16, model::Protocol), Vec<SocketAddr>> = BTreeMap::new();
    for (id, container) in live.iter().filter(|(_, container)| container.serves) {
        for port in &container.row.bound_ports {
            for host_ip in host_addresses(rows, &container.row, port, host_has_ipv6) {
                let key = (host_ip, port.host.0, protocol(port.protocol));
                let backends = all.entry(key).or_default();
                if balanced.contains(id.as_str()) {
                    backends.extend(backend(rows, container, host_ip, port.container));
                }
            }
        }
    }
    let publication = |((host_ip, host_port, protocol), backends)| Publication {
        host_ip,
        host_port,
        protocol,
        backends,
    };
    all.into_iter().map(publication).collect()
}

/// Returns the host addresses that a port listens on.
pub(super) fn host_addresses(
    rows: &Rows,
    row: &Container,
    port: &PortSpec,
    host_has_ipv6: bool,
) -> Vec<IpAddr> {
    if let Some(address) = port.host_ip {
        return vec![address];
    }
    let network = memberships(row).first().and_then(|(name, _)| find(rows, name));
    let bound = network.and_then(|network| network.spec.driver_opts.get(HOST_BINDING));
    match bound.and_then(|text| text.parse::<IpAddr>().ok()) {
        Some(address) if !address.is_unspecified() => vec![address],
        _ if host_has_ipv6 => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        _ => vec![Ipv4Addr::UNSPECIFIED.into()],
    }
}

/// Returns where a published port leads: an address of the host address's family on the first network that is not
/// internal, else one of the other family, which takes the proxy.
fn backend(rows: &Rows, container: &Live, host_ip: IpAddr, port: u16) -> Option<SocketAddr> {
    let addresses: Vec<IpAddr> = memberships(&container.row)
        .into_iter()
        .filter_map(|(name, _)| find(rows, name))
        .filter(|network| !network.spec.internal)
        .filter_map(|network| container.addresses.get(&network.id))
        .flatten()
        .map(IpNet::addr)
        .collect();
    let same = addresses.iter().find(|address| address.is_ipv4() == host_ip.is_ipv4());
    let address = same.or_else(|| addresses.first().filter(|_| host_ip.is_ipv6()))?;
    Some(SocketAddr::new(*address, port))
}

pub(super) fn protocol(protocol: Protocol) -> model::Protocol {
    match protocol {
        Protocol::Tcp => model::Protocol::Tcp,
        Protocol::Udp => model::Protocol::Udp,
        Protocol::Sctp => model::Protocol::Sctp,
    }
}
