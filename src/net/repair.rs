//! What somebody took away from bridges and endpoints, found by comparing with the kernel and put back in place: a
//! bridge keeps its name and addresses, so rules and routes inside of containers fit it again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::packet_route::route::{RouteProtocol, RouteScope};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::driver::{Driver, NetError, lock};
use super::forwarding::LINK_GROUP;
use super::model::{self, NetworkConfig, SubnetConfig};
use super::netlink::{self, NetlinkError};
use super::watch::Notice;
use super::{bridge, endpoint};

/// An endpoint: container and network id.
pub(super) type Endpoint = (String, String);

/// How a look went.
#[derive(Debug, Default)]
pub struct Repair {
    /// Networks and their bridges that were made again or completed.
    pub bridges: Vec<(String, String)>,
    /// Endpoints whose outer device is a port of its bridge again.
    pub ports: Vec<Endpoint>,
    /// Endpoints whose pair has to be made anew: it is gone, or its inner side is down.
    pub lost: Vec<Endpoint>,
    /// Endpoints in whose namespace something was lost.
    pub doubtful: Vec<Endpoint>,
    pub failed: Vec<NetError>,
}

/// What the kernel has, as one moment shows it.
#[derive(Debug, Default)]
struct Kernel {
    links: BTreeMap<String, LinkMessage>,
    addresses: Vec<AddressMessage>,
    routes: Vec<RouteMessage>,
}

impl Driver {
    /// Tells whether a notice is about something of ours.
    pub fn concerns(&self, notice: &Notice) -> bool {
        let networks = lock(&self.networks);
        match notice {
            Notice::Device(name) => {
                model::is_ours(&self.root_id, name)
                    || networks.values().any(|network| network.bridge == *name)
            }
            Notice::Index(index) => lock(&self.indexes).values().any(|known| known == index),
            Notice::Forwarding | Notice::Inside(_) | Notice::Anywhere => true,
        }
    }

    /// Tells whether a notice may be about a device of another program.
    pub fn is_of_others(&self, notice: &Notice) -> bool {
        match notice {
            Notice::Device(_) => !self.concerns(notice),
            Notice::Anywhere => true,
            Notice::Index(_) | Notice::Forwarding | Notice::Inside(_) => false,
        }
    }

    /// Returns the names of all bridges.
    pub fn bridges(&self) -> BTreeSet<String> {
        lock(&self.networks).values().map(|network| network.bridge.clone()).collect()
    }

    /// Puts back what bridges and the outer devices of `endpoints` lack, and tells which pairs have to be made anew.
    /// `inside` are numbers of namespaces that lost something.
    pub async fn repair(&self, endpoints: &[Endpoint], inside: &BTreeSet<i32>) -> Repair {
        let mut repair = Repair::default();
        // Nobody may remove a network between the look at it and its repair.
        let _whole = self.changing.write().await;
        let repaired = async {
            let mut kernel = look().await?;
            self.repair_bridges(&kernel, &mut repair).await?;
            if !repair.bridges.is_empty() {
                kernel = look().await?;
            }
            self.repair_ports(&kernel, endpoints, inside, &mut repair).await
        };
        if let Err(error) = repaired.await {
            repair.failed.push(error);
        }
        repair
    }

    async fn repair_bridges(&self, kernel: &Kernel, repair: &mut Repair) -> Result<(), NetError> {
        let networks: Vec<NetworkConfig> = lock(&self.networks).values().cloned().collect();
        for network in &networks {
            self.forwarding.turn_on_for(network)?;
            if is_whole(network, kernel) && has_sysctls(network)? {
                continue;
            }
            match self.complete(network).await {
                Ok(()) => repair.bridges.push((network.id.clone(), network.bridge.clone())),
                Err(error) => repair.failed.push(error),
            }
        }
        Ok(())
    }

    /// Makes the bridge of a network, or what it lacks, unless the network is gone.
    pub(super) async fn complete_known(&self, id: &str) -> Result<(), NetError> {
        let _whole = self.changing.write().await;
        let network = lock(&self.networks).get(id).cloned();
        match network {
            Some(network) => self.complete(&network).await,
            None => Ok(()),
        }
    }

    /// Makes a bridge, or what it lacks.
    async fn complete(&self, network: &NetworkConfig) -> Result<(), NetError> {
        let index = bridge::create(&self.handle()?, network).await?;
        lock(&self.indexes).insert(network.id.clone(), index);
        for subnet in &network.subnets {
            add_route(&self.handle()?, index, network, subnet).await?;
        }
        if !network.internal {
            netlink::write_sysctl(&forwarding(network), "1")?;
        }
        Ok(())
    }

    async fn repair_ports(
        &self,
        kernel: &Kernel,
        endpoints: &[Endpoint],
        inside: &BTreeSet<i32>,
        repair: &mut Repair,
    ) -> Result<(), NetError> {
        for (container, network) in endpoints {
            let bridge = lock(&self.networks).get(network).map(|known| known.bridge.clone());
            let Some(bridge) = bridge.and_then(|name| kernel.links.get(&name)) else { continue };
            let endpoint = || (container.clone(), network.clone());
            let outer = model::veth_name(&self.root_id, network, container);
            let Some(link) = kernel.links.get(&outer) else {
                repair.lost.push(endpoint());
                continue;
            };
            if !is_port(link, bridge.header.index) {
                match endpoint::attach(&self.handle()?, link.header.index, bridge.header.index)
                    .await
                {
                    Ok(()) => repair.ports.push(endpoint()),
                    // It went meanwhile, which is told by a notice of its own.
                    Err(error) => repair.failed.push(error.into()),
                }
            } else if !link.header.flags.contains(LinkFlags::LowerUp) {
                repair.lost.push(endpoint());
            } else if namespace(link).is_some_and(|number| inside.contains(&number)) {
                repair.doubtful.push(endpoint());
            }
        }
        Ok(())
    }

    /// Tells whether an endpoint's outer device is there and has a carrier: its inner side is up.
    pub async fn carries(&self, container: &str, network: &str) -> Result<bool, NetError> {
        let outer = model::veth_name(&self.root_id, network, container);
        let link = netlink::find_link(&self.handle()?, &outer).await?;
        Ok(link.is_some_and(|link| link.header.flags.contains(LinkFlags::LowerUp)))
    }

    /// Returns the addresses inside a sandbox and the gateways of its default routes.
    pub async fn inside(
        &self,
        container: &str,
    ) -> Result<(BTreeSet<IpAddr>, BTreeSet<IpAddr>), NetError> {
        let path = self.sandbox_path(container);
        let seen = netlink::inside(&path, async || {
            let handle = netlink::connect()?;
            let addresses = netlink::addresses(&handle).await?;
            let gateways: Vec<RouteMessage> = netlink::all_routes(&handle).await?;
            let addresses = addresses.iter().filter_map(address).collect();
            let gateways = gateways.iter().filter_map(default_gateway).collect();
            Ok::<_, NetlinkError>((addresses, gateways))
        });
        Ok(seen.await?)
    }
}

async fn look() -> Result<Kernel, NetlinkError> {
    netlink::apart(async || {
        let handle = netlink::connect()?;
        let links = netlink::links(&handle).await?;
        let named = links.into_iter().filter_map(|link| Some((name(&link)?, link)));
        Ok(Kernel {
            links: named.collect(),
            addresses: netlink::addresses(&handle).await?,
            routes: netlink::all_routes(&handle).await?,
        })
    })
    .await
}

/// Tells whether a bridge is up and has its group, its addresses and the routes that belong to them. Pure.
fn is_whole(network: &NetworkConfig, kernel: &Kernel) -> bool {
    let Some(link) = kernel.links.get(&network.bridge) else { return false };
    let index = link.header.index;
    let has_address = |subnet: &SubnetConfig| {
        let mut own = kernel.addresses.iter().filter(|one| one.header.index == index);
        own.any(|one| address(one) == Some(subnet.gateway))
    };
    let has_route = |subnet: &SubnetConfig| {
        kernel.routes.iter().any(|route| {
            device(route) == Some(index)
                && netlink::destination(route) == Some(subnet.subnet.trunc())
        })
    };
    link.header.flags.contains(LinkFlags::Up)
        && link.attributes.contains(&LinkAttribute::Group(LINK_GROUP))
        && network.subnets.iter().all(|subnet| has_address(subnet) && has_route(subnet))
}

fn has_sysctls(network: &NetworkConfig) -> Result<bool, NetlinkError> {
    let is_on = |name: &str| Ok(netlink::read_sysctl(name)?.trim() == "1");
    Ok(is_on(&bridge::route_localnet(network))?
        && (network.internal || is_on(&forwarding(network))?))
}

fn forwarding(network: &NetworkConfig) -> String {
    format!("ipv4/conf/{}/forwarding", network.bridge)
}

fn is_port(link: &LinkMessage, bridge: u32) -> bool {
    link.header.flags.contains(LinkFlags::Up)
        && link.attributes.contains(&LinkAttribute::Controller(bridge))
}

pub(super) fn name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

/// Returns the number of the namespace that the other side lies in.
fn namespace(link: &LinkMessage) -> Option<i32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkNetNsId(number) => Some(*number),
        _ => None,
    })
}

fn address(message: &AddressMessage) -> Option<IpAddr> {
    // Of a link that is no point-to-point one both attributes are the same, but IPv6 has the first one only.
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) | AddressAttribute::Local(address) => Some(*address),
        _ => None,
    })
}

/// Returns the number of the device that a route leads to.
pub(super) fn device(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn default_gateway(route: &RouteMessage) -> Option<IpAddr> {
    let gateway = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some((*address).into()),
        RouteAttribute::Gateway(RouteAddress::Inet6(address)) => Some((*address).into()),
        _ => None,
    });
    gateway.filter(|_| route.header.destination_prefix_length == 0)
}

/// Adds the route that the kernel itself adds with an address, for somebody may have removed the route alone.
async fn add_route(
    handle: &Handle,
    index: u32,
    network: &NetworkConfig,
    subnet: &SubnetConfig,
) -> Result<(), NetlinkError> {
    let route = match (subnet.subnet.trunc(), subnet.gateway) {
        (IpNet::V4(net), IpAddr::V4(gateway)) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .pref_source(gateway)
            .scope(RouteScope::Link)
            .protocol(RouteProtocol::Kernel)
            .output_interface(index)
            .build(),
        (IpNet::V6(net), _) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .protocol(RouteProtocol::Kernel)
            .priority(KERNEL_PRIORITY)
            .output_interface(index)
            .build(),
        // A gateway is an address of its subnet.
        _ => return Ok(()),
    };
    match handle.route().add(route).execute().await {
        Err(error) if !netlink::is_errno(&error, libc::EEXIST) => Err(NetlinkError::Request {
            action: format!("route {} to {}", subnet.subnet, network.bridge),
            source: error,
        }),
        _ => netlink::confirm(handle).await,
    }
}

/// `IP6_RT_PRIO_ADDRCONF` of linux/ipv6_route.h.
const KERNEL_PRIORITY: u32 = 256;
