//! Other people's firewalls: rules of ours as guests in their chains.
//!
//! An accept of ours never beats the drop of another table's forward hook; a rule in its own chain does. So our bridges
//! are let through in `DOCKER-USER`, which docker keeps for its users' rules, else in iptables' `FORWARD`, and in every
//! other base chain on the forward hook that drops or rejects whatever nobody lets through, such as firewalld's. The
//! guests stand behind the rules that look at packets and before the first that takes all: what a user closed by a rule
//! of its own stays closed, and so does what our own table closes, as every base chain has to accept.
//!
//! What goes from a bridge of ours to one of another program (see `foreign`) is left to its rules, by a chain of ours
//! beside the guests: docker's and libvirt's networks stay closed as they are to everybody else.
//!
//! The other way round, where forwarding is on by our doing (see `forwarding`), what concerns no bridge is closed by the
//! last rule of `FORWARD`, so that whatever its other rules let through passes: containers of a docker that was started
//! after us, as its own policy of drop would let them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::hooks::{self, Chain, Hook, Rule};
use super::legacy::{self, LegacyError};
use super::netfilter::Family;
use super::nft::apply::{self, ApplyError};
use super::nft::encode::{self, GuestChain, GuestRule, Place};
use super::nft::ruleset::{Expression, Meta};

#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    #[error("cannot read the chains of other firewalls")]
    Read { source: io::Error },
    #[error("cannot read table {table} of packet rules")]
    Own { table: &'static str, source: io::Error },
    #[error("cannot open the firewall in table {table} for containers")]
    Change { table: String, source: ApplyError },
    #[error(
        "the packet rules in table {table} may be changed by the program alone that made it, so what it closes stays \
         closed for containers: have it let the devices {devices} through, or, if it is firewalld, set \
         NftablesTableOwner=no in /etc/firewalld/firewalld.conf and restart it"
    )]
    Owned { table: String, devices: String },
    #[error("cannot open the firewall of iptables-legacy for containers")]
    Legacy(#[from] LegacyError),
}

/// What others' chains are to do for a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// Begins the comment of each rule, and names the chain beside them.
    pub(super) owner: String,
    /// What is let through. Nothing takes all rules of the owner away.
    pub(super) bridges: BTreeSet<Bridges>,
    /// Other programs' bridges, which nothing of ours is let through to.
    pub(super) foreign: BTreeSet<String>,
    /// The families in which everything else is closed, a wish that all roots share.
    pub(super) closed: BTreeSet<Family>,
}

/// A pattern of device names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bridges {
    Named(String),
    StartingWith(String),
}

/// A rule of ours in a table of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) chain: String,
    /// Which packets it takes; without one, all.
    pub(super) device: Option<Device>,
    pub(super) verdict: Verdict,
    pub(super) comment: String,
    pub(super) place: Place,
}

/// Where a packet comes from, or goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Device {
    From(Bridges),
    To(Bridges),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    /// To the rule behind the one that led here.
    Return,
    To(String),
}

/// What is to be done in one table of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) chain: Keep,
    /// By chain and handle.
    pub(super) delete: Vec<(String, u64)>,
    pub(super) add: Vec<Guest>,
}

/// What becomes of the root's own chain there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Stays,
    Anew,
    Goes,
}

impl Changes {
    fn is_nothing(&self) -> bool {
        self.chain == Keep::Stays && self.delete.is_empty() && self.add.is_empty()
    }
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
    let hooks = hooks::on_forward(&wish.owner).map_err(|source| FirewallError::Read { source })?;
    let mut tables: BTreeMap<(u8, String), Vec<Hook>> = BTreeMap::new();
    for hook in hooks {
        tables.entry((hook.family, hook.table.clone())).or_default().push(hook);
    }
    let mut settled = Settled { closed: BTreeSet::new(), outcome: Ok(()) };
    for ((family, table), hooks) in &tables {
        let changed = change(wish, (*family, table), &changes(wish, hooks));
        settled.note(hooks, changed);
    }
    for family in Family::ALL {
        match legacy::look(family, &wish.owner) {
            Ok(None) => {}
            Ok(Some(seen)) => {
                let hooks = std::slice::from_ref(&seen.hook);
                let changes = changes(wish, hooks);
                let changed = match changes.is_nothing() {
                    true => Ok(()),
                    false => legacy::change(&seen, &wish.owner, &changes),
                };
                settled.note(hooks, changed.map_err(FirewallError::from));
            }
            Err(error) => settled.outcome = settled.outcome.and(Err(error.into())),
        }
    }
    Ok(settled)
}

impl Settled {
    fn note(&mut self, hooks: &[Hook], changed: Result<(), FirewallError>) {
        for hook in hooks.iter().filter(|hook| changed.is_ok() || hook.closes(is_closing)) {
            let seen = Family::ALL.into_iter().filter(|family| closes(hook, *family));
            self.closed.extend(seen);
        }
        if self.outcome.is_ok() {
            self.outcome = changed;
        }
    }
}

fn change(
    wish: &Wish,
    (family, table): (u8, &str),
    changes: &Changes,
) -> Result<(), FirewallError> {
    if changes.is_nothing() {
        return Ok(());
    }
    let chain = match changes.chain {
        Keep::Stays => GuestChain::Stays,
        Keep::Anew => GuestChain::Anew(&wish.owner),
        Keep::Goes => GuestChain::Goes(&wish.owner),
    };
    let add: Vec<GuestRule> = changes.add.iter().map(Guest::rule).collect();
    let batch = encode::change_guests((family, table), chain, &changes.delete, &add);
    apply::send(table, &batch).map_err(|source| match &source {
        // A table with an owner (nft(8), flags) has ours refused like that; our own tables told before that we may.
        ApplyError::Refused { source, .. } if source.raw_os_error() == Some(libc::EPERM) => {
            let devices: Vec<String> = wish.bridges.iter().map(Bridges::pattern).collect();
            FirewallError::Owned { table: table.to_owned(), devices: devices.join(", ") }
        }
        _ => FirewallError::Change { table: table.to_owned(), source },
    })
}

/// Has iptables' chains close by their policy what our last rule there closed, as dockerd does where it turns
/// forwarding on. Tells whether some chain of others closes the family.
pub(super) fn close_for_good(family: Family) -> Result<bool, FirewallError> {
    const NO_CHAIN: &str = "";
    let hooks = hooks::on_forward(NO_CHAIN).map_err(|source| FirewallError::Read { source })?;
    let mut found = hooks.iter().any(|hook| closes(hook, family));
    for hook in hooks.iter().filter(|hook| hook.is_iptables() && hook.sees(family)) {
        if !hook.closes(is_closing) {
            let batch = encode::drop_by_policy(hook.family, &hook.table, &hook.chain.name);
            apply::send(&hook.table, &batch)
                .map_err(|source| FirewallError::Change { table: hook.table.clone(), source })?;
        }
    }
    if let Some(seen) = legacy::look(family, NO_CHAIN)? {
        found = true;
        if !seen.hook.closes(is_closing) {
            legacy::drop_by_policy(&seen)?;
        }
    }
    Ok(found)
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

/// Returns what is to be done in the table of these hooks. Pure.
fn changes(wish: &Wish, hooks: &[Hook]) -> Changes {
    let mut changes = Changes { chain: Keep::Stays, delete: Vec::new(), add: Vec::new() };
    let mut used = false;
    for hook in hooks {
        used |= change_hook(wish, hook, &mut changes);
    }
    let present = hooks.iter().find_map(|hook| hook.guests.as_ref());
    if used {
        let wanted = beside(wish);
        let is_whole = present.is_some_and(|chain| {
            let comments = wanted.iter().map(|rule| encode::comment(&rule.comment));
            chain.rules.iter().map(|rule| &rule.user_data).cloned().eq(comments)
        });
        if !is_whole {
            changes.chain = Keep::Anew;
            changes.add.splice(0..0, wanted);
        }
    } else if present.is_some() {
        changes.chain = Keep::Goes;
    }
    changes
}

/// Adds what is to be done for one hook; tells whether a rule there leads to the chain beside it.
fn change_hook(wish: &Wish, hook: &Hook, changes: &mut Changes) -> bool {
    let family = Family::ALL.into_iter().find(|family| hook.is_iptables() && hook.sees(*family));
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
            changes.delete.extend(ours().map(|rule| (chain.name.clone(), rule.handle)));
            changes.add.extend(wanted);
        }
    }
    if !stays {
        changes.delete.extend(old.iter().map(|rule| (hook.chain.name.clone(), rule.handle)));
        changes.add.extend(closing.map(|family| Guest {
            chain: hook.chain.name.clone(),
            device: None,
            verdict: Verdict::Drop,
            comment: closing_comment(family),
            place: Place::Last,
        }));
    }
    is_open && !wish.bridges.is_empty()
}

fn belongs_to(owner: &str, rule: &Rule) -> bool {
    let mark = encode::comment(&format!("{owner} "));
    // Without the length before it and the NUL behind.
    let mark = &mark[2..mark.len() - 1];
    rule.user_data.get(2..).is_some_and(|text| text.starts_with(mark))
}

/// Returns the rules that let the bridges through. `closing_stays` says that our last rule of this chain is not made
/// anew.
fn guests(wish: &Wish, chain: &Chain, closing_stays: bool) -> Vec<Guest> {
    let stops = |rule: &&Rule| rule.is_unconditional && (closing_stays || !is_closing(rule));
    let place = chain.rules.iter().find(stops);
    let place = place.map_or(Place::Last, |rule| Place::Before(rule.handle));
    let rules = wish.bridges.iter().flat_map(|bridges| {
        let beside = Verdict::To(wish.owner.clone());
        [
            (Device::From(bridges.clone()), beside, "leaves"),
            (Device::To(bridges.clone()), Verdict::Accept, "enters"),
        ]
        .map(|(device, verdict, word)| Guest {
            chain: chain.name.clone(),
            device: Some(device),
            verdict,
            comment: format!("{} {word} {}", wish.owner, bridges.pattern()),
            place,
        })
    });
    rules.collect()
}

/// Returns the rules of the root's own chain, which takes what leaves its bridges.
fn beside(wish: &Wish) -> Vec<Guest> {
    let rule = |device, verdict, comment| Guest {
        chain: wish.owner.clone(),
        device,
        verdict,
        comment,
        place: Place::Last,
    };
    let not_ours = wish.foreign.iter().map(|bridge| {
        let device = Device::To(Bridges::Named(bridge.clone()));
        rule(Some(device), Verdict::Return, format!("{} leaves to {bridge}", wish.owner))
    });
    let rest = rule(None, Verdict::Accept, format!("{} leaves to the rest", wish.owner));
    not_ours.chain([rest]).collect()
}

impl Bridges {
    fn pattern(&self) -> String {
        match self {
            Self::Named(name) => name.clone(),
            Self::StartingWith(name) => format!("{name}*"),
        }
    }
}

impl Guest {
    /// Returns the rule in nf_tables' words: nothing but what iptables(8) knows, or it lists nothing at all of its table.
    fn rule(&self) -> GuestRule {
        let mut expressions = Vec::new();
        let device = self.device.as_ref().map(|device| match device {
            Device::From(bridges) => (Meta::InputName, bridges),
            Device::To(bridges) => (Meta::OutputName, bridges),
        });
        if let Some((key, bridges)) = device {
            let value = match bridges {
                Bridges::Named(name) => [name.as_bytes(), &[0]].concat(),
                Bridges::StartingWith(name) => name.as_bytes().to_vec(),
            };
            expressions.push(Expression::Meta { key, to: 0 });
            expressions.push(Expression::Equal { register: 0, value });
        }
        expressions.push(match &self.verdict {
            Verdict::Accept => Expression::Accept,
            Verdict::Drop => Expression::Drop,
            Verdict::Return => Expression::Return,
            Verdict::To(chain) => Expression::Jump(chain.clone().into()),
        });
        GuestRule {
            chain: self.chain.clone(),
            expressions,
            comment: self.comment.clone(),
            place: self.place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::hooks::End;

    fn wish(bridges: &[Bridges], closed: &[Family]) -> Wish {
        Wish {
            owner: "bargee-t".to_owned(),
            bridges: bridges.iter().cloned().collect(),
            foreign: BTreeSet::from(["docker0".to_owned()]),
            closed: closed.iter().copied().collect(),
        }
    }

    fn rule(handle: u64, comment: &str, end: Option<End>) -> Rule {
        let is_unconditional = end.is_some();
        let end = end.unwrap_or_default();
        Rule { handle, user_data: encode::comment(comment), is_unconditional, end }
    }

    fn beside_rules() -> Vec<Rule> {
        let comments = ["bargee-t leaves to docker0", "bargee-t leaves to the rest"];
        comments.iter().map(|comment| rule(90, comment, None)).collect()
    }

    /// The chain beside the guests is whole.
    fn forward(rules: Vec<Rule>) -> Hook {
        Hook {
            family: Family::V4.number(),
            table: "filter".to_owned(),
            chain: Chain { name: "FORWARD".to_owned(), rules },
            drops_by_policy: false,
            docker_user: None,
            guests: Some(Chain { name: "bargee-t".to_owned(), rules: beside_rules() }),
        }
    }

    fn docker(user: Vec<Rule>) -> Hook {
        let jump = rule(1, "", Some(End::Jump("DOCKER-USER".to_owned())));
        let user = Chain { name: "DOCKER-USER".to_owned(), rules: user };
        Hook { docker_user: Some(user), ..forward(vec![jump]) }
    }

    fn changes(wish: &Wish, hook: &Hook) -> Changes {
        super::changes(wish, std::slice::from_ref(hook))
    }

    fn places(changes: &Changes) -> Vec<(&str, Place)> {
        changes.add.iter().map(|rule| (rule.chain.as_str(), rule.place)).collect()
    }

    fn bridges() -> [Bridges; 1] {
        [Bridges::StartingWith("bbt".to_owned())]
    }

    #[test]
    fn guests_stand_behind_what_looks_at_packets_and_before_what_takes_all() {
        let wanted = wish(&bridges(), &[]);
        let user = vec![rule(3, "", None), rule(4, "", Some(End::Open))];
        let found = changes(&wanted, &docker(user));
        assert!(found.delete.is_empty());
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
        let mut hook =
            Hook { table: "mine".to_owned(), guests: None, ..forward(vec![rule(8, "", None)]) };
        assert!(changes(&wanted, &hook).is_nothing());
        assert!(!closes(&hook, Family::V4));
        hook.drops_by_policy = true;
        let found = changes(&wanted, &hook);
        assert_eq!(found.chain, Keep::Anew);
        let all = [[("bargee-t", Place::Last); 2], [("FORWARD", Place::Last); 2]];
        assert_eq!(places(&found), all.concat());
        assert!(closes(&hook, Family::V4) && !closes(&hook, Family::V6));
    }

    #[test]
    fn what_goes_to_the_bridges_of_others_is_left_to_their_rules() {
        let lines = |wish: &Wish| -> Vec<String> {
            let rules = changes(wish, &Hook { guests: None, ..docker(Vec::new()) }).add;
            rules.iter().map(|rule| format!("{:?} {:?}", rule.device, rule.verdict)).collect()
        };
        let wanted = wish(&[Bridges::Named("br7".to_owned())], &[]);
        assert_eq!(
            lines(&wanted),
            [
                r#"Some(To(Named("docker0"))) Return"#,
                "None Accept",
                r#"Some(From(Named("br7"))) To("bargee-t")"#,
                r#"Some(To(Named("br7"))) Accept"#,
            ]
        );
        // One that came or went, and one that somebody emptied, makes the chain anew, and nothing else.
        let ours = [rule(1, "bargee-t leaves br7", None), rule(2, "bargee-t enters br7", None)];
        let mut hook = docker(ours.to_vec());
        assert!(changes(&wanted, &hook).is_nothing());
        let more = BTreeSet::from(["docker0".to_owned(), "virbr0".to_owned()]);
        let found = changes(&Wish { foreign: more, ..wanted.clone() }, &hook);
        assert_eq!((found.chain, found.delete.len(), found.add.len()), (Keep::Anew, 0, 3));
        hook.guests = Some(Chain { name: "bargee-t".to_owned(), rules: Vec::new() });
        let found = changes(&wanted, &hook);
        assert_eq!((found.chain, found.delete.len(), found.add.len()), (Keep::Anew, 0, 2));
    }

    #[test]
    fn only_rules_of_the_owner_go_and_those_that_fit_stay() {
        let wanted = wish(&[Bridges::Named("br7".to_owned())], &[]);
        let ours = [rule(1, "bargee-t leaves br7", None), rule(2, "bargee-t enters br7", None)];
        let chain = [ours.as_slice(), &[rule(5, "bargee-tt enters x", None)]].concat();
        assert!(changes(&wanted, &forward(chain.clone())).is_nothing());
        let found = changes(&wish(&[], &[]), &forward(chain));
        let forward = "FORWARD".to_owned();
        assert_eq!(found.chain, Keep::Goes);
        assert_eq!((found.delete, found.add.len()), (vec![(forward.clone(), 1), (forward, 2)], 0));
    }

    #[test]
    fn what_closes_the_rest_is_one_rule_and_the_last() {
        let closing = |handle| rule(handle, &closing_comment(Family::V4), Some(End::Closed));
        let forward = |rules| Hook { guests: None, ..forward(rules) };
        let counts = |found: &Changes| (found.delete.len(), found.add.len());
        let wanted = wish(&[], &[Family::V4]);
        assert!(changes(&wanted, &forward(vec![rule(1, "", None), closing(2)])).is_nothing());
        let found = changes(&wanted, &forward(vec![closing(2), rule(3, "", None)]));
        assert_eq!(found.delete, [("FORWARD".to_owned(), 2)]);
        assert_eq!(places(&found), [("FORWARD", Place::Last)]);
        assert_eq!(counts(&changes(&wanted, &forward(vec![closing(2), closing(3)]))), (2, 1));
        // A firewall that closes by itself needs no help, and neither does a family that we left alone.
        let mut strict = forward(vec![closing(2)]);
        strict.drops_by_policy = true;
        assert_eq!(counts(&changes(&wanted, &strict)), (1, 0));
        let found = changes(&wish(&[], &[Family::V6]), &forward(vec![closing(2)]));
        assert_eq!(counts(&found), (1, 0));
        // Our accepts stand before it, wherever it goes.
        let both = wish(&bridges(), &[Family::V4]);
        let found = changes(&both, &super::tests::forward(vec![closing(2)]));
        assert_eq!(places(&found), [("FORWARD", Place::Before(2)); 2]);
        let found = changes(&both, &super::tests::forward(vec![closing(2), rule(3, "", None)]));
        assert_eq!(places(&found), [("FORWARD", Place::Last); 3]);
    }
}
