//! Host ports that two services of a stack publish at once: only the first one to start would get them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::{Loose, Report};
use crate::diagnostic::{Diagnostic, Span};
use crate::spec::container::{NetworkMode, PortSpec, Protocol};
use crate::spec::name::ServiceName;

/// A published port, and where the file says it.
struct Published<'a> {
    service: &'a ServiceName,
    port: &'a PortSpec,
    path: &'a str,
    span: Span,
}

/// Reports each port that is published twice, at the later place, with the earlier one beside it. Replicas of one
/// service share their ports.
pub(super) fn check(
    services: &BTreeMap<ServiceName, Loose>,
    disabled: &BTreeSet<ServiceName>,
    report: &mut Report,
) {
    let mut by_number: BTreeMap<(Protocol, u16), Vec<Published<'_>>> = BTreeMap::new();
    for (name, loose) in services.iter().filter(|(name, _)| !disabled.contains(*name)) {
        let container = &loose.service.container;
        let publishes = !matches!(container.network_mode, NetworkMode::Host | NetworkMode::None);
        if loose.service.replicas == 0 || !publishes {
            continue;
        }
        for (port, span) in loose.ports.iter().filter(|(port, _)| is_fixed(port)) {
            let published = Published { service: name, port, path: &loose.path, span: *span };
            by_number.entry((port.protocol, port.host.0)).or_default().push(published);
        }
    }
    for ((_, number), mut all) in by_number {
        all.sort_by_key(|published| published.span);
        for (place, later) in all.iter().enumerate() {
            if let Some(earlier) = all[..place].iter().find(|earlier| clash(earlier, later)) {
                report.push(error(number, earlier, later));
            }
        }
    }
}

/// One number, not a range to pick from.
fn is_fixed(port: &PortSpec) -> bool {
    port.host.0 != 0 && port.host.0 == port.host.1
}

fn clash(one: &Published<'_>, other: &Published<'_>) -> bool {
    // One mapping written twice is one mapping; `localhost` is two of one place.
    let same = one.service == other.service && one.port.container == other.port.container;
    !same && overlap(one.port.host_ip, other.port.host_ip)
}

/// No address is every address of both families; a family's own wildcard is every one of it.
fn overlap(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return true };
    one == other
        || (one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified()))
}

fn error(number: u16, earlier: &Published<'_>, later: &Published<'_>) -> Diagnostic {
    let by = match earlier.service == later.service {
        true => "for another port of its own".to_owned(),
        false => format!("by {} too", earlier.service),
    };
    let protocol = match later.port.protocol {
        Protocol::Tcp => "",
        Protocol::Udp => "/udp",
        Protocol::Sctp => "/sctp",
    };
    let problem = format!("{}: host port {number}{protocol} is published {by}", later.path);
    let address = later.port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let hint = match address.is_unspecified() {
        true => "publish another host port, or each on an address of its own",
        false => "publish another host port",
    };
    Diagnostic::error("duplicate-port", later.span, problem)
        .with_hint(hint)
        .with_label(earlier.span, "first published here")
}
