//! `NetworkSettings`, and the ports of a list's entry.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::api::wire::host_config_out::{or_null, port, protocol_word};
use crate::engine::containers::view::{EndpointView, View};
use crate::engine::status;
use crate::spec::container::{NetworkMode, PortSpec};

/// The whole object of `inspect`.
pub(super) fn write(view: &View, sandbox: &str) -> Value {
    let runs = is_connected(view);
    // The endpoint on the default bridge, which old clients read here.
    let first = view.endpoints.iter().find(|end| end.network == "bridge");
    let (v4, v6) = first.map(addresses).unwrap_or_default();
    json!({
        "Bridge": "",
        "SandboxID": if runs { view.row.id.as_str() } else { "" },
        "SandboxKey": if runs { sandbox } else { "" },
        "Ports": if runs && has_ports(view) { ports(view) } else { json!({}) },
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": first.filter(|_| runs).map_or_else(String::new, |end| endpoint_id(view, end)),
        "Gateway": v4.gateway,
        "GlobalIPv6Address": v6.address,
        "GlobalIPv6PrefixLen": v6.prefix,
        "IPAddress": v4.address,
        "IPPrefixLen": v4.prefix,
        "IPv6Gateway": v6.gateway,
        "MacAddress": first.map_or("", |end| end.mac.as_str()),
        "Networks": networks(view),
    })
}

/// Endpoints by network. `host` and `none` are networks too, without an address.
pub(super) fn networks(view: &View) -> Value {
    let mut networks = Map::new();
    for end in &view.endpoints {
        networks.insert(end.network.clone(), network(view, end));
    }
    let alone = match view.row.spec.network_mode {
        NetworkMode::Host => Some("host"),
        NetworkMode::None => Some("none"),
        _ => None,
    };
    if let Some(name) = alone.filter(|_| networks.is_empty()) {
        let end = EndpointView {
            network_id: String::new(),
            network: name.to_owned(),
            addresses: Vec::new(),
            gateways: Vec::new(),
            mac: String::new(),
            aliases: Vec::new(),
            names: Vec::new(),
        };
        networks.insert(name.to_owned(), network(view, &end));
    }
    Value::Object(networks)
}

fn network(view: &View, end: &EndpointView) -> Value {
    let (v4, v6) = addresses(end);
    let asked = view.row.spec.networks.get(&end.network);
    let ipam = asked.filter(|asked| asked.ipv4.is_some() || asked.ipv6.is_some()).map(|asked| {
        let mut ipam = Map::new();
        if let Some(address) = asked.ipv4 {
            ipam.insert("IPv4Address".to_owned(), json!(address));
        }
        if let Some(address) = asked.ipv6 {
            ipam.insert("IPv6Address".to_owned(), json!(address));
        }
        ipam
    });
    json!({
        "IPAMConfig": ipam,
        "Links": null,
        "Aliases": or_null(end.aliases.clone()),
        "MacAddress": end.mac,
        "DriverOpts": asked.map(|asked| &asked.driver_opts).filter(|options| !options.is_empty()),
        "GwPriority": asked.map_or(0, |asked| asked.gw_priority),
        "NetworkID": end.network_id,
        "EndpointID": if is_connected(view) { endpoint_id(view, end) } else { String::new() },
        "Gateway": v4.gateway,
        "IPAddress": v4.address,
        "IPPrefixLen": v4.prefix,
        "IPv6Gateway": v6.gateway,
        "GlobalIPv6Address": v6.address,
        "GlobalIPv6PrefixLen": v6.prefix,
        "DNSNames": or_null(end.names.clone()),
    })
}

/// Endpoints have no id of their own here: one is made of both ends' ids, which name exactly one.
fn endpoint_id(view: &View, end: &EndpointView) -> String {
    let half = |id: &str| id.chars().take(32).collect::<String>();
    half(&end.network_id) + &half(&view.row.id)
}

/// One family's address as docker writes it; all empty when there is none.
#[derive(Debug, Default)]
struct Address {
    address: String,
    prefix: u8,
    gateway: String,
}

fn addresses(end: &EndpointView) -> (Address, Address) {
    let family = |v4: bool| {
        let net = end.addresses.iter().find(|net| net.addr().is_ipv4() == v4);
        let gateway = end.gateways.iter().find(|gateway| gateway.is_ipv4() == v4);
        net.map_or_else(Address::default, |net| Address {
            address: net.addr().to_string(),
            prefix: net.prefix_len(),
            gateway: gateway.map_or_else(String::new, ToString::to_string),
        })
    };
    (family(true), family(false))
}

fn is_connected(view: &View) -> bool {
    matches!(status::state(view.row.phase), "running" | "paused")
}

/// Without a network of its own a container has no ports, whatever it exposes.
fn has_ports(view: &View) -> bool {
    matches!(view.row.spec.network_mode, NetworkMode::Default | NetworkMode::Networks(_))
}

/// Exposed ports with their bindings, `null` for one that is not published.
fn ports(view: &View) -> Value {
    let mut ports: BTreeMap<String, Option<Vec<Value>>> = BTreeMap::new();
    for exposed in exposed(view) {
        ports.insert(exposed, None);
    }
    for bound in &view.row.bound_ports {
        let bindings = ports.entry(port(bound.container, bound.protocol)).or_default();
        for address in host_addresses(bound) {
            let binding = json!({ "HostIp": address, "HostPort": bound.host.0.to_string() });
            bindings.get_or_insert_default().push(binding);
        }
    }
    json!(ports)
}

/// Entries of `Ports` in a list.
pub(super) fn summary(view: &View) -> Vec<Value> {
    if !is_connected(view) || !has_ports(view) {
        return Vec::new();
    }
    let mut published = BTreeSet::new();
    let mut entries = Vec::new();
    for bound in &view.row.bound_ports {
        published.insert(port(bound.container, bound.protocol));
        for address in host_addresses(bound) {
            entries.push(json!({
                "IP": address,
                "PrivatePort": bound.container,
                "PublicPort": bound.host.0,
                "Type": protocol_word(bound.protocol),
            }));
        }
    }
    for exposed in exposed(view).difference(&published) {
        let (number, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
        entries
            .push(json!({ "PrivatePort": number.parse::<u16>().unwrap_or(0), "Type": protocol }));
    }
    entries
}

fn exposed(view: &View) -> BTreeSet<String> {
    view.facts.exposed.iter().chain(&view.row.spec.exposed).cloned().collect()
}

/// Without an address a port is published on both families.
fn host_addresses(bound: &PortSpec) -> Vec<String> {
    match bound.host_ip {
        Some(address) => vec![address.to_string()],
        None => vec!["0.0.0.0".to_owned(), "::".to_owned()],
    }
}
