//! Forwarding of packets, which containers need and which makes a router of the machine.
//!
//! Where we turn it on ourselves, everything that no bridge of ours takes part in is closed first, as dockerd does by a
//! FORWARD policy of drop, and forwarding is turned off again with the last bridge. Where it was on already, somebody
//! wants a router, and nothing is closed.
//!
//! The kernel remembers who turned it on: the table that closes is there exactly as long, whatever becomes of the
//! engine. Bridges are known by their link group, so engines of several roots get along.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rtnetlink::Handle;
use rtnetlink::packet_route::link::LinkAttribute;

use super::driver::NetError;
use super::firewall;
use super::model::NetworkConfig;
use super::netlink::{self, NetlinkError};
use super::nft::apply;
use super::nft::ruleset::{Chain, Expression, Hook, Meta, Point, Ruleset};

/// The link group of every bridge of ours: "brge".
pub(super) const LINK_GROUP: u32 = 0x6272_6765;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

impl Family {
    const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn sysctl(self) -> &'static str {
        match self {
            Self::V4 => "ipv4/ip_forward",
            Self::V6 => "ipv6/conf/all/forwarding",
        }
    }

    fn table(self) -> &'static str {
        match self {
            Self::V4 => "bargee-forwarding4",
            Self::V6 => "bargee-forwarding6",
        }
    }

    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }
}

/// The families that we turned on, in the namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Forwarding {
    closed: Mutex<BTreeSet<Family>>,
}

impl Forwarding {
    /// Finds what an earlier engine turned on.
    pub(super) fn open() -> Result<Self, NetError> {
        let mut closed = BTreeSet::new();
        for family in Family::ALL {
            if firewall::has_rules(family.table())? {
                closed.insert(family);
            }
        }
        Ok(Self { closed: Mutex::new(closed) })
    }

    /// Turns on what a network needs whose bridge is there.
    pub(super) fn turn_on_for(&self, network: &NetworkConfig) -> Result<(), NetError> {
        if network.internal {
            return Ok(());
        }
        self.turn_on(Family::V4)?;
        if network.subnets.iter().any(|subnet| subnet.gateway.is_ipv6()) {
            self.turn_on(Family::V6)?;
        }
        Ok(())
    }

    fn turn_on(&self, family: Family) -> Result<(), NetError> {
        if is_on(family)? {
            return Ok(());
        }
        // Closed before it is open; and once more, since an engine that lost its last bridge may be taking the table
        // away at this moment.
        apply::apply(None, &closing(family))?;
        if family == Family::V6 {
            keep_router_advertisements(Path::new("/proc/sys/net/ipv6/conf"))?;
        }
        netlink::write_sysctl(family.sysctl(), "1")?;
        apply::apply(None, &closing(family))?;
        self.closed().insert(family);
        Ok(())
    }

    /// Gives back what we turned on when no bridge of ours is left. Whoever else forwards was closed out anyway.
    pub(super) async fn turn_off_if_unused(&self, handle: &Handle) -> Result<(), NetError> {
        for family in Family::ALL {
            if !firewall::has_rules(family.table())? || has_bridges(handle).await? {
                continue;
            }
            netlink::write_sysctl(family.sysctl(), "0")?;
            if has_bridges(handle).await? {
                // Another engine made its first bridge just now and found forwarding on.
                netlink::write_sysctl(family.sysctl(), "1")?;
                continue;
            }
            apply::remove(family.table())?;
            self.closed().remove(&family);
            if is_on(family)? {
                apply::apply(None, &closing(family))?;
            }
        }
        Ok(())
    }

    /// Closes again what somebody's flush opened.
    pub(super) fn look_after_rules(&self) -> Result<(), NetError> {
        for family in self.closed().iter() {
            if !firewall::has_rules(family.table())? {
                apply::apply(None, &closing(*family))?;
            }
        }
        Ok(())
    }

    fn closed(&self) -> MutexGuard<'_, BTreeSet<Family>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the rules that drop what neither comes from nor goes to a bridge of ours. Pure.
fn closing(family: Family) -> Ruleset {
    let other = |key| {
        let group = LINK_GROUP.to_ne_bytes().to_vec();
        [Expression::Meta { key, to: 0 }, Expression::NotEqual { register: 0, value: group }]
    };
    let rule = [
        Expression::Meta { key: Meta::Family, to: 0 },
        Expression::Equal { register: 0, value: vec![family.number()] },
    ];
    let rule =
        [&rule[..], &other(Meta::InputGroup), &other(Meta::OutputGroup), &[Expression::Drop]];
    let hook = Hook { kind: "filter", point: Point::Forward, priority: 0 };
    Ruleset {
        table: family.table().to_owned(),
        sets: BTreeMap::new(),
        chains: vec![Chain { name: "forward", hook: Some(hook), rules: vec![rule.concat()] }],
    }
}

async fn has_bridges(handle: &Handle) -> Result<bool, NetlinkError> {
    let links = netlink::links(handle).await?;
    let mut attributes = links.iter().flat_map(|link| &link.attributes);
    Ok(attributes.any(|attribute| *attribute == LinkAttribute::Group(LINK_GROUP)))
}

fn is_on(family: Family) -> Result<bool, NetlinkError> {
    Ok(netlink::read_sysctl(family.sysctl())?.trim() != "0")
}

/// A router ignores router advertisements unless told otherwise by 2, so a host that has its address or its default
/// route from one would lose them (ip-sysctl.rst, accept_ra).
fn keep_router_advertisements(links: &Path) -> Result<(), NetlinkError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| NetlinkError::Sysctl { path, source }
    };
    for link in fs::read_dir(links).map_err(fail(links))? {
        let link = link.map_err(fail(links))?;
        let file = link.path().join("accept_ra");
        // These two stand for no link.
        if link.file_name() == "all" || link.file_name() == "default" {
            continue;
        }
        match fs::read_to_string(&file) {
            Ok(value) if value.trim() == "1" => fs::write(&file, "2").map_err(fail(&file))?,
            Ok(_) => {}
            // The link went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail(&file)(error)),
        }
    }
    Ok(())
}
