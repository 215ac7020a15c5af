//! Chains of other programs that decide on forwarded packets, as the kernel has them: the base chains on the forward
//! hook (nft(8)), of iptables-nft's, firewalld's and anybody's tables. Tables of ours are left out; those of
//! iptables-legacy lie elsewhere in the kernel (see `legacy`).

use std::collections::BTreeSet;
use std::io;

use super::netfilter::{
    self, DUMP, FAMILY_INET, Family, REQUEST, attributes_of, message, number_of, receive,
    text_attribute, text_of,
};
use super::nft::dump;

/// `NFT_MSG_GETCHAIN` and `NFT_MSG_GETRULE` of the subsystem `NFNL_SUBSYS_NFTABLES`.
const GET_CHAIN: u16 = 10 << 8 | 4;
const GET_RULE: u16 = 10 << 8 | 7;
/// `NF_INET_FORWARD`.
const FORWARD: u32 = 2;
/// `NF_DROP`, as a policy and as a verdict, and the verdicts `NFT_JUMP` and `NFT_GOTO`.
const DROP: u32 = 0;
const JUMPS: [u32; 2] = [(-3_i32).cast_unsigned(), (-4_i32).cast_unsigned()];
/// What every table of ours begins with.
const OURS: &str = "bargee-";
/// The chain that docker's users have for rules of their own (docs.docker.com, "Packet filtering and firewalls").
pub(super) const DOCKER_USER: &str = "DOCKER-USER";
/// Lists that change again and again while they are read are given up.
const ATTEMPTS: usize = 16;

/// A base chain on the forward hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hook {
    pub(super) family: u8,
    pub(super) table: String,
    pub(super) chain: Chain,
    /// The drop of packets that no rule decides on.
    pub(super) drops_by_policy: bool,
    /// `DOCKER-USER`, when the base chain leads there.
    pub(super) docker_user: Option<Chain>,
    /// The chain that a root keeps in this table.
    pub(super) guests: Option<Chain>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) handle: u64,
    pub(super) user_data: Vec<u8>,
    /// Whether it looks at nothing and only counts, logs or decides.
    pub(super) is_unconditional: bool,
    pub(super) end: End,
}

/// What a rule does with a packet that it takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum End {
    /// Accepts it, or goes on.
    #[default]
    Open,
    /// Drops or rejects it.
    Closed,
    Jump(String),
}

impl Hook {
    /// Whether this is the chain that iptables-nft keeps its `FORWARD` in.
    pub(super) fn is_iptables(&self) -> bool {
        self.family != FAMILY_INET && self.table == "filter" && self.chain.name == "FORWARD"
    }

    pub(super) fn leads_to_docker_user(&self) -> bool {
        let leads = |rule: &Rule| rule.end == End::Jump(DOCKER_USER.to_owned());
        self.chain.rules.iter().any(leads)
    }

    pub(super) fn sees(&self, family: Family) -> bool {
        self.family == FAMILY_INET || self.family == family.number()
    }

    /// Whether a packet that nobody lets through ends here, those rules aside that `is_ours` knows.
    pub(super) fn closes(&self, is_ours: impl Fn(&Rule) -> bool) -> bool {
        let ends = |rule: &Rule| rule.is_unconditional && rule.end == End::Closed && !is_ours(rule);
        self.drops_by_policy || self.chain.rules.iter().any(ends)
    }
}

/// Returns all of them, with their rules. `guests` is the name of the root's own chain beside them.
pub(super) fn on_forward(guests: &str) -> io::Result<Vec<Hook>> {
    whole(|| {
        let families = [FAMILY_INET, Family::V4.number(), Family::V6.number()];
        let mut hooks = Vec::new();
        for family in families {
            hooks.extend(base_chains(family, guests)?);
        }
        for hook in &mut hooks {
            let (family, table) = (hook.family, hook.table.clone());
            let read = |name: &str| read_rules(family, &table, name);
            hook.chain.rules = read(&hook.chain.name)?;
            if let Some(chain) = &mut hook.guests {
                chain.rules = read(&chain.name)?;
            }
            if hook.leads_to_docker_user() {
                let rules = read(DOCKER_USER)?;
                hook.docker_user = Some(Chain { name: DOCKER_USER.to_owned(), rules });
            }
        }
        Ok(hooks)
    })
}

/// Returns the number of rules of a chain in a table of ours; `None` when there is no such chain.
pub(super) fn own_rules(table: &str, chain: &str) -> io::Result<Option<usize>> {
    whole(|| {
        let mut found = false;
        list(GET_CHAIN, FAMILY_INET, &[], |body| {
            let has = |kind, name: &str| {
                attributes_of(body).any(|(known, text, _)| known == kind && text_of(text) == name)
            };
            found |= has(1, table) && has(3, chain);
        })?;
        if !found {
            return Ok(None);
        }
        Ok(Some(read_rules(FAMILY_INET, table, chain)?.len()))
    })
}

/// Returns the interface names in a set of a table of ours; none when there is no such set.
pub(super) fn own_names(table: &str, set: &str) -> io::Result<Vec<String>> {
    match whole(|| dump::read(table, set)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        other => other.map(|elements| elements.iter().map(|(key, _)| text_of(key)).collect()),
    }
}

/// Reads again what changed while it was read.
fn whole<T>(read: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let mut result = read();
    for _ in 1..ATTEMPTS {
        match &result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => result = read(),
            _ => break,
        }
    }
    result
}

fn base_chains(family: u8, guests: &str) -> io::Result<Vec<Hook>> {
    let mut hooks = Vec::new();
    let mut with_guests = BTreeSet::new();
    list(GET_CHAIN, family, &[], |body| {
        let mut hook = Hook {
            family,
            table: String::new(),
            chain: Chain::default(),
            drops_by_policy: false,
            docker_user: None,
            guests: None,
        };
        let mut is_base = [false, false];
        for (kind, value, _) in attributes_of(body) {
            match kind {
                1 => hook.table = text_of(value),
                3 => hook.chain.name = text_of(value),
                4 => {
                    let mut number = attributes_of(value).filter(|(kind, ..)| *kind == 1);
                    is_base[0] = number.any(|(_, value, _)| number_of(value) == Some(FORWARD));
                }
                5 => hook.drops_by_policy = number_of(value) == Some(DROP),
                7 => is_base[1] = text_of(value) == "filter",
                _ => {}
            }
        }
        if hook.chain.name == guests {
            with_guests.insert(hook.table.clone());
        }
        if is_base == [true, true] && !hook.table.starts_with(OURS) {
            hooks.push(hook);
        }
    })?;
    for hook in hooks.iter_mut().filter(|hook| with_guests.contains(&hook.table)) {
        hook.guests = Some(Chain { name: guests.to_owned(), rules: Vec::new() });
    }
    Ok(hooks)
}

fn read_rules(family: u8, table: &str, chain: &str) -> io::Result<Vec<Rule>> {
    let wanted = [text_attribute(1, table), text_attribute(2, chain)].concat();
    let mut rules = Vec::new();
    list(GET_RULE, family, &wanted, |body| {
        let mut rule = Rule::default();
        for (kind, value, _) in attributes_of(body) {
            match (kind, <[u8; 8]>::try_from(value)) {
                (3, Ok(handle)) => rule.handle = u64::from_be_bytes(handle),
                (4, _) => (rule.is_unconditional, rule.end) = meaning(value),
                (7, _) => rule.user_data = value.to_vec(),
                _ => {}
            }
        }
        rules.push(rule);
    })?;
    Ok(rules)
}

fn list(kind: u16, family: u8, wanted: &[u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let socket = netfilter::open()?;
    netfilter::send(&socket, &message(kind, REQUEST | DUMP, family, wanted))?;
    receive(&socket, |_, body| take(body))
}

/// Reads a list of expressions, each a name and its data: whether they take every packet, and what becomes of it.
fn meaning(expressions: &[u8]) -> (bool, End) {
    let (mut takes_all, mut end) = (true, End::Open);
    for (_, expression, _) in attributes_of(expressions) {
        let part = |wanted| {
            let mut parts = attributes_of(expression).filter(move |(kind, ..)| *kind == wanted);
            parts.next().map(|(_, value, _)| value).unwrap_or_default()
        };
        match part(1) {
            b"counter\0" | b"log\0" => {}
            b"immediate\0" => end = verdict(part(2)),
            b"reject\0" => end = End::Closed,
            // One of iptables' own, such as REJECT or LOG.
            b"target\0" => {
                let mut named = attributes_of(part(2)).filter(|(kind, ..)| *kind == 1);
                if named.any(|(_, name, _)| text_of(name) == "REJECT") {
                    end = End::Closed;
                }
            }
            _ => takes_all = false,
        }
    }
    (takes_all, end)
}

/// Reads the data of an `immediate`: a register, and data that may be a verdict (code, chain).
fn verdict(data: &[u8]) -> End {
    let verdicts = attributes_of(data).filter(|(kind, ..)| *kind == 2);
    let verdicts = verdicts.flat_map(|(_, data, _)| attributes_of(data));
    let (mut code, mut chain) = (None, None);
    for (_, verdict, _) in verdicts.filter(|(kind, ..)| *kind == 2) {
        for (kind, value, _) in attributes_of(verdict) {
            match kind {
                1 => code = number_of(value),
                2 => chain = Some(text_of(value)),
                _ => {}
            }
        }
    }
    match (code, chain) {
        (Some(DROP), _) => End::Closed,
        (Some(code), Some(chain)) if JUMPS.contains(&code) => End::Jump(chain),
        _ => End::Open,
    }
}
