//! Bridges: one per network, holding the gateway addresses.

use std::net::IpAddr;

use rtnetlink::{Handle, LinkBridge};

use super::model::{self, NetworkConfig};
use super::netlink::{self, NetlinkError};

/// Creates the network's bridge, or completes one that exists.
pub async fn create(handle: &Handle, network: &NetworkConfig) -> Result<(), NetlinkError> {
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
    netlink::set_up(handle, index).await?;
    // 127.0.0.1:port reaches a container only when the bridge may carry loopback sources; the raw chain drops what
    // containers send to 127/8 (ip-sysctl.rst, route_localnet).
    netlink::write_sysctl(&format!("ipv4/conf/{bridge}/route_localnet"), "1")?;
    if !network.internal {
        netlink::write_sysctl("ipv4/ip_forward", "1")?;
        if network.subnets.iter().any(|subnet| matches!(subnet.gateway, IpAddr::V6(_))) {
            netlink::write_sysctl("ipv6/conf/all/forwarding", "1")?;
        }
    }
    Ok(())
}

/// Removes a bridge; a missing one is fine.
pub async fn remove(handle: &Handle, bridge: &str) -> Result<(), NetlinkError> {
    netlink::delete_link(handle, bridge).await
}
