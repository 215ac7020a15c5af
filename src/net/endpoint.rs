//! Endpoints: a veth pair whose outer side is a port of the bridge and whose inner side is born in the sandbox.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::{
    Handle, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

use super::model::{self, EndpointConfig, NetworkConfig};
use super::netlink::{self, NetlinkError};

/// Where an endpoint goes.
#[derive(Debug)]
pub struct Place<'a> {
    pub network: &'a NetworkConfig,
    /// The pinned namespace.
    pub sandbox: &'a Path,
    /// Name of the outer device, see [`model::veth_name`].
    pub outer: &'a str,
    /// Name of the device inside: `eth0`, `eth1`, …
    pub inner: &'a str,
    /// Whether the default route goes through this network.
    pub default_route: bool,
}

/// Creates the pair, its addresses and routes. What is left of an earlier try is replaced.
pub async fn create(
    handle: &Handle,
    endpoint: &EndpointConfig,
    place: &Place<'_>,
) -> Result<(), NetlinkError> {
    netlink::delete_link(handle, place.outer).await?;
    let added = add_pair(handle, endpoint, place).await;
    let done = match added {
        Ok(()) => finish(handle, endpoint, place).await,
        Err(error) => Err(error),
    };
    if done.is_err() {
        // The first error is the one to report.
        drop(netlink::delete_link(handle, place.outer).await);
    }
    done
}

/// Removes the pair; a missing one is fine.
///
/// On a thread and a socket of its own: the kernel answers after an RCU barrier, 5 to 25 ms, which removals at the same
/// time share, and which everything else would wait for on a common socket.
pub async fn remove(outer: &str) -> Result<(), NetlinkError> {
    let outer = outer.to_owned();
    netlink::apart(async move || netlink::delete_link(&netlink::connect()?, &outer).await).await
}

async fn add_pair(
    handle: &Handle,
    endpoint: &EndpointConfig,
    place: &Place<'_>,
) -> Result<(), NetlinkError> {
    let fail = |action: &str, source| NetlinkError::Request {
        action: format!("{action} {}", place.outer),
        source,
    };
    let bridge = netlink::link_index(handle, &place.network.bridge).await?;
    let namespace = File::open(place.sandbox)
        .map_err(|source| NetlinkError::OpenNamespace { path: place.sandbox.to_owned(), source })?;
    let mac = endpoint
        .mac
        .or_else(|| endpoint.addresses.first().map(|net| model::derived_mac(net.addr())));
    let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(place.inner.to_owned())
        .mtu(place.network.mtu)
        .setns_by_fd(namespace.as_raw_fd());
    if let Some(mac) = mac {
        peer = peer.address(mac.to_vec());
    }
    let pair = LinkMessageBuilder::<LinkVeth>::new(place.outer, place.inner)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
        .controller(bridge)
        .mtu(place.network.mtu)
        .up()
        .build();
    handle.link().add(pair).execute().await.map_err(|source| fail("create veth", source))?;
    let index = netlink::link_index(handle, place.outer).await?;
    let hairpin = set_hairpin(handle, index).await;
    hairpin.map_err(|source| fail("set hairpin on", source))
}

/// A container reaches its own published port through the bridge port that it came from.
async fn set_hairpin(handle: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    handle.link().set_port(LinkBridgePort::new(index).hairpin(true).build()).execute().await
}

/// Makes a pair's outer device, by index, a port of the bridge again and sets it up.
pub async fn attach(handle: &Handle, index: u32, bridge: u32) -> Result<(), NetlinkError> {
    let fail = |source| NetlinkError::Request {
        action: format!("make link {index} a port of link {bridge}"),
        source,
    };
    let port = LinkMessageBuilder::<LinkUnspec>::new().index(index).controller(bridge).up();
    handle.link().set(port.build()).execute().await.map_err(fail)?;
    set_hairpin(handle, index).await.map_err(fail)?;
    netlink::confirm(handle).await
}

async fn finish(
    handle: &Handle,
    endpoint: &EndpointConfig,
    place: &Place<'_>,
) -> Result<(), NetlinkError> {
    configure_inside(endpoint, place).await?;
    netlink::wait_for_carrier(handle, place.outer).await?;
    netlink::wait_for_carrier(handle, &place.network.bridge).await
}

async fn configure_inside(
    endpoint: &EndpointConfig,
    place: &Place<'_>,
) -> Result<(), NetlinkError> {
    let inner = place.inner.to_owned();
    let addresses = endpoint.addresses.clone();
    let gateways: Vec<IpAddr> = match place.default_route && !place.network.internal {
        true => place.network.subnets.iter().map(|subnet| subnet.gateway).collect(),
        false => Vec::new(),
    };
    netlink::inside(place.sandbox, async move || {
        let handle = netlink::connect()?;
        let index = netlink::link_index(&handle, &inner).await?;
        for net in &addresses {
            let mut request = handle.address().add(index, net.addr(), net.prefix_len());
            netlink::skip_duplicate_detection(request.message_mut());
            let added = request.execute().await;
            added.map_err(|source| NetlinkError::Request {
                action: format!("add {net} to {inner}"),
                source,
            })?;
        }
        netlink::set_up(&handle, index).await?;
        netlink::wait_for_carrier(&handle, &inner).await?;
        for gateway in gateways {
            if addresses.iter().any(|net| net.addr().is_ipv4() == gateway.is_ipv4()) {
                add_default_route(&handle, gateway).await?;
            }
        }
        Ok(())
    })
    .await
}

/// Leads the default routes inside a sandbox through `gateways`.
pub async fn route(sandbox: &Path, gateways: &[IpAddr]) -> Result<(), NetlinkError> {
    let gateways = gateways.to_vec();
    netlink::inside(sandbox, async move || {
        let handle = netlink::connect()?;
        remove_default_routes(&handle).await?;
        for gateway in gateways {
            add_default_route(&handle, gateway).await?;
        }
        Ok(())
    })
    .await
}

async fn remove_default_routes(handle: &Handle) -> Result<(), NetlinkError> {
    let fail = |source| NetlinkError::Request { action: "remove a default route".into(), source };
    let requests = [
        RouteMessageBuilder::<Ipv4Addr>::new().build(),
        RouteMessageBuilder::<Ipv6Addr>::new().build(),
    ];
    for request in requests {
        let routes: Vec<RouteMessage> =
            handle.route().get(request).execute().try_collect().await.map_err(fail)?;
        for route in routes {
            let has_gateway =
                route.attributes.iter().any(|one| matches!(one, RouteAttribute::Gateway(_)));
            if has_gateway && route.header.destination_prefix_length == 0 {
                handle.route().del(route).execute().await.map_err(fail)?;
            }
        }
    }
    netlink::confirm(handle).await
}

async fn add_default_route(handle: &Handle, gateway: IpAddr) -> Result<(), NetlinkError> {
    let route = match gateway {
        IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build(),
        IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).build(),
    };
    let added = handle.route().add(route).replace().execute().await;
    added.map_err(|source| NetlinkError::Request {
        action: format!("route through {gateway}"),
        source,
    })?;
    netlink::confirm(handle).await
}
