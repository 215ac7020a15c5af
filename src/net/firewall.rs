//! Other people's firewalls: rules of ours as guests in their chains.
//!
//! An accept of ours never beats the drop of another table's forward hook; a rule in its own chain does. So our bridges
//! are let through in `DOCKER-USER`, which docker keeps for its users' rules, else in iptables' `FORWARD`, and in every
//! other base chain on the forward hook that drops or rejects whatever nobody lets through, such as firewalld's. The
//! guests stand behind the rules that look at packets and before the first that takes all: what a user closed by a rule
//! of its own stays closed, and so does what our own table closes, as every base chain has to accept.
//!
//! The other way round, where forwarding is on by our doing (see `forwarding`), what concerns no bridge is closed by the
//! last rule of `FORWARD`, so that whatever its other rules let through passes: containers of a docker that was started
//! after us, as its own policy of drop would let them.

use std::collections::BTreeSet;
use std::io;

use super::hooks::{self, Chain, Hook, Rule};
use super::netfilter::Family;
use super::nft::apply::{self, ApplyError};
use super::nft::encode::{self, GuestRule, Place};
use super::nft::ruleset::{Expression, Meta};

#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    #[error("cannot read the chains of other firewalls")]
    Read { source: io::Error },
    #[error("cannot read table {table} of packet rules")]
    Own { table: &'static str, source: io::Error },
    #[error("cannot open the firewall in table {table} for containers")]
    Change { table: String, source: ApplyError },
}

/// What others' chains are to do for a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// Begins the comment of each rule.
    pub(super) owner: String,
    /// What is let through. Nothing takes all rules of the owner away.
    pub(super) bridges: BTreeSet<Bridges>,
    /// The families in which everything else is closed, a wish that all roots share.
    pub(super) closed: BTreeSet<Family>,
}

/// A pattern of device names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bridges {
    Named(String),
    StartingWith(String),
}

/// How often a chain that changes under our hands is looked at again.
const ATTEMPTS: usize = 5;

/// What became of a wish.
#[derive(Debug)]
pub(super) struct Settled {
    /// The families that others' chains close, so that we need not.
    pub(super) closed: BTreeSet<Family>,
    /// The first chain that could not be changed; the others are.
    pub(super) outcome: Result<(), FirewallError>,
}

/// Makes the guests those of the wish.
pub(super) fn settle(wish: &Wish) -> Result<Settled, FirewallError> {
    let mut settled = settle_once(wish)?;
    for _ in 1..ATTEMPTS {
        match &settled.outcome {
            // A chain or a rule beside ours went meanwhile.
            Err(FirewallError::Change { source: ApplyError::Refused { source, .. }, .. })
                if source.raw_os_error() == Some(libc::ENOENT) =>
            {
                settled = settle_once(wish)?;
            }
            _ => break,
        }
    }
    Ok(settled)
}

fn settle_once(wish: &Wish) -> Result<Settled, FirewallError> {
    let hooks = hooks::on_forward().map_err(|source| FirewallError::Read { source })?;
    let mut settled = Settled { closed: BTreeSet::new(), outcome: Ok(()) };
    for hook in &hooks {
        let (delete, add) = changes(wish, hook);
        let changed = if delete.is_empty() && add.is_empty() {
            Ok(())
        } else {
            let batch = encode::change_guests(hook.family, &hook.table, &delete, &add);
            apply::send(&hook.table, &batch)
        };
        if changed.is_ok() || hook.closes(is_closing) {
            let seen = Family::ALL.into_iter().filter(|family| closes(hook, *family));
            settled.closed.extend(seen);
        }
        let table = hook.table.clone();
        let changed = changed.map_err(|source| FirewallError::Change { table, source });
        settled.outcome = settled.outcome.and(changed);
    }
    Ok(settled)
}

/// Has iptables' chains close by their policy what our last rule there closed, as dockerd does where it turns
/// forwarding on. Tells whether some chain of others closes the family.
pub(super) fn close_for_good(family: Family) -> Result<bool, FirewallError> {
    let hooks = hooks::on_forward().map_err(|source| FirewallError::Read { source })?;
    for hook in hooks.iter().filter(|hook| hook.is_iptables() && hook.sees(family)) {
        if !hook.closes(is_closing) {
            let batch = encode::drop_by_policy(hook.family, &hook.table, &hook.chain.name);
            apply::send(&hook.table, &batch)
                .map_err(|source| FirewallError::Change { table: hook.table.clone(), source })?;
        }
    }
    Ok(hooks.iter().any(|hook| closes(hook, family)))
}

/// Whether the chain closes the family, be it by our last rule there.
fn closes(hook: &Hook, family: Family) -> bool {
    hook.sees(family) && (hook.is_iptables() || hook.closes(|_| false))
}

/// Tells whether a rule is the one that closes what concerns no bridge of any root.
fn is_closing(rule: &Rule) -> bool {
    Family::ALL.iter().any(|family| rule.user_data == encode::comment(&closing_comment(*family)))
}

fn closing_comment(family: Family) -> String {
    let word = match family {
        Family::V4 => "ip_forward",
        Family::V6 => "IPv6 forwarding",
    };
    format!("bargee: closed because bargee turned {word} on")
}

type Changes = (Vec<(String, u64)>, Vec<GuestRule>);

/// Returns the rules to delete and to add. Pure.
fn changes(wish: &Wish, hook: &Hook) -> Changes {
    let family = Family::ALL.into_iter().find(|family| hook.is_iptables() && hook.sees(*family));
    let (mut delete, mut add) = (Vec::new(), Vec::new());
    let old: Vec<&Rule> = hook.chain.rules.iter().filter(|rule| is_closing(rule)).collect();
    let closing = family.filter(|family| wish.closed.contains(family) && !hook.closes(is_closing));
    // Rules that were appended after it would never be reached.
    let last = hook.chain.rules.last();
    let stays = closing.is_some() && old.len() == 1 && last == old.first().copied();
    let is_open = hook.is_iptables() || hook.closes(|_| false);
    let place = hook.docker_user.as_ref().unwrap_or(&hook.chain);
    for chain in [Some(&hook.chain), hook.docker_user.as_ref()].into_iter().flatten() {
        let wanted = match is_open && chain.name == place.name {
            true => guests(wish, chain, stays),
            false => Vec::new(),
        };
        let ours = || chain.rules.iter().filter(|rule| belongs_to(&wish.owner, rule));
        let has: BTreeSet<Vec<u8>> = ours().map(|rule| rule.user_data.clone()).collect();
        if has != wanted.iter().map(|rule| encode::comment(&rule.comment)).collect() {
            delete.extend(ours().map(|rule| (chain.name.clone(), rule.handle)));
            add.extend(wanted);
        }
    }
    if !stays {
        delete.extend(old.iter().map(|rule| (hook.chain.name.clone(), rule.handle)));
        add.extend(closing.map(|family| GuestRule {
            chain: hook.chain.name.clone(),
            // Nothing but what iptables(8) knows: with anything else in its table it lists nothing at all.
            expressions: vec![Expression::Drop],
            comment: closing_comment(family),
            place: Place::Last,
        }));
    }
    (delete, add)
}

fn belongs_to(owner: &str, rule: &Rule) -> bool {
    let mark = encode::comment(&format!("{owner} "));
    // Without the length before it and the NUL behind.
    let mark = &mark[2..mark.len() - 1];
    rule.user_data.get(2..).is_some_and(|text| text.starts_with(mark))
}

/// Returns the rules that let the bridges through. `closing_stays` says that our last rule of this chain is not made
/// anew.
fn guests(wish: &Wish, chain: &Chain, closing_stays: bool) -> Vec<GuestRule> {
    let stops = |rule: &&Rule| rule.is_unconditional && (closing_stays || !is_closing(rule));
    let place = chain.rules.iter().find(stops);
    let place = place.map_or(Place::Last, |rule| Place::Before(rule.handle));
    let directions = [(Meta::InputName, "from"), (Meta::OutputName, "to")];
    let rules = wish.bridges.iter().flat_map(|bridges| {
        directions.map(|(key, word)| {
            let (value, name) = match bridges {
                Bridges::Named(name) => ([name.as_bytes(), &[0]].concat(), name.clone()),
                Bridges::StartingWith(name) => (name.as_bytes().to_vec(), format!("{name}*")),
            };
            GuestRule {
                chain: chain.name.clone(),
                expressions: vec![
                    Expression::Meta { key, to: 0 },
                    Expression::Equal { register: 0, value },
                    Expression::Accept,
                ],
                comment: format!("{} {word} {name}", wish.owner),
                place,
            }
        })
    });
    rules.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::hooks::End;

    fn wish(bridges: &[Bridges], closed: &[Family]) -> Wish {
        Wish {
            owner: "bargee-t".to_owned(),
            bridges: bridges.iter().cloned().collect(),
            closed: closed.iter().copied().collect(),
        }
    }

    fn rule(handle: u64, comment: &str, end: Option<End>) -> Rule {
        let is_unconditional = end.is_some();
        let end = end.unwrap_or_default();
        Rule { handle, user_data: encode::comment(comment), is_unconditional, end }
    }

    fn forward(rules: Vec<Rule>) -> Hook {
        Hook {
            family: Family::V4.number(),
            table: "filter".to_owned(),
            chain: Chain { name: "FORWARD".to_owned(), rules },
            drops_by_policy: false,
            docker_user: None,
        }
    }

    fn docker(user: Vec<Rule>) -> Hook {
        let jump = rule(1, "", Some(End::Jump("DOCKER-USER".to_owned())));
        let user = Chain { name: "DOCKER-USER".to_owned(), rules: user };
        Hook { docker_user: Some(user), ..forward(vec![jump]) }
    }

    fn places(changes: &Changes) -> Vec<(&str, Place)> {
        changes.1.iter().map(|rule| (rule.chain.as_str(), rule.place)).collect()
    }

    fn bridges() -> [Bridges; 1] {
        [Bridges::StartingWith("bbt".to_owned())]
    }

    #[test]
    fn guests_stand_behind_what_looks_at_packets_and_before_what_takes_all() {
        let wanted = wish(&bridges(), &[]);
        let user = vec![rule(3, "", None), rule(4, "", Some(End::Open))];
        let found = changes(&wanted, &docker(user));
        assert!(found.0.is_empty());
        assert_eq!(places(&found), [("DOCKER-USER", Place::Before(4)); 2]);
        assert_eq!(
            places(&changes(&wanted, &docker(Vec::new()))),
            [("DOCKER-USER", Place::Last); 2]
        );
        let rejects = forward(vec![rule(8, "", None), rule(9, "", Some(End::Closed))]);
        assert_eq!(places(&changes(&wanted, &rejects)), [("FORWARD", Place::Before(9)); 2]);
    }

    #[test]
    fn a_chain_of_nobody_known_is_opened_only_if_it_closes() {
        let wanted = wish(&bridges(), &[Family::V4]);
        let mut hook = Hook { table: "mine".to_owned(), ..forward(vec![rule(8, "", None)]) };
        assert_eq!(changes(&wanted, &hook), Changes::default());
        assert!(!closes(&hook, Family::V4));
        hook.drops_by_policy = true;
        assert_eq!(places(&changes(&wanted, &hook)), [("FORWARD", Place::Last); 2]);
        assert!(closes(&hook, Family::V4) && !closes(&hook, Family::V6));
    }

    #[test]
    fn only_rules_of_the_owner_go_and_those_that_fit_stay() {
        let wanted = wish(&[Bridges::Named("br7".to_owned())], &[]);
        let ours = [rule(1, "bargee-t from br7", None), rule(2, "bargee-t to br7", None)];
        let chain = [ours.as_slice(), &[rule(5, "bargee-tt from x", None)]].concat();
        assert_eq!(changes(&wanted, &forward(chain.clone())), Changes::default());
        let (delete, add) = changes(&wish(&[], &[]), &forward(chain));
        let forward = "FORWARD".to_owned();
        assert_eq!((delete, add.len()), (vec![(forward.clone(), 1), (forward, 2)], 0));
    }

    #[test]
    fn what_closes_the_rest_is_one_rule_and_the_last() {
        let closing = |handle| rule(handle, &closing_comment(Family::V4), Some(End::Closed));
        let wanted = wish(&[], &[Family::V4]);
        assert_eq!(
            changes(&wanted, &forward(vec![rule(1, "", None), closing(2)])),
            Changes::default()
        );
        let found = changes(&wanted, &forward(vec![closing(2), rule(3, "", None)]));
        assert_eq!(found.0, [("FORWARD".to_owned(), 2)]);
        assert_eq!(places(&found), [("FORWARD", Place::Last)]);
        let found = changes(&wanted, &forward(vec![closing(2), closing(3)]));
        assert_eq!((found.0.len(), found.1.len()), (2, 1));
        // A firewall that closes by itself needs no help, and neither does a family that we left alone.
        let mut strict = forward(vec![closing(2)]);
        strict.drops_by_policy = true;
        assert_eq!((changes(&wanted, &strict).0.len(), changes(&wanted, &strict).1.len()), (1, 0));
        let found = changes(&wish(&[], &[Family::V6]), &forward(vec![closing(2)]));
        assert_eq!((found.0.len(), found.1.len()), (1, 0));
        // Our accepts stand before it, wherever it goes.
        let both = wish(&bridges(), &[Family::V4]);
        let found = changes(&both, &forward(vec![closing(2)]));
        assert_eq!(places(&found), [("FORWARD", Place::Before(2)); 2]);
        let found = changes(&both, &forward(vec![closing(2), rule(3, "", None)]));
        assert_eq!(places(&found), [("FORWARD", Place::Last); 3]);
    }
}
