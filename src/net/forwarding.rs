//! Forwarding of packets, which containers need and which makes a router of the machine.
//!
//! Where we turn it on ourselves, everything that no bridge of ours takes part in is closed first, as dockerd does by a
//! FORWARD policy of drop, and forwarding is turned off again with the last bridge. Where it was on already, somebody
//! wants a router, and nothing is closed.
//!
//! A table of ours closes it, as long as no firewall has chains that do (see `firewall`). The table is there exactly as
//! long as forwarding is on by our doing, so that the engines of all roots know; against those who flush tables, each
//! root also keeps the fact in a file. Bridges are known by their link group.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rtnetlink::Handle;
use rtnetlink::packet_route::link::LinkAttribute;
use serde::{Deserialize, Serialize};

use super::driver::NetError;
use super::firewall::{self, FirewallError};
use super::foreign;
use super::hooks;
use super::model::NetworkConfig;
use super::netfilter::Family;
use super::netlink::{self, NetlinkError};
use super::nft::apply;
use super::nft::ruleset::{self, Chain, Expression, Hook, Meta, Point, Ruleset, Set, Type};

/// The link group of every bridge of ours: "brge".
pub(super) const LINK_GROUP: u32 = 0x6272_6765;

/// The chain of the table that closes, and its set of links that would not hear their router any more.
const CHAIN: &str = "forward";
const LISTENERS: &str = "accept_ra";

impl Family {
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
}

/// The families that we turned on, in the namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Forwarding {
    file: PathBuf,
    /// By which the file is known to be of this boot and network namespace.
    place: Place,
    ours: Mutex<Ours>,
}

/// What we changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ours {
    families: BTreeSet<Family>,
    /// Links whose `accept_ra` we set from 1 to 2.
    accept_ra: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    boot: String,
    namespace: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    place: Place,
    ours: Ours,
}

impl Forwarding {
    /// Finds what an earlier engine of this root, or one of another root, turned on. `run_dir` holds the file.
    pub(super) fn open(run_dir: &Path) -> Result<Self, NetError> {
        let place = Place::here()?;
        let file = run_dir.join("forwarding.json");
        let mut ours = recorded(&file, &place)?;
        let mut still_on = BTreeSet::new();
        for family in ours.families {
            if is_on(family)? {
                still_on.insert(family);
            }
        }
        ours.families = still_on;
        let forwarding = Self { file, place, ours: Mutex::new(ours) };
        forwarding.join()?;
        Ok(forwarding)
    }

    /// Takes part in what another root turned on.
    fn join(&self) -> Result<(), NetError> {
        let mut ours = self.ours();
        let mut joined = ours.clone();
        for family in Family::ALL {
            if own_rules(family)?.is_some() {
                joined.families.insert(family);
            }
        }
        let (table, set) = (Family::V6.table(), LISTENERS);
        let names = hooks::own_names(table, set);
        joined.accept_ra.extend(names.map_err(|source| FirewallError::Own { table, source })?);
        self.keep(&mut ours, joined)
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
            return self.join();
        }
        let mut ours = self.ours();
        let mut wanted = ours.clone();
        wanted.families.insert(family);
        if family == Family::V6 {
            wanted.accept_ra.extend(listeners(Path::new(LINKS))?);
        }
        // Recorded before it is done, and closed before it is open; and once more, since an engine that lost its last
        // bridge may be taking the table away at this moment.
        self.keep(&mut ours, wanted)?;
        apply::apply(None, &table(family, &ours, Closed::ByUs))?;
        if family == Family::V6 {
            change_accept_ra(Path::new(LINKS), &ours.accept_ra, "1", "2")?;
        }
        netlink::write_sysctl(family.sysctl(), "1")?;
        Ok(apply::apply(None, &table(family, &ours, Closed::ByUs))?)
    }

    /// Gives back what we turned on when no bridge of ours is left.
    ///
    /// Somebody else's bridge beside a chain that closes what its owner wants closed belongs to a program that was
    /// started after us, found forwarding on and needs it: such as docker. For it all stays as if it had come first.
    pub(super) async fn turn_off_if_unused(&self, handle: &Handle) -> Result<(), NetError> {
        for family in Family::ALL {
            if own_rules(family)?.is_none() || bridges(handle).await?.ours {
                continue;
            }
            if bridges(handle).await?.others && firewall::close_for_good(family)? {
                self.forget(family)?;
                continue;
            }
            netlink::write_sysctl(family.sysctl(), "0")?;
            if bridges(handle).await?.ours {
                // Another engine made its first bridge just now and found forwarding on.
                netlink::write_sysctl(family.sysctl(), "1")?;
                continue;
            }
            if family == Family::V6 {
                change_accept_ra(Path::new(LINKS), &self.ours().accept_ra, "2", "1")?;
            }
            self.forget(family)?;
            if is_on(family)? {
                // One made it and turned forwarding on.
                self.join()?;
                apply::apply(None, &table(family, &self.ours(), Closed::ByUs))?;
            }
        }
        Ok(())
    }

    fn forget(&self, family: Family) -> Result<(), NetError> {
        apply::remove(family.table())?;
        let mut ours = self.ours();
        let mut less = ours.clone();
        less.families.remove(&family);
        if family == Family::V6 {
            less.accept_ra.clear();
        }
        self.keep(&mut ours, less)
    }

    /// Returns the families that are on by our doing, or by that of another root.
    pub(super) fn closed(&self) -> Result<BTreeSet<Family>, NetError> {
        self.join()?;
        let known = self.ours().families.clone();
        for family in known {
            // Another root gave it back, or the user did.
            if !is_on(family)? {
                self.forget(family)?;
            }
        }
        Ok(self.ours().families.clone())
    }

    /// Closes what we turned on, unless others' chains do; again where somebody's flush opened it.
    pub(super) fn close(&self, by_others: &BTreeSet<Family>) -> Result<(), NetError> {
        let ours = self.ours();
        for family in &ours.families {
            let closed = match by_others.contains(family) {
                true => Closed::ByOthers,
                false => Closed::ByUs,
            };
            let wanted = table(*family, &ours, closed);
            if own_rules(*family)? != Some(wanted.chains[0].rules.len()) {
                apply::apply(None, &wanted)?;
            }
        }
        Ok(())
    }

    /// Replaces what is remembered, in the file first.
    fn keep(&self, ours: &mut Ours, wanted: Ours) -> Result<(), NetError> {
        if *ours == wanted {
            return Ok(());
        }
        let fail = |source| NetError::Record { path: self.file.clone(), source };
        if wanted == Ours::default() {
            match fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
                _ => {}
            }
        } else {
            let record = Record { version: 1, place: self.place.clone(), ours: wanted.clone() };
            let text = serde_json::to_vec(&record).map_err(|error| fail(error.into()))?;
            let fresh = self.file.with_extension("new");
            fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &self.file)).map_err(fail)?;
        }
        *ours = wanted;
        Ok(())
    }

    fn ours(&self) -> MutexGuard<'_, Ours> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn here() -> Result<Self, NetError> {
        let boot = Path::new("/proc/sys/kernel/random/boot_id");
        let namespace = Path::new("/proc/thread-self/ns/net");
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| NetError::Record { path, source }
        };
        Ok(Self {
            boot: fs::read_to_string(boot).map_err(fail(boot))?.trim().to_owned(),
            namespace: fs::metadata(namespace).map_err(fail(namespace))?.ino(),
        })
    }
}

/// Reads the file of an earlier engine; nothing when it is of another boot or namespace. One that a power cut left in
/// pieces is of another boot too.
fn recorded(file: &Path, place: &Place) -> Result<Ours, NetError> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ours::default()),
        Err(source) => return Err(NetError::Record { path: file.to_owned(), source }),
    };
    let record = serde_json::from_slice::<Record>(&text).ok();
    let record = record.filter(|record| record.version == 1 && record.place == *place);
    Ok(record.map(|record| record.ours).unwrap_or_default())
}

fn own_rules(family: Family) -> Result<Option<usize>, FirewallError> {
    let table = family.table();
    hooks::own_rules(table, CHAIN).map_err(|source| FirewallError::Own { table, source })
}

/// Who closes what neither comes from nor goes to a bridge of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closed {
    ByUs,
    /// The table only tells that we turned forwarding on.
    ByOthers,
}

/// Returns the table of a family. Pure.
fn table(family: Family, ours: &Ours, closed: Closed) -> Ruleset {
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
    let rules = if closed == Closed::ByUs { vec![rule.concat()] } else { Vec::new() };
    let hook = Hook { kind: "filter", point: Point::Forward, priority: 0 };
    let names = ours.accept_ra.iter().filter(|_| family == Family::V6);
    let elements = names.map(|name| (ruleset::interface(name), Vec::new())).collect();
    let set = Set { key: vec![Type::Interface], data: Vec::new(), elements };
    Ruleset {
        table: family.table().to_owned(),
        sets: BTreeMap::from([(LISTENERS, set)]),
        chains: vec![Chain { name: CHAIN, hook: Some(hook), rules }],
    }
}

/// Whose bridges there are.
#[derive(Debug, Clone, Copy, Default)]
struct Bridges {
    ours: bool,
    others: bool,
}

async fn bridges(handle: &Handle) -> Result<Bridges, NetlinkError> {
    let mut found = Bridges::default();
    for link in netlink::links(handle).await? {
        let has = |wanted: &LinkAttribute| link.attributes.contains(wanted);
        if has(&LinkAttribute::Group(LINK_GROUP)) {
            found.ours = true;
        } else if foreign::is_bridge(&link) {
            found.others = true;
        }
    }
    Ok(found)
}

fn is_on(family: Family) -> Result<bool, NetlinkError> {
    Ok(netlink::read_sysctl(family.sysctl())?.trim() != "0")
}

/// The links' settings of IPv6 (ip-sysctl.rst).
const LINKS: &str = "/proc/sys/net/ipv6/conf";

/// Returns the links that hear router advertisements. A router ignores them unless told otherwise by 2, so a host that
/// has its address or its default route from one would lose them (ip-sysctl.rst, accept_ra).
fn listeners(links: &Path) -> Result<BTreeSet<String>, NetlinkError> {
    let fail = |source| NetlinkError::Sysctl { path: links.to_owned(), source };
    let mut found = BTreeSet::new();
    for link in fs::read_dir(links).map_err(fail)? {
        let link = link.map_err(fail)?;
        // These two stand for no link.
        let Ok(name) = link.file_name().into_string() else { continue };
        if name == "all" || name == "default" {
            continue;
        }
        if read_accept_ra(&link.path())?.is_some_and(|value| value.trim() == "1") {
            found.insert(name);
        }
    }
    Ok(found)
}

/// Sets `accept_ra` of those links to `new` where it is `old`.
fn change_accept_ra(
    links: &Path,
    names: &BTreeSet<String>,
    old: &str,
    new: &str,
) -> Result<(), NetlinkError> {
    for name in names {
        let link = links.join(name);
        if read_accept_ra(&link)?.is_some_and(|value| value.trim() == old) {
            let path = link.join("accept_ra");
            fs::write(&path, new).map_err(|source| NetlinkError::Sysctl { path, source })?;
        }
    }
    Ok(())
}

/// Returns `None` for a link that went meanwhile.
fn read_accept_ra(link: &Path) -> Result<Option<String>, NetlinkError> {
    let path = link.join("accept_ra");
    match fs::read_to_string(&path) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(NetlinkError::Sysctl { path, source }),
    }
}
