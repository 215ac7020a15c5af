//! State → ruleset. The chains never change: networks, bridges and ports are elements of maps and sets, so a change
//! costs the same with 10 or 10,000 ports. Pure.
//!
//! A port with one backend is a plain map element. A port with more lies in a second map whose key also holds a
//! random bucket of 60, a number that 1 to 6 divide evenly.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::super::model::{Publication, State};

/// Buckets of a balanced port.
pub const BUCKETS: u32 = 60;

/// One table of the `inet` family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    pub table: String,
    pub sets: BTreeMap<&'static str, Set>,
    pub chains: Vec<Chain>,
}

/// A set, or a map when it has data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub key: Vec<Type>,
    pub data: Vec<Type>,
    pub elements: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A set's types. The numbers are those of nft(8), so that `nft list ruleset` prints the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Ipv4,
    Ipv6,
    Protocol,
    Port,
    Bucket,
    Interface,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub name: &'static str,
    pub hook: Option<Hook>,
    pub rules: Vec<Vec<Expression>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    pub kind: &'static str,
    pub point: Point,
    pub priority: i32,
}

/// Where packets pass, numbered as in linux/netfilter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    Prerouting,
    Forward,
    Output,
    Postrouting,
}

/// One expression of a rule. Registers are 32-bit slots counted from 0; a value's bytes fill the slots from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    Meta {
        key: Meta,
        to: u32,
    },
    Payload {
        base: Base,
        offset: u32,
        length: u32,
        to: u32,
    },
    Ct {
        key: Ct,
        to: u32,
    },
    /// The type of the destination address (RTN_*), by a route lookup.
    DestinationType {
        to: u32,
    },
    Random {
        modulus: u32,
        to: u32,
    },
    Immediate {
        to: u32,
        value: Vec<u8>,
    },
    /// Keeps the bits of one slot that `mask` has.
    Mask {
        register: u32,
        mask: u32,
    },
    Equal {
        register: u32,
        value: Vec<u8>,
    },
    NotEqual {
        register: u32,
        value: Vec<u8>,
    },
    Lookup {
        set: &'static str,
        from: u32,
    },
    LookupMissing {
        set: &'static str,
        from: u32,
    },
    /// Ends the rule when the map has no such key.
    Map {
        set: &'static str,
        from: u32,
        to: u32,
    },
    Dnat {
        family: u8,
        address: u32,
        port: u32,
    },
    Masquerade,
    Accept,
    Drop,
    /// Goes on behind the rule that led here.
    Return,
    Jump(Cow<'static, str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    InputName,
    OutputName,
    InputGroup,
    OutputGroup,
    Family,
    Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    Network,
    Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ct {
    State,
    Status,
}

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// `RTN_LOCAL` of linux/rtnetlink.h.
const LOCAL: u32 = 2;
/// `IPS_DST_NAT`: the flow was translated.
const TRANSLATED: u32 = 1 << 5;
/// ESTABLISHED and RELATED as bits of `ct state`.
const KNOWN: u32 = 2 | 4;
/// Registers hold 16-byte interface names in four slots.
const NAME_SLOTS: u32 = 4;

/// Returns the rules of an engine root.
pub fn ruleset(root_id: &str, state: &State) -> Ruleset {
    let mut sets = empty_sets();
    for network in state.networks.values() {
        let name = interface(&network.bridge);
        insert(&mut sets, "bridges", name.clone(), Vec::new());
        insert(&mut sets, "same", [name.clone(), name.clone()].concat(), Vec::new());
        if network.internal {
            insert(&mut sets, "internal", name, Vec::new());
        } else if network.masquerade {
            insert(&mut sets, "outward", name, Vec::new());
        }
    }
    for publication in &state.publications {
        publish(&mut sets, publication);
    }
    Ruleset { table: table_name(root_id), sets, chains: chains() }
}

/// Returns the name of a root's table.
pub fn table_name(root_id: &str) -> String {
    format!("bargee-{root_id}")
}

/// Returns the rules inside a sandbox that lead 127.0.0.11:53 to the resolver's real ports, so that the container may
/// bind 0.0.0.0:53 itself.
pub fn resolver_ruleset(udp_port: u16, tcp_port: u16) -> Ruleset {
    use Expression::{Dnat, Equal, Immediate, Meta as Load, Payload};
    let address = vec![127, 0, 0, 11];
    let redirect = |protocol: u8, port: u16| {
        vec![
            Load { key: Meta::Family, to: 0 },
            Equal { register: 0, value: vec![IPV4] },
            Payload { base: Base::Network, offset: 16, length: 4, to: 0 },
            Equal { register: 0, value: address.clone() },
            Load { key: Meta::Protocol, to: 0 },
            Equal { register: 0, value: vec![protocol] },
            Payload { base: Base::Transport, offset: 2, length: 2, to: 0 },
            Equal { register: 0, value: 53_u16.to_be_bytes().to_vec() },
            Immediate { to: 0, value: address.clone() },
            Immediate { to: 1, value: port.to_be_bytes().to_vec() },
            Dnat { family: IPV4, address: 0, port: 1 },
        ]
    };
    let hook = Hook { kind: "nat", point: Point::Output, priority: -100 };
    Ruleset {
        table: table_name("resolver"),
        sets: BTreeMap::new(),
        chains: vec![Chain {
            name: "output",
            hook: Some(hook),
            rules: vec![redirect(17, udp_port), redirect(6, tcp_port)],
        }],
    }
}

fn empty_sets() -> BTreeMap<&'static str, Set> {
    use Type::{Bucket, Interface, Ipv4, Ipv6, Port, Protocol};
    let set = |key: &[Type], data: &[Type]| Set {
        key: key.to_vec(),
        data: data.to_vec(),
        elements: BTreeMap::new(),
    };
    let (to4, to6) = ([Ipv4, Port], [Ipv6, Port]);
    BTreeMap::from([
        ("bridges", set(&[Interface], &[])),
        ("internal", set(&[Interface], &[])),
        ("outward", set(&[Interface], &[])),
        ("same", set(&[Interface, Interface], &[])),
        ("self4", set(&[Ipv4, Ipv4], &[])),
        ("self6", set(&[Ipv6, Ipv6], &[])),
        ("any4", set(&[Protocol, Port], &to4)),
        ("any6", set(&[Protocol, Port], &to6)),
        ("at4", set(&[Protocol, Port, Ipv4], &to4)),
        ("at6", set(&[Protocol, Port, Ipv6], &to6)),
        ("any4lb", set(&[Bucket, Protocol, Port], &to4)),
        ("any6lb", set(&[Bucket, Protocol, Port], &to6)),
        ("at4lb", set(&[Bucket, Protocol, Port, Ipv4], &to4)),
        ("at6lb", set(&[Bucket, Protocol, Port, Ipv6], &to6)),
    ])
}

fn insert(sets: &mut BTreeMap<&'static str, Set>, name: &'static str, key: Vec<u8>, data: Vec<u8>) {
    sets.get_mut(name).expect("every set was made empty before").elements.insert(key, data);
}

/// Adds a port's elements. Backends of the other family are left out: the kernel can't translate between them, the
/// proxy can.
fn publish(sets: &mut BTreeMap<&'static str, Set>, publication: &Publication) {
    let backends: Vec<&SocketAddr> = publication
        .backends
        .iter()
        .filter(|backend| backend.is_ipv4() == publication.host_ip.is_ipv4())
        .collect();
    for backend in &backends {
        let set = if backend.is_ipv4() { "self4" } else { "self6" };
        insert(sets, set, octets(backend.ip()).repeat(2), Vec::new());
    }
    let mut key = slot(&[publication.protocol.number()]);
    key.extend(slot(&publication.host_port.to_be_bytes()));
    if !publication.host_ip.is_unspecified() {
        key.extend(octets(publication.host_ip));
    }
    let any = publication.host_ip.is_unspecified();
    let [single, balanced] = match (publication.host_ip.is_ipv4(), any) {
        (true, true) => ["any4", "any4lb"],
        (true, false) => ["at4", "at4lb"],
        (false, true) => ["any6", "any6lb"],
        (false, false) => ["at6", "at6lb"],
    };
    match backends.as_slice() {
        [] => {}
        [backend] => insert(sets, single, key, destination(backend)),
        several => {
            for (bucket, backend) in (0..BUCKETS).zip(several.iter().cycle()) {
                let key = [bucket.to_ne_bytes().to_vec(), key.clone()].concat();
                insert(sets, balanced, key, destination(backend));
            }
        }
    }
}

fn destination(backend: &SocketAddr) -> Vec<u8> {
    [octets(backend.ip()), slot(&backend.port().to_be_bytes())].concat()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Pads a field of a concatenation to the register's 4 bytes.
fn slot(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    padded
}

/// Returns an interface's name as the 16 bytes that `meta iifname` loads.
pub(in crate::net) fn interface(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn chains() -> Vec<Chain> {
    use Expression::{
        Accept, Ct as LoadCt, DestinationType, Drop, Equal, Jump, Lookup, LookupMissing, Mask,
        Masquerade, Meta as Load, NotEqual, Payload,
    };
    let input = Load { key: Meta::InputName, to: 0 };
    let output = Load { key: Meta::OutputName, to: 0 };
    let output_beside = Load { key: Meta::OutputName, to: NAME_SLOTS };
    let translated = [
        LoadCt { key: Ct::Status, to: 0 },
        Mask { register: 0, mask: TRANSLATED },
        NotEqual { register: 0, value: 0_u32.to_ne_bytes().to_vec() },
    ];
    let known = [
        LoadCt { key: Ct::State, to: 0 },
        Mask { register: 0, mask: KNOWN },
        NotEqual { register: 0, value: 0_u32.to_ne_bytes().to_vec() },
    ];
    let in_set = |load: &Expression, set| [load.clone(), Lookup { set, from: 0 }];
    let same = [input.clone(), output_beside, Lookup { set: "same", from: 0 }];
    let family4 = [Load { key: Meta::Family, to: 0 }, Equal { register: 0, value: vec![IPV4] }];
    let family6 = [Load { key: Meta::Family, to: 0 }, Equal { register: 0, value: vec![IPV6] }];
    let network = |offset, length, to| Payload { base: Base::Network, offset, length, to };
    let self4 = [network(12, 4, 0), network(16, 4, 1), Lookup { set: "self4", from: 0 }];
    let self6 = [network(8, 16, 0), network(24, 16, 4), Lookup { set: "self6", from: 0 }];
    let loopback = |offset| {
        [
            Payload { base: Base::Network, offset, length: 1, to: 0 },
            Equal { register: 0, value: vec![127] },
        ]
    };
    let local = [
        DestinationType { to: 0 },
        Equal { register: 0, value: LOCAL.to_ne_bytes().to_vec() },
        Jump("published".into()),
    ];
    let hook = |kind, point, priority| Some(Hook { kind, point, priority });
    let rule = |parts: &[&[Expression]]| parts.concat();
    vec![
        Chain { name: "published", hook: None, rules: published_rules() },
        Chain {
            name: "raw",
            hook: hook("filter", Point::Prerouting, -300),
            // With `route_localnet` on a bridge a container could reach services on the host's loopback.
            rules: vec![rule(&[&in_set(&input, "bridges"), &family4, &loopback(16), &[Drop]])],
        },
        Chain {
            name: "prerouting",
            hook: hook("nat", Point::Prerouting, -100),
            rules: vec![rule(&[&local])],
        },
        Chain {
            name: "output",
            hook: hook("nat", Point::Output, -100),
            // A packet from ::1 can't leave the host, so ::1 is the proxy's.
            rules: vec![
                rule(&[
                    &family6,
                    &[
                        network(24, 16, 0),
                        Equal { register: 0, value: octets(Ipv6Addr::LOCALHOST.into()) },
                        Accept,
                    ],
                ]),
                rule(&[&local]),
            ],
        },
        Chain {
            name: "postrouting",
            hook: hook("nat", Point::Postrouting, 100),
            rules: vec![
                // A container that calls its own port would see itself as the caller. No input name here: under
                // br_netfilter this hook runs without one.
                rule(&[&translated, &family4, &self4, &[Masquerade]]),
                rule(&[&translated, &family6, &self6, &[Masquerade]]),
                // A sibling on the same bridge would answer past us otherwise.
                rule(&[&translated, &same, &[Masquerade]]),
                rule(&[
                    &in_set(&input, "outward"),
                    &[output.clone(), LookupMissing { set: "bridges", from: 0 }, Masquerade],
                ]),
                // A container can't answer to 127.0.0.1.
                rule(&[&in_set(&output, "bridges"), &family4, &loopback(12), &[Masquerade]]),
            ],
        },
        Chain {
            name: "forward",
            hook: hook("filter", Point::Forward, 0),
            rules: vec![
                rule(&[&same, &[Accept]]),
                rule(&[&in_set(&input, "internal"), &[Drop]]),
                rule(&[&in_set(&output, "internal"), &[Drop]]),
                rule(&[&in_set(&output, "bridges"), &known, &[Accept]]),
                rule(&[&in_set(&output, "bridges"), &translated, &[Accept]]),
                rule(&[&in_set(&output, "bridges"), &[Drop]]),
            ],
        },
    ]
}

/// Each lookup stands twice: before Linux 6.17 one that races a commit may miss.
fn published_rules() -> Vec<Vec<Expression>> {
    use Expression::{Dnat, Equal, Map, Meta as Load, Payload, Random};
    let rule = |family: u8, set: &'static str| {
        let (offset, length, slots) = if family == IPV4 { (16, 4, 1) } else { (24, 16, 4) };
        let bucket = u32::from(set.ends_with("lb"));
        let mut rule =
            vec![Load { key: Meta::Family, to: 0 }, Equal { register: 0, value: vec![family] }];
        if bucket == 1 {
            rule.push(Random { modulus: BUCKETS, to: 0 });
        }
        rule.push(Load { key: Meta::Protocol, to: bucket });
        rule.push(Payload { base: Base::Transport, offset: 2, length: 2, to: bucket + 1 });
        if set.starts_with("at") {
            rule.push(Payload { base: Base::Network, offset, length, to: bucket + 2 });
        }
        rule.push(Map { set, from: 0, to: 0 });
        rule.push(Dnat { family, address: 0, port: slots });
        rule
    };
    let once =
        [(IPV4, ["at4", "at4lb", "any4", "any4lb"]), (IPV6, ["at6", "at6lb", "any6", "any6lb"])];
    let rules = once.iter().flat_map(|(family, sets)| sets.iter().map(|set| rule(*family, set)));
    let rules: Vec<_> = rules.collect();
    [rules.clone(), rules].concat()
}

/// What turns one ruleset into another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// Elements to delete, then elements to add, by set.
    Elements {
        delete: Elements,
        add: Elements,
    },
    /// The whole table, in one transaction.
    Replace,
}

/// Elements by set.
pub type Elements = BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Returns the smallest change from `old` to `new`.
pub fn diff(old: &Ruleset, new: &Ruleset) -> Change {
    let shape = |ruleset: &Ruleset| -> Vec<(&'static str, Vec<Type>, Vec<Type>)> {
        ruleset.sets.iter().map(|(name, set)| (*name, set.key.clone(), set.data.clone())).collect()
    };
    if old.table != new.table || old.chains != new.chains || shape(old) != shape(new) {
        return Change::Replace;
    }
    let (delete, add) = (missing_in(old, new), missing_in(new, old));
    if delete.is_empty() && add.is_empty() {
        Change::Nothing
    } else {
        Change::Elements { delete, add }
    }
}

/// Returns the elements of `left` that `right` lacks or maps elsewhere.
fn missing_in(left: &Ruleset, right: &Ruleset) -> Elements {
    let mut missing = Elements::new();
    for (name, set) in &left.sets {
        let other = right.sets.get(name).map(|set| &set.elements);
        let gone = set
            .elements
            .iter()
            .filter(|(key, data)| other.and_then(|other| other.get(*key)) != Some(data));
        let gone: BTreeMap<_, _> = gone.map(|(key, data)| (key.clone(), data.clone())).collect();
        if !gone.is_empty() {
            missing.insert(name, gone);
        }
    }
    missing
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use crate::net::model::Protocol;

    fn published(backends: &[&str]) -> Ruleset {
        let publication = Publication {
            host_ip: "0.0.0.0".parse().unwrap(),
            host_port: 8080,
            protocol: Protocol::Tcp,
            backends: backends.iter().map(|backend| backend.parse().unwrap()).collect(),
        };
        ruleset("t", &State { publications: vec![publication], ..State::default() })
    }

    #[test]
    fn one_backend_is_one_element_and_three_share_the_buckets_evenly() {
        let one = published(&["10.0.0.2:80"]);
        assert_eq!(one.sets["any4"].elements.len(), 1);
        let three = published(&["10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"]);
        assert_eq!(three.sets["any4"].elements.len(), 0);
        let mut shares = BTreeMap::new();
        for data in three.sets["any4lb"].elements.values() {
            *shares.entry(data.clone()).or_insert(0) += 1;
        }
        assert_eq!(shares.values().copied().collect::<Vec<_>>(), [20, 20, 20]);
    }

    #[test]
    fn a_moved_backend_changes_one_element_and_no_chain() {
        let (old, new) = (published(&["10.0.0.2:80"]), published(&["10.0.0.3:80"]));
        let Change::Elements { delete, add } = diff(&old, &new) else { panic!("chains changed") };
        assert_eq!((delete["any4"].len(), add["any4"].len()), (1, 1));
        assert_eq!(diff(&old, &old), Change::Nothing);
    }

    #[test]
    fn a_port_without_backends_has_no_element() {
        assert!(published(&[]).sets.values().all(|set| set.elements.is_empty()));
    }
}
