//! A service's place in networks: `networks`, `network_mode`, `ports`, `expose`, names and hosts.

use std::net::IpAddr;

use super::service::{Loose, Use, depend_implicitly};
use super::{Fields, Place, Report};
use crate::spec::container::{Endpoint, NetworkMode, PortSpec, Protocol};
use crate::spec::keys;
use crate::spec::value::{InvalidValue, port};

pub(super) fn read(fields: &mut Fields<'_>, loose: &mut Loose, report: &mut Report) {
    let problems = report.diagnostics.len();
    networks(fields, loose, report);
    let mode_is_sure = report.diagnostics.len() == problems;
    if let Some(place) = fields.get("ports") {
        for item in place.items(report) {
            let ports = if item.is_mapping() {
                long_port(&item, report)
            } else {
                item.parsed(report, port::parse)
            };
            let ports = ports.unwrap_or_default();
            loose.ports.extend(ports.iter().map(|port| (port.clone(), item.span())));
            loose.service.container.ports.extend(ports);
        }
        match loose.service.container.network_mode {
            NetworkMode::Container(_) => report.push(
                place
                    .error("conflict", "a container in another's network cannot publish ports")
                    .with_hint("publish them at the service that owns the network"),
            ),
            NetworkMode::Host | NetworkMode::None if mode_is_sure => {
                report.push(
                    place.warning("not-enforced", "ports are not published in this network mode"),
                );
            }
            _ => {}
        }
    }
    if let Some(place) = fields.get("expose") {
        for item in place.items(report) {
            loose.service.container.exposed.extend(item.parsed(report, expose).unwrap_or_default());
        }
    }
    if let Some(place) = fields.get("extra_hosts") {
        loose.service.container.extra_hosts = extra_hosts(&place, report);
    }
    if let Some(place) = fields.get("links") {
        for item in place.items(report) {
            if let Some(text) = item.string(report) {
                depend_implicitly(
                    loose,
                    text.split(':').next().unwrap_or_default(),
                    true,
                    &item,
                    report,
                );
                loose.service.container.links.push(format!("service:{text}"));
            }
        }
    }
    let container = &mut loose.service.container;
    if let Some(place) = fields.get("external_links") {
        container.links.extend(place.texts(report));
    }
    for (key, slot) in [
        ("dns", &mut container.dns),
        ("dns_search", &mut container.dns_search),
        ("dns_opt", &mut container.dns_options),
    ] {
        *slot = fields.get(key).map(|place| place.texts(report)).unwrap_or_default();
    }
}

fn networks(fields: &mut Fields<'_>, loose: &mut Loose, report: &mut Report) {
    let networks = fields.get("networks");
    let mac = fields.get("mac_address").and_then(|place| mac_address(&place, report));
    if let Some(place) = fields.get("network_mode") {
        if let Some(networks) = &networks {
            let error = place.error("conflict", "network_mode and networks exclude each other");
            report.push(
                error
                    .with_label(networks.key_span, "the networks are here")
                    .with_hint("remove one of them"),
            );
        }
        loose.service.container.network_mode = network_mode(&place, loose, report);
        return;
    }
    let mut order = Vec::new();
    match networks {
        None => order.push((
            0_i64,
            Use { key: "default".to_owned(), span: loose.span },
            Endpoint::default(),
        )),
        Some(place) if place.is_mapping() => {
            for (key, place) in place.entries(report) {
                let (priority, endpoint) = endpoint(&place, report);
                order.push((priority, Use { key: key.to_owned(), span: place.key_span }, endpoint));
            }
        }
        Some(place) => {
            for item in place.items_or(report, "a list or a mapping of networks") {
                let Some(key) = item.string(report) else { continue };
                order.push((0, Use { key, span: item.span() }, Endpoint::default()));
            }
        }
    }
    // Compose connects by falling priority; the sort keeps the file's order among equals.
    order.sort_by_key(|(priority, ..)| std::cmp::Reverse(*priority));
    for (index, (_, used, mut endpoint)) in order.into_iter().enumerate() {
        if index == 0 {
            loose.service.container.network_mode = NetworkMode::Networks(used.key.clone());
            endpoint.mac = endpoint.mac.or_else(|| mac.clone());
        }
        loose.service.container.networks.insert(used.key.clone(), endpoint);
        loose.networks.push(used);
    }
    if loose.networks.is_empty() {
        loose.service.container.network_mode = NetworkMode::None;
    }
}

fn network_mode(place: &Place<'_>, loose: &mut Loose, report: &mut Report) -> NetworkMode {
    let Some(text) = place.text(report) else { return NetworkMode::None };
    if let Some(service) = text.strip_prefix("service:") {
        depend_implicitly(loose, service, true, place, report);
        return NetworkMode::Container(text.to_owned());
    }
    if let Some(container) = text.strip_prefix("container:").filter(|id| !id.is_empty()) {
        return NetworkMode::Container(container.to_owned());
    }
    match text {
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        "bridge" | "default" => NetworkMode::Default,
        _ => {
            let problem = format!("{text:?} is not a network mode");
            let hint = "expected host, none, bridge, service:NAME or container:NAME; a network goes under `networks`";
            report.push(place.error("invalid-value", problem).with_hint(hint));
            NetworkMode::None
        }
    }
}

/// Returns the endpoint and its priority.
fn endpoint(place: &Place<'_>, report: &mut Report) -> (i64, Endpoint) {
    let mut endpoint = Endpoint::default();
    if place.is_null() {
        return (0, endpoint);
    }
    let Some(mut fields) = place.fields(&keys::ENDPOINT, report) else { return (0, endpoint) };
    endpoint.aliases = fields.get("aliases").map(|place| place.texts(report)).unwrap_or_default();
    endpoint.ipv4 =
        fields.get("ipv4_address").and_then(|place| place.convert(report, "an IPv4 address"));
    endpoint.ipv6 =
        fields.get("ipv6_address").and_then(|place| place.convert(report, "an IPv6 address"));
    endpoint.mac = fields.get("mac_address").and_then(|place| mac_address(&place, report));
    endpoint.driver_opts =
        fields.get("driver_opts").map(|place| place.map(report)).unwrap_or_default();
    endpoint.gw_priority =
        fields.get("gw_priority").and_then(|place| place.integer(report)).unwrap_or(0);
    let priority = fields.get("priority").and_then(|place| place.integer(report)).unwrap_or(0);
    fields.not_enforced(report, &[("link_local_ips", ""), ("interface_name", "")]);
    fields.finish(report);
    (priority, endpoint)
}

fn mac_address(place: &Place<'_>, report: &mut Report) -> Option<String> {
    place.parsed(report, |text| {
        let parts: Vec<&str> = text.split([':', '-']).collect();
        let valid = parts.len() == 6
            && parts.iter().all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok());
        let invalid = || {
            InvalidValue::new(
                text,
                "MAC address",
                "expected six pairs of hex digits, as in 02:42:ac:11:00:02",
            )
        };
        valid.then(|| parts.join(":").to_ascii_lowercase()).ok_or_else(invalid)
    })
}

fn long_port(place: &Place<'_>, report: &mut Report) -> Option<Vec<PortSpec>> {
    let hint = "expected a port or a range, as in 8080 or 8000-8010";
    let mut fields = place.fields(&keys::PORT, report)?;
    let range = |text: &str| port::range(text).ok_or_else(|| InvalidValue::new(text, "port", hint));
    let target = fields.get("target");
    let container = target.as_ref().and_then(|place| place.parsed(report, range));
    // An empty `published` comes from an unset variable, and means any port.
    let published = fields.get("published").filter(|place| place.scalar() != Some(""));
    let host = published.as_ref().and_then(|place| place.parsed(report, range));
    let protocol = match fields.get("protocol") {
        Some(place) => place.parsed(report, port::protocol)?,
        None => Protocol::Tcp,
    };
    let addresses = match fields.get("host_ip") {
        Some(place) => place.parsed(report, |text| {
            port::addresses(text).ok_or_else(|| {
                InvalidValue::new(text, "address", "expected an IP address or localhost")
            })
        })?,
        None => vec![None],
    };
    if let Some(place) = fields.get("mode") {
        place.word(report, &keys::PORT_MODES);
    }
    let _ = (fields.get("name"), fields.get("app_protocol"));
    fields.finish(report);
    if target.is_none() {
        report.push(
            place
                .error("missing-key", "a port needs a target")
                .with_hint("the target is the container's port"),
        );
    }
    if published.is_some() && host.is_none() {
        return None;
    }
    let ports = port::expand(container?, host, protocol, &addresses);
    if ports.is_none() {
        report.push(
            place.error("invalid-value", "target and published are ranges of different lengths"),
        );
    }
    ports
}

/// Reads `port[-port][/protocol]` as one `port/protocol` each.
fn expose(text: &str) -> Result<Vec<String>, InvalidValue> {
    let (ports, word) = text.split_once('/').unwrap_or((text, "tcp"));
    port::protocol(word)?;
    let invalid = || {
        InvalidValue::new(text, "port", "expected a port or a range, as in 3000 or 8000-8005/udp")
    };
    let (first, last) = port::range(ports).ok_or_else(invalid)?;
    Ok((first..=last).map(|port| format!("{port}/{}", word.to_ascii_lowercase())).collect())
}

/// Reads `host=ip`, `host:ip` or a mapping from a host to its addresses, as `host:ip` each.
fn extra_hosts(place: &Place<'_>, report: &mut Report) -> Vec<String> {
    let mut hosts = Vec::new();
    if place.is_mapping() {
        for (host, place) in place.entries(report) {
            for item in place.one_or_many(report) {
                hosts.extend(item.parsed(report, |address| host_entry(host, address)));
            }
        }
        return hosts;
    }
    for item in place.items_or(report, "a mapping or a list of `host=address`") {
        hosts.extend(item.parsed(report, |text| {
            let (host, address) =
                text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
            host_entry(host, address)
        }));
    }
    hosts
}

fn host_entry(host: &str, address: &str) -> Result<String, InvalidValue> {
    let bare =
        address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    if host.is_empty() || (bare != "host-gateway" && bare.parse::<IpAddr>().is_err()) {
        let text = format!("{host}={address}");
        return Err(InvalidValue::new(
            &text,
            "host entry",
            "expected host=address, as in db=10.0.0.5 or host=host-gateway",
        ));
    }
    Ok(format!("{host}:{bare}"))
}
