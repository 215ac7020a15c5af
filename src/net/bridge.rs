//! Bridges: one per network, holding the gateway addresses.

use std::path::Path;

use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec};

use super::forwarding::LINK_GROUP;
use super::model::{self, NetworkConfig};
use super::netlink::{self, NetlinkError};

/// Creates the network's bridge, or completes one that exists; returns its index.
pub async fn create(handle: &Handle, network: &NetworkConfig) -> Result<u32, NetlinkError> {
    let bridge = &network.bridge;
    let fail = |action: &str, source| NetlinkError::Request {
        action: format!("{action} {bridge}"),
        source,
    };
    let mut link = LinkBridge::new(bridge).mtu(network.mtu).up();
    if let Some(subnet) = network.subnets.first() {
        // Left alone, a bridge takes the lowest MAC of its ports: each new port could strand its neighbours' entries.
        link = link.address(model::derived_mac(subnet.gateway).to_vec());
    }
    match handle.link().add(link.build()).execute().await {
        Err(error) if !netlink::is_errno(&error, libc::EEXIST) => {
            return Err(fail("create bridge", error));
        }
        _ => {}
    }
    let index = netlink::link_index(handle, bridge).await?;
    // A container must not give the host a default route (CVE-2020-13401).
    if Path::new("/proc/sys/net/ipv6").exists() {
        netlink::write_sysctl(&format!("ipv6/conf/{bridge}/accept_ra"), "0")?;
    }
    if network.ipv6 {
        // An IPv6 address waits for duplicate detection, which needs a carrier that a bridge without ports lacks.
        netlink::write_sysctl(&format!("ipv6/conf/{bridge}/accept_dad"), "0")?;
    }
    for subnet in &network.subnets {
        let mut request = handle.address().add(index, subnet.gateway, subnet.subnet.prefix_len());
        netlink::skip_duplicate_detection(request.message_mut());
        match request.execute().await {
            Err(error) if !netlink::is_errno(&error, libc::EEXIST) => {
                return Err(fail("give an address to", error));
            }
            _ => {}
        }
    }
    let mark = LinkMessageBuilder::<LinkUnspec>::new().index(index).link_group(LINK_GROUP).up();
    let marked = handle.link().set(mark.build()).execute().await;
    marked.map_err(|error| fail("set up", error))?;
    netlink::confirm(handle).await?;
    // 127.0.0.1:port reaches a container only when the bridge may carry loopback sources; the raw chain drops what
    // containers send to 127/8 (ip-sysctl.rst, route_localnet).
    netlink::write_sysctl(&route_localnet(network), "1")?;
    Ok(index)
}

/// Name of the sysctl by which a bridge may carry loopback sources.
pub(super) fn route_localnet(network: &NetworkConfig) -> String {
    format!("ipv4/conf/{}/route_localnet", network.bridge)
}

/// Removes a bridge; a missing one is fine.
pub async fn remove(handle: &Handle, bridge: &str) -> Result<(), NetlinkError> {
    netlink::delete_link(handle, bridge).await
}
