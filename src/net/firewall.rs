//! Other people's firewalls: accept rules for our bridges in their forward chains.
//!
//! An accept of ours never beats the drop of another table's forward hook; a rule in its own chain does. The `filter`
//! tables of iptables-nft are opened, in `DOCKER-USER`, which dockerd keeps for others, else in `FORWARD`. What our
//! own table closes stays closed: every base chain has to accept.
//!
//! Tables of iptables-legacy lie elsewhere in the kernel and are not touched, nor is firewalld's table.

use std::collections::BTreeSet;
use std::io;

use rtnetlink::sys::Socket;

use super::netfilter::{self, ACKNOWLEDGE, DUMP, REQUEST, attributes_of, message, padded, receive};
use super::nft::apply::{self, ApplyError};
use super::nft::encode::{self, GuestRule, Place};
use super::nft::ruleset::{Expression, Meta};

const TABLE: &str = "filter";
/// The one that is used comes first.
const CHAINS: [&str; 2] = ["DOCKER-USER", "FORWARD"];
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const FAMILIES: [u8; 2] = [2, 10];
/// `NFPROTO_INET`.
const FAMILY_INET: u8 = 1;
/// `NFT_MSG_GETCHAIN` and `NFT_MSG_GETRULE` of the subsystem `NFNL_SUBSYS_NFTABLES`.
const GET_CHAIN: u16 = 10 << 8 | 4;
const GET_RULE: u16 = 10 << 8 | 7;

#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    #[error("cannot read chain {chain} of the firewall")]
    Read { chain: &'static str, source: io::Error },
    #[error("cannot open the firewall for our bridges")]
    Change(#[from] ApplyError),
}

/// Which bridges are let through, and whose rules they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Begins the comment of each rule.
    pub owner: String,
    pub bridges: BTreeSet<Bridges>,
}

/// A pattern of device names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bridges {
    Named(String),
    StartingWith(String),
}

/// Makes the rules of `opening`'s owner in all chains those of `opening`; no bridges remove them.
pub fn open(opening: &Opening) -> Result<(), FirewallError> {
    for family in FAMILIES {
        let mut chains = Vec::new();
        for chain in CHAINS {
            let read = |source| FirewallError::Read { chain, source };
            if exists(family, chain).map_err(read)? {
                chains.push((chain, rules(family, TABLE, chain).map_err(read)?));
            }
        }
        let (delete, add) = changes(opening, &chains);
        if !delete.is_empty() || !add.is_empty() {
            apply::send(TABLE, &encode::change_guests(family, TABLE, &delete, &add))?;
        }
    }
    Ok(())
}

/// Tells whether a table of ours still has its rules: somebody may have flushed it.
pub(super) fn has_rules(table: &str) -> Result<bool, FirewallError> {
    let chain = "forward";
    let found = rules(FAMILY_INET, table, chain);
    Ok(!found.map_err(|source| FirewallError::Read { chain, source })?.is_empty())
}

/// A rule as it is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Found {
    handle: u64,
    user_data: Vec<u8>,
    /// Whether it looks at nothing and only counts or decides.
    is_unconditional: bool,
}

/// Returns the rules to delete and to add. Pure.
fn changes(
    opening: &Opening,
    chains: &[(&'static str, Vec<Found>)],
) -> (Vec<(&'static str, u64)>, Vec<GuestRule>) {
    let (mut delete, mut add) = (Vec::new(), Vec::new());
    let mark = encode::comment(&format!("{} ", opening.owner));
    // Without the length before it and the NUL behind.
    let mark = &mark[2..mark.len() - 1];
    for (number, (chain, found)) in chains.iter().enumerate() {
        let wanted = if number == 0 { guests(opening, chain, found) } else { Vec::new() };
        let ours = || {
            let text =
                |rule: &Found| rule.user_data.get(2..).is_some_and(|text| text.starts_with(mark));
            found.iter().filter(move |rule| text(rule))
        };
        let marks = |rules: &mut dyn Iterator<Item = Vec<u8>>| rules.collect::<BTreeSet<_>>();
        let has = marks(&mut ours().map(|rule| rule.user_data.clone()));
        if has != marks(&mut wanted.iter().map(|rule| encode::comment(&rule.comment))) {
            delete.extend(ours().map(|rule| (*chain, rule.handle)));
            add.extend(wanted);
        }
    }
    (delete, add)
}

/// What the user put into DOCKER-USER goes first, though not the RETURN that dockerd ends it with. In FORWARD we are
/// first, as docker is: it may end with a rule that rejects the rest.
fn guests(opening: &Opening, chain: &'static str, found: &[Found]) -> Vec<GuestRule> {
    let place = match (chain, found.last()) {
        ("FORWARD", _) => Place::First,
        (_, Some(last)) if last.is_unconditional => Place::Before(last.handle),
        _ => Place::Last,
    };
    let directions = [(Meta::InputName, "from"), (Meta::OutputName, "to")];
    let rules = opening.bridges.iter().flat_map(|bridges| {
        directions.map(|(key, word)| {
            let (value, name) = match bridges {
                Bridges::Named(name) => ([name.as_bytes(), &[0]].concat(), name.clone()),
                Bridges::StartingWith(name) => (name.as_bytes().to_vec(), format!("{name}*")),
            };
            GuestRule {
                chain,
                expressions: vec![
                    Expression::Meta { key, to: 0 },
                    Expression::Equal { register: 0, value },
                    Expression::Accept,
                ],
                comment: format!("{} {word} {name}", opening.owner),
                place,
            }
        })
    });
    rules.collect()
}

fn exists(family: u8, chain: &str) -> io::Result<bool> {
    let socket = netfilter::open()?;
    let wanted = [attribute(1, TABLE), attribute(3, chain)].concat();
    netfilter::send(&socket, &message(GET_CHAIN, REQUEST | ACKNOWLEDGE, family, &wanted))?;
    match receive(&socket, |_, _| ()) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn rules(family: u8, table: &str, chain: &str) -> io::Result<Vec<Found>> {
    let socket: Socket = netfilter::open()?;
    let wanted = [attribute(1, table), attribute(2, chain)].concat();
    netfilter::send(&socket, &message(GET_RULE, REQUEST | DUMP, family, &wanted))?;
    let mut found = Vec::new();
    receive(&socket, |_, body| {
        let mut rule = Found::default();
        for (kind, value, _) in attributes_of(body) {
            match (kind, <[u8; 8]>::try_from(value)) {
                (3, Ok(handle)) => rule.handle = u64::from_be_bytes(handle),
                (4, _) => rule.is_unconditional = is_unconditional(value),
                (7, _) => rule.user_data = value.to_vec(),
                _ => {}
            }
        }
        found.push(rule);
    })?;
    Ok(found)
}

/// Reads a list of expressions, each with its name first.
fn is_unconditional(expressions: &[u8]) -> bool {
    let names = attributes_of(expressions)
        .flat_map(|(_, expression, _)| attributes_of(expression).filter(|(kind, ..)| *kind == 1));
    names.into_iter().all(|(_, name, _)| matches!(name, b"counter\0" | b"immediate\0"))
}

/// A text attribute (netlink(7)).
fn attribute(kind: u16, text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len() + 5).expect("names of tables and chains are short");
    let whole = [&length.to_ne_bytes(), &kind.to_ne_bytes(), text.as_bytes(), &[0]].concat();
    padded(&whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(bridges: &[Bridges]) -> Opening {
        Opening { owner: "bargee-t".to_owned(), bridges: bridges.iter().cloned().collect() }
    }

    fn found(handle: u64, comment: &str, is_unconditional: bool) -> Found {
        Found { handle, user_data: encode::comment(comment), is_unconditional }
    }

    #[test]
    fn rules_stand_before_the_return_that_ends_the_users_chain() {
        let wanted = opening(&[Bridges::StartingWith("bbt".to_owned())]);
        let chains = |user: Vec<Found>| vec![("DOCKER-USER", user), ("FORWARD", Vec::new())];
        let (delete, add) =
            changes(&wanted, &chains(vec![found(3, "", false), found(4, "", true)]));
        assert!(delete.is_empty());
        let places: Vec<_> = add.iter().map(|rule| (rule.chain, rule.place)).collect();
        assert_eq!(places, [("DOCKER-USER", Place::Before(4)); 2]);
        let (_, add) = changes(&wanted, &chains(Vec::new()));
        assert_eq!(add[0].place, Place::Last);
        let (_, add) = changes(&wanted, &[("FORWARD", vec![found(9, "", true)])]);
        assert_eq!((add[0].chain, add[0].place), ("FORWARD", Place::First));
    }

    #[test]
    fn only_rules_of_the_owner_go_and_those_that_fit_stay() {
        let wanted = opening(&[Bridges::Named("br7".to_owned())]);
        let ours = [found(1, "bargee-t from br7", false), found(2, "bargee-t to br7", false)];
        let others = found(5, "bargee-tt from x", false);
        let chain = [ours.as_slice(), &[others]].concat();
        assert_eq!(changes(&wanted, &[("FORWARD", chain.clone())]), (Vec::new(), Vec::new()));
        let (delete, add) = changes(&opening(&[]), &[("FORWARD", chain)]);
        assert_eq!((delete, add.len()), (vec![("FORWARD", 1), ("FORWARD", 2)], 0));
    }
}
