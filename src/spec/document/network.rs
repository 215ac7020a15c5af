//! Top-level `networks:`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Place, Report};
use crate::spec::keys;
use crate::spec::stack::{Network, SubnetSpec};

pub(crate) fn networks(place: &Place<'_>, report: &mut Report) -> BTreeMap<String, Network> {
    let entries = place.entries(report);
    entries.into_iter().map(|(key, place)| (key.to_owned(), network(&place, report))).collect()
}

fn network(place: &Place<'_>, report: &mut Report) -> Network {
    let mut network = Network::default();
    if place.is_null() {
        return network;
    }
    let Some(mut fields) = place.fields(&keys::NETWORK, report) else { return network };
    network.name = fields.get("name").and_then(|place| place.string(report));
    (network.external, network.name) = external(fields.get("external"), network.name, report);
    for (key, slot) in [
        ("internal", &mut network.internal),
        ("attachable", &mut network.attachable),
        ("enable_ipv6", &mut network.enable_ipv6),
    ] {
        *slot = fields.get(key).and_then(|place| place.flag(report)).unwrap_or(false);
    }
    if let Some(place) = fields.get("enable_ipv4")
        && place.flag(report) == Some(false)
    {
        report.push(place.error("unsupported", "a network without IPv4 is not supported"));
    }
    if let Some(place) = fields.get("driver") {
        network.driver = place.word(report, &keys::NETWORK_DRIVERS).map(str::to_owned);
    }
    network.driver_opts =
        fields.get("driver_opts").map(|place| place.map(report)).unwrap_or_default();
    network.labels = fields
        .get("labels")
        .map(|place| super::service::labels(&place, report))
        .unwrap_or_default();
    if let Some(place) = fields.get("ipam") {
        network.subnets = ipam(&place, report);
    }
    fields.finish(report);
    network
}

/// Reads `external:`, a flag or the old `{name: …}`.
pub(crate) fn external(
    place: Option<Place<'_>>,
    name: Option<String>,
    report: &mut Report,
) -> (bool, Option<String>) {
    let Some(place) = place else { return (false, name) };
    if !place.is_mapping() {
        return (place.flag(report).unwrap_or(false), name);
    }
    let Some(mut fields) = place.fields(&keys::EXTERNAL, report) else { return (true, name) };
    let old = fields.get("name").and_then(|place| place.string(report));
    fields.finish(report);
    (true, name.or(old))
}

fn ipam(place: &Place<'_>, report: &mut Report) -> Vec<SubnetSpec> {
    let mut subnets = Vec::new();
    let Some(mut fields) = place.fields(&keys::IPAM, report) else { return subnets };
    if let Some(place) = fields.get("driver") {
        place.word(report, &["default"]);
    }
    fields.not_enforced(report, &[("options", "")]);
    if let Some(config) = fields.get("config") {
        for place in config.items(report) {
            subnets.extend(subnet(&place, report));
        }
    }
    fields.finish(report);
    subnets
}

fn subnet(place: &Place<'_>, report: &mut Report) -> Option<SubnetSpec> {
    let mut fields = place.fields(&keys::SUBNET, report)?;
    let subnet: Option<ipnet::IpNet> =
        fields.get("subnet").and_then(|place| place.convert(report, "a subnet"));
    let gateway_place = fields.get("gateway");
    let gateway =
        gateway_place.as_ref().and_then(|place| place.convert::<IpAddr>(report, "an address"));
    let range_place = fields.get("ip_range");
    let ip_range =
        range_place.as_ref().and_then(|place| place.convert::<ipnet::IpNet>(report, "a subnet"));
    let mut reserved = Vec::new();
    if let Some(place) = fields.get("aux_addresses") {
        for (_, place) in place.entries(report) {
            reserved.extend(place.convert::<IpAddr>(report, "an address"));
        }
    }
    fields.finish(report);
    let Some(subnet) = subnet else {
        if place.node.get("subnet").is_none() {
            report.push(place.error("missing-key", "an ipam configuration needs a subnet"));
        }
        return None;
    };
    let subnet = subnet.trunc();
    if let (Some(address), Some(place)) = (gateway, gateway_place)
        && !subnet.contains(&address)
    {
        report
            .push(place.error("invalid-value", format!("{address} is not in the subnet {subnet}")));
    }
    if let (Some(range), Some(place)) = (ip_range, range_place)
        && !subnet.contains(&range)
    {
        report.push(place.error("invalid-value", format!("{range} is not in the subnet {subnet}")));
    }
    Some(SubnetSpec { subnet, gateway, ip_range, reserved })
}
