//! Which subnets a network gets: the wished ones, checked, or the next free of the pools. Pure.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use sha2::{Digest, Sha256};

use crate::engine::config::Pool;
use crate::engine::error::EngineError;
use crate::engine::state::networks::Subnet;
use crate::spec::stack::{Network as NetworkSpec, SubnetSpec};

/// What exists already.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    /// Subnets of other networks, and those that the host's routes lead to.
    pub(super) subnets: &'a [IpNet],
    pub(super) pools: &'a [Pool],
    /// From which the root's own IPv6 prefix is derived.
    pub(super) root_id: &'a str,
}

/// Returns the subnets of a network that is to be made.
pub(super) fn subnets(spec: &NetworkSpec, taken: &Taken<'_>) -> Result<Vec<Subnet>, EngineError> {
    let mut chosen = spec.subnets.iter().map(wished).collect::<Result<Vec<_>, _>>()?;
    let has = |chosen: &[Subnet], v4| chosen.iter().any(|one| one.subnet.addr().is_ipv4() == v4);
    if has(&chosen, false) && !spec.enable_ipv6 {
        return Err(invalid("an IPv6 subnet needs IPv6 to be enabled for the network"));
    }
    if !has(&chosen, true) {
        let mut free =
            taken.pools.iter().filter(|pool| pool.base.addr().is_ipv4()).flat_map(blocks);
        let subnet = free.find(|subnet| is_free(*subnet, taken.subnets));
        let subnet = subnet.ok_or_else(|| EngineError::Invalid {
            message: "all predefined address pools have been fully subnetted: give the network a \
                      subnet, or add a pool to `network.pools` of the configuration"
                .to_owned(),
        })?;
        chosen.push(with_defaults(subnet));
    }
    if spec.enable_ipv6 && !has(&chosen, false) {
        let own = Pool { base: unique_local(taken.root_id).into(), size: 64 };
        let pools = taken.pools.iter().filter(|pool| !pool.base.addr().is_ipv4()).chain([&own]);
        let subnet = pools.flat_map(blocks).find(|subnet| is_free(*subnet, taken.subnets));
        let subnet = subnet.ok_or_else(|| invalid("no IPv6 pool has a free subnet"))?;
        chosen.push(with_defaults(subnet));
    }
    Ok(chosen)
}

/// Checks a wished subnet; the messages are docker's.
fn wished(spec: &SubnetSpec) -> Result<Subnet, EngineError> {
    let subnet = spec.subnet;
    if subnet != subnet.trunc() {
        return Err(invalid(format!("invalid subnet {subnet}: it should be {}", subnet.trunc())));
    }
    let outside = |what: &str, value: String| {
        Err(invalid(format!("invalid {what} {value}: parent subnet {subnet} doesn't contain it")))
    };
    if let Some(range) = spec.ip_range.filter(|range| !subnet.contains(range)) {
        return outside("ip-range", range.to_string());
    }
    if let Some(gateway) = spec.gateway.filter(|gateway| !subnet.contains(gateway)) {
        return outside("gateway", gateway.to_string());
    }
    if let Some(reserved) = spec.reserved.iter().find(|address| !subnet.contains(*address)) {
        return outside("auxiliary address", reserved.to_string());
    }
    let default = with_defaults(subnet);
    Ok(Subnet {
        subnet,
        gateway: spec.gateway.unwrap_or(default.gateway),
        range: spec.ip_range.unwrap_or(subnet),
    })
}

/// The gateway is the first address that a host may have.
fn with_defaults(subnet: IpNet) -> Subnet {
    let first = subnet.hosts().next().unwrap_or(subnet.addr());
    let gateway = match (first, subnet) {
        // All zeros is the subnet-router anycast address (RFC 4291 section 2.6.1).
        (IpAddr::V6(first), IpNet::V6(net)) if first == net.network() && net.prefix_len() < 127 => {
            IpAddr::V6(Ipv6Addr::from(u128::from(first) + 1))
        }
        _ => first,
    };
    Subnet { subnet, gateway, range: subnet }
}

fn blocks(pool: &Pool) -> impl Iterator<Item = IpNet> + use<> {
    pool.base.subnets(pool.size).into_iter().flatten()
}

fn is_free(subnet: IpNet, taken: &[IpNet]) -> bool {
    !taken.iter().any(|other| subnet.contains(other) || other.contains(&subnet))
}

/// Returns the root's own /48 of RFC 4193, whose 40 random bits are the root's hash.
fn unique_local(root_id: &str) -> Ipv6Net {
    let hash = Sha256::digest(root_id.as_bytes());
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&hash[..5]);
    Ipv6Net::new_assert(octets.into(), 48)
}

fn invalid(message: impl Into<String>) -> EngineError {
    EngineError::Invalid { message: message.into() }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;
    use crate::engine::config::Network;

    fn choose(spec: &NetworkSpec, taken: &[&str]) -> Result<Vec<String>, EngineError> {
        let subnets: Vec<IpNet> = taken.iter().map(|net| net.parse().unwrap()).collect();
        let pools = Network::default().pools;
        let taken = Taken { subnets: &subnets, pools: &pools, root_id: "abc123" };
        let chosen = super::subnets(spec, &taken)?;
        Ok(chosen
            .iter()
            .map(|one| format!("{} {} {}", one.subnet, one.gateway, one.range))
            .collect())
    }

    #[test]
    fn the_next_free_block_avoids_networks_and_routes() {
        let spec = NetworkSpec::default();
        assert_eq!(choose(&spec, &[]).unwrap(), ["172.17.0.0/16 172.17.0.1 172.17.0.0/16"]);
        let chosen = choose(&spec, &["172.17.4.0/24", "172.18.0.0/15"]).unwrap();
        assert_eq!(chosen, ["172.20.0.0/16 172.20.0.1 172.20.0.0/16"]);
        let all = ["172.16.0.0/12", "192.168.0.0/16"];
        assert!(choose(&spec, &all).unwrap_err().to_string().contains("pools"));
    }

    #[test]
    fn ipv6_without_a_subnet_gets_a_unique_local_one() {
        let spec = NetworkSpec { enable_ipv6: true, ..NetworkSpec::default() };
        let chosen = choose(&spec, &[]).unwrap();
        assert!(chosen[1].starts_with("fd") && chosen[1].contains("::/64 fd"), "{chosen:?}");
        let first: IpNet = chosen[1].split(' ').next().unwrap().parse().unwrap();
        let next = choose(&spec, &[&first.to_string()]).unwrap();
        assert_ne!(next[1], chosen[1]);
    }

    #[test]
    fn a_wish_outside_its_subnet_is_refused() {
        let wish = |change: &dyn Fn(&mut SubnetSpec)| {
            let mut subnet = SubnetSpec {
                subnet: "10.5.0.0/16".parse().unwrap(),
                gateway: None,
                ip_range: None,
                reserved: Vec::new(),
            };
            change(&mut subnet);
            choose(&NetworkSpec { subnets: vec![subnet], ..NetworkSpec::default() }, &[])
        };
        assert_eq!(wish(&|_| ()).unwrap(), ["10.5.0.0/16 10.5.0.1 10.5.0.0/16"]);
        let ranged = wish(&|subnet| subnet.ip_range = Some("10.5.4.0/24".parse().unwrap()));
        assert_eq!(ranged.unwrap(), ["10.5.0.0/16 10.5.0.1 10.5.4.0/24"]);
        assert!(wish(&|subnet| subnet.ip_range = Some("10.6.0.0/24".parse().unwrap())).is_err());
        assert!(wish(&|subnet| subnet.gateway = Some("10.6.0.1".parse().unwrap())).is_err());
        assert!(wish(&|subnet| subnet.subnet = "10.5.0.1/16".parse().unwrap()).is_err());
        assert!(wish(&|subnet| subnet.subnet = "fd00::/64".parse().unwrap()).is_err());
    }
}
