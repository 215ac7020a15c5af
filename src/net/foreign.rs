//! The bridges of other programs that connect containers or virtual machines, such as docker's and libvirt's: whatever
//! reaches those is for their programs to decide.
//!
//! A bridge that leads out of the machine is none of them: it has a port that is no virtual device, or carries a default
//! route.

use std::collections::BTreeSet;

use rtnetlink::Handle;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::RouteMessage;

use super::forwarding::LINK_GROUP;
use super::netlink::{self, NetlinkError};
use super::repair::{device, name};

/// Returns their names.
pub(super) async fn bridges(handle: &Handle) -> Result<BTreeSet<String>, NetlinkError> {
    let links = netlink::links(handle).await?;
    Ok(among(&links, &netlink::all_routes(handle).await?))
}

fn among(links: &[LinkMessage], routes: &[RouteMessage]) -> BTreeSet<String> {
    let defaults: BTreeSet<u32> = routes
        .iter()
        .filter(|route| route.header.destination_prefix_length == 0)
        .filter_map(device)
        .collect();
    let leads_out = |bridge: u32| {
        let mut ports = links.iter().filter(|link| controller(link) == Some(bridge));
        defaults.contains(&bridge) || ports.any(|port| !is_virtual(port))
    };
    let bridges = links.iter().filter(|link| {
        is_bridge(link)
            && !link.attributes.contains(&LinkAttribute::Group(LINK_GROUP))
            && !leads_out(link.header.index)
    });
    bridges.filter_map(name).collect()
}

/// Tells whether the link is a bridge, be it ours or others'.
pub(super) fn is_bridge(link: &LinkMessage) -> bool {
    kind(link) == Some(&InfoKind::Bridge)
}

/// What containers and virtual machines are connected by.
fn is_virtual(port: &LinkMessage) -> bool {
    matches!(kind(port), Some(InfoKind::Veth | InfoKind::Tun))
}

fn kind(link: &LinkMessage) -> Option<&InfoKind> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => info.iter().find_map(|part| match part {
            LinkInfo::Kind(kind) => Some(kind),
            _ => None,
        }),
        _ => None,
    })
}

fn controller(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::route::RouteAttribute;

    use super::*;

    fn link(index: u32, called: &str, attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = attributes;
        link.attributes.push(LinkAttribute::IfName(called.to_owned()));
        link
    }

    fn of_kind(kind: InfoKind) -> LinkAttribute {
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])
    }

    #[test]
    fn bridges_without_a_way_out_belong_to_other_programs() {
        let bridge = || of_kind(InfoKind::Bridge);
        let port = |index, kind: Option<InfoKind>, bridge| {
            let mut attributes: Vec<LinkAttribute> = kind.map(of_kind).into_iter().collect();
            attributes.push(LinkAttribute::Controller(bridge));
            link(index, "port", attributes)
        };
        let links = [
            link(1, "docker0", vec![bridge()]),
            link(2, "virbr0", vec![bridge()]),
            port(3, Some(InfoKind::Tun), 2),
            link(4, "br-lan", vec![bridge()]),
            port(5, Some(InfoKind::Veth), 4),
            port(6, None, 4),
            link(7, "uplink", vec![bridge()]),
            link(8, "ours", vec![bridge(), LinkAttribute::Group(LINK_GROUP)]),
            link(9, "eth0", Vec::new()),
        ];
        let mut default = RouteMessage::default();
        default.attributes.push(RouteAttribute::Oif(7));
        let found = among(&links, &[default]);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["docker0", "virbr0"]);
    }
}
