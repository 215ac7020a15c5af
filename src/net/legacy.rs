//! The packet rules of iptables-legacy, which the kernel keeps apart from nf_tables and tells no changes of. They are
//! read and changed by its own program, as their form in the kernel is that program's.
//!
//! The program is run only where the kernel has its table already: looking at it would make one.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::firewall::{Bridges, Changes, Device, Guest, Keep, Verdict};
use super::hooks::{Chain, DOCKER_USER, End, Hook, Rule};
use super::netfilter::Family;
use super::nft::encode::{self, Place};

#[derive(Debug, thiserror::Error)]
pub enum LegacyError {
    #[error(
        "the machine has packet rules of iptables-legacy, and no program {program} to read them with: install it, or \
         load the rules by iptables-nft instead"
    )]
    NoProgram { program: &'static str },
    #[error("cannot run {program}")]
    Run { program: String, source: io::Error },
    #[error("{program} failed: {message}")]
    Failed { program: String, message: String },
}

/// What the program says of the chains on the forward hook.
#[derive(Debug)]
pub(super) struct Seen {
    program: &'static str,
    pub(super) hook: Hook,
    /// The rules as the program prints them, by chain and number.
    lines: BTreeMap<(String, u64), String>,
}

/// Seconds that another user of the program is waited for.
const PATIENCE: &str = "5";
const FORWARD: &str = "FORWARD";

/// Tells whether the kernel of this namespace has such rules.
pub(super) fn is_in_use() -> bool {
    Family::ALL.into_iter().any(has_table)
}

fn has_table(family: Family) -> bool {
    let file = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    // There is no such file where the kernel has no such tables.
    let names = std::fs::read_to_string(Path::new(file)).unwrap_or_default();
    names.lines().any(|name| name == "filter")
}

/// Returns the chains; `None` where there are none. `guests` is the name of the root's own one.
pub(super) fn look(family: Family, guests: &str) -> Result<Option<Seen>, LegacyError> {
    if !has_table(family) {
        return Ok(None);
    }
    let program = find(family)?;
    let listed = run(program, &["-w", PATIENCE, "-S"], "")?;
    Ok(Some(read(family, program, &listed, guests)))
}

/// Makes the changes, in one go.
pub(super) fn change(seen: &Seen, owner: &str, changes: &Changes) -> Result<(), LegacyError> {
    let restore = format!("{}-restore", seen.program);
    run(&restore, &["-w", PATIENCE, "-n"], &script(seen, owner, changes)).map(drop)
}

/// Has the base chain drop what none of its rules decides on.
pub(super) fn drop_by_policy(seen: &Seen) -> Result<(), LegacyError> {
    run(seen.program, &["-w", PATIENCE, "-P", FORWARD, "DROP"], "").map(drop)
}

/// Returns the program that speaks to these tables: its own name says so, or its version.
fn find(family: Family) -> Result<&'static str, LegacyError> {
    let [own, plain] = match family {
        Family::V4 => ["iptables-legacy", "iptables"],
        Family::V6 => ["ip6tables-legacy", "ip6tables"],
    };
    for program in [own, plain] {
        let version = match execute(program, &["--version"], "") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            ran => ran.map_err(|source| LegacyError::Run { program: program.into(), source })?,
        };
        // Those before nf_tables say nothing behind their number.
        if !String::from_utf8_lossy(&version.stdout).contains("nf_tables") {
            return Ok(program);
        }
    }
    Err(LegacyError::NoProgram { program: own })
}

fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, LegacyError> {
    let output = execute(program, arguments, input)
        .map_err(|source| LegacyError::Run { program: program.to_owned(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LegacyError::Failed { program: program.to_owned(), message })
}

fn execute(program: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // One that ends without reading says why.
    let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    if output.status.success() {
        written?;
    }
    Ok(output)
}

/// Reads what `iptables -S` prints (iptables(8)). Pure.
fn read(family: Family, program: &'static str, listed: &str, guests: &str) -> Seen {
    let chain = |name: &str| Chain { name: name.to_owned(), rules: Vec::new() };
    let mut hook = Hook {
        family: family.number(),
        table: "filter".to_owned(),
        chain: chain(FORWARD),
        drops_by_policy: false,
        docker_user: None,
        guests: None,
    };
    let mut docker_user = chain(DOCKER_USER);
    let mut lines = BTreeMap::new();
    let made: Vec<&str> = listed.lines().filter_map(|line| line.strip_prefix("-N ")).collect();
    if made.contains(&guests) {
        hook.guests = Some(chain(guests));
    }
    for line in listed.lines() {
        hook.drops_by_policy |= line.trim() == "-P FORWARD DROP";
        let Some(rest) = line.strip_prefix("-A ") else { continue };
        let (name, rule) = rest.split_once(' ').unwrap_or((rest, ""));
        let chain = match name {
            FORWARD => &mut hook.chain,
            DOCKER_USER => &mut docker_user,
            _ if name == guests => match &mut hook.guests {
                Some(chain) => chain,
                None => continue,
            },
            _ => continue,
        };
        let handle = chain.rules.len() as u64 + 1;
        lines.insert((name.to_owned(), handle), rule.to_owned());
        chain.rules.push(Rule { handle, ..meaning(rule, &made) });
    }
    if hook.leads_to_docker_user() {
        hook.docker_user = Some(docker_user);
    }
    Seen { program, hook, lines }
}

/// Reads one rule; `made` are the chains that are no targets of the program's own.
fn meaning(rule: &str, made: &[&str]) -> Rule {
    let words = words(rule);
    let mut found = Rule { is_unconditional: true, ..Rule::default() };
    let mut rest = words.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        match word {
            "-j" | "-g" => {
                found.end = match rest.next() {
                    Some("DROP" | "REJECT") => End::Closed,
                    Some(chain) if made.contains(&chain) => End::Jump(chain.to_owned()),
                    _ => End::Open,
                };
                // What follows is about the target.
                return found;
            }
            "--comment" => {
                let comment = rest.next().filter(|text| text.len() < usize::from(u8::MAX));
                found.user_data = comment.map(encode::comment).unwrap_or_default();
            }
            "-m" => found.is_unconditional &= rest.next() == Some("comment"),
            _ => found.is_unconditional = false,
        }
    }
    found
}

/// Splits at spaces; within double quotes a backslash keeps the next character.
fn words(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let (mut is_quoted, mut letters) = (false, text.chars());
    while let Some(letter) = letters.next() {
        let word = found.last_mut().expect("it starts with one");
        match letter {
            '"' => is_quoted = !is_quoted,
            '\\' if is_quoted => word.extend(letters.next()),
            ' ' if !is_quoted => found.push(String::new()),
            _ => word.push(letter),
        }
    }
    found
}

/// Returns the changes as iptables-restore(8) reads them with `--noflush`. Pure.
fn script(seen: &Seen, owner: &str, changes: &Changes) -> String {
    let mut lines = vec!["*filter".to_owned()];
    if changes.chain == Keep::Anew {
        // A chain that is named here is made, or emptied.
        lines.push(format!(":{owner} - [0:0]"));
    }
    // By what they are: their numbers may be those of others by now.
    for rule in &changes.delete {
        lines.extend(seen.lines.get(rule).map(|text| format!("-D {} {text}", rule.0)));
    }
    if changes.chain == Keep::Goes {
        lines.extend([format!("-F {owner}"), format!("-X {owner}")]);
    }
    let chains = [Some(&seen.hook.chain), seen.hook.docker_user.as_ref()];
    let mut order: BTreeMap<&str, Vec<Option<u64>>> = BTreeMap::new();
    for chain in chains.into_iter().flatten() {
        let handles = chain.rules.iter().map(|rule| rule.handle);
        let stays = |handle: &u64| !changes.delete.contains(&(chain.name.clone(), *handle));
        order.insert(&chain.name, handles.filter(stays).map(Some).collect());
    }
    for guest in &changes.add {
        let rules = order.entry(&guest.chain).or_default();
        let before = match guest.place {
            Place::Before(handle) => rules.iter().position(|other| *other == Some(handle)),
            Place::Last => None,
        };
        let at = before.unwrap_or(rules.len());
        rules.insert(at, None);
        lines.push(match before {
            Some(at) => format!("-I {} {} {}", guest.chain, at + 1, matching(guest)),
            None => format!("-A {} {}", guest.chain, matching(guest)),
        });
    }
    lines.push("COMMIT\n".to_owned());
    lines.join("\n")
}

fn matching(guest: &Guest) -> String {
    let name = |bridges: &Bridges| match bridges {
        Bridges::Named(name) => quoted(name),
        Bridges::StartingWith(name) => quoted(&format!("{name}+")),
    };
    let device = match &guest.device {
        None => String::new(),
        Some(Device::From(bridges)) => format!("-i {} ", name(bridges)),
        Some(Device::To(bridges)) => format!("-o {} ", name(bridges)),
    };
    let verdict = match &guest.verdict {
        Verdict::Accept => "ACCEPT",
        Verdict::Drop => "DROP",
        Verdict::Return => "RETURN",
        Verdict::To(chain) => chain,
    };
    format!("{device}-m comment --comment {} -j {verdict}", quoted(&guest.comment))
}

fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = r#"-P INPUT ACCEPT
-P FORWARD DROP
-N DOCKER-USER
-N bargee-t
-A INPUT -j ACCEPT
-A FORWARD -i "br\"7" -j ACCEPT
-A FORWARD -m comment --comment "a \"word\" of two" -j DOCKER-USER
-A FORWARD -p tcp -j REJECT --reject-with tcp-reset
-A DOCKER-USER -m comment --comment "bargee-t leaves bbt*" -j bargee-t
-A DOCKER-USER -j RETURN
-A bargee-t -m comment --comment "bargee-t leaves to the rest" -j ACCEPT
"#;

    fn guest(place: Place) -> Guest {
        Guest {
            chain: DOCKER_USER.to_owned(),
            device: Some(Device::To(Bridges::StartingWith("bbt".to_owned()))),
            verdict: Verdict::Accept,
            comment: "bargee-t enters bbt*".to_owned(),
            place,
        }
    }

    #[test]
    fn what_the_program_prints_is_read() {
        let seen = read(Family::V4, "iptables-legacy", LISTED, "bargee-t");
        let hook = &seen.hook;
        assert!(hook.is_iptables() && hook.drops_by_policy);
        let ends: Vec<_> =
            hook.chain.rules.iter().map(|rule| (rule.is_unconditional, rule.end.clone())).collect();
        let jump = End::Jump("DOCKER-USER".to_owned());
        assert_eq!(ends, [(false, End::Open), (true, jump), (false, End::Closed)]);
        assert_eq!(hook.chain.rules[1].user_data, encode::comment("a \"word\" of two"));
        let user = hook.docker_user.as_ref().map(|chain| chain.rules.len());
        assert_eq!((user, hook.guests.as_ref().map(|chain| chain.rules.len())), (Some(2), Some(1)));
    }

    #[test]
    fn changes_become_one_script() {
        let seen = read(Family::V4, "iptables-legacy", LISTED, "bargee-t");
        let delete = vec![(DOCKER_USER.to_owned(), 1)];
        let add = vec![guest(Place::Before(2)), guest(Place::Before(2)), guest(Place::Last)];
        let rule = r#""bargee-t enters bbt*" -j ACCEPT"#;
        assert_eq!(
            script(&seen, "bargee-t", &Changes { chain: Keep::Anew, delete, add }),
            format!(
                r#"*filter
:bargee-t - [0:0]
-D DOCKER-USER -m comment --comment "bargee-t leaves bbt*" -j bargee-t
-I DOCKER-USER 1 -o "bbt+" -m comment --comment {rule}
-I DOCKER-USER 2 -o "bbt+" -m comment --comment {rule}
-A DOCKER-USER -o "bbt+" -m comment --comment {rule}
COMMIT
"#
            )
        );
    }
}
