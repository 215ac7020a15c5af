//! The device nodes and device rules of a container, as OCI data.
//!
//! The nodes are those that the OCI runtime specification demands (config-linux.md, "Default Devices"); the rules
//! are docker's eight, which also let a terminal through. Everything else is denied first.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// A character device that every container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Its path inside the container.
    pub path: &'static str,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
}

/// The nodes to make, or to bind where `mknod(2)` is not permitted.
pub const DEFAULT_NODES: [Node; 6] = [
    Node { path: "/dev/null", major: 1, minor: 3, mode: 0o666 },
    Node { path: "/dev/zero", major: 1, minor: 5, mode: 0o666 },
    Node { path: "/dev/full", major: 1, minor: 7, mode: 0o666 },
    Node { path: "/dev/random", major: 1, minor: 8, mode: 0o666 },
    Node { path: "/dev/urandom", major: 1, minor: 9, mode: 0o666 },
    Node { path: "/dev/tty", major: 5, minor: 0, mode: 0o666 },
];

/// The links to make in `/dev`: path and target.
pub const DEFAULT_LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Character devices that may be opened: the nodes above, `/dev/ptmx` and the terminals of devpts.
const ALLOWED: [(i64, Option<i64>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// Returns the rules of an unprivileged container, the denial of everything first.
pub fn default_rules() -> Vec<LinuxDeviceCgroup> {
    let mut rules = vec![rule(false, LinuxDeviceType::A, None, None, "rwm")];
    // Making a node is harmless while opening it is denied; package managers do it.
    rules.push(rule(true, LinuxDeviceType::C, None, None, "m"));
    rules.push(rule(true, LinuxDeviceType::B, None, None, "m"));
    for (major, minor) in ALLOWED {
        rules.push(rule(true, LinuxDeviceType::C, Some(major), minor, "rwm"));
    }
    rules
}

/// Returns a rule as a version 1 `devices.allow` or `devices.deny` takes it: `c 1:3 rwm`; absent numbers
/// are `*` (cgroup-v1/devices.rst).
pub fn rule_line(rule: &LinuxDeviceCgroup) -> String {
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => "a",
        Some(LinuxDeviceType::B) => "b",
        Some(LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::P) => "c",
    };
    let access = rule.access().as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
    format!("{kind} {}:{} {access}", number(rule.major()), number(rule.minor()))
}

/// OCI writes "any" as an absent or a negative number.
fn number(number: Option<i64>) -> String {
    match number {
        Some(number) if number >= 0 => number.to_string(),
        _ => "*".to_owned(),
    }
}

fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_typ(Some(kind)).set_major(major).set_minor(minor);
    rule.set_access(Some(access.to_owned()));
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_written_as_the_kernel_reads_them() {
        let lines: Vec<String> = default_rules().iter().map(rule_line).collect();
        assert_eq!(lines[0], "a *:* rwm");
        assert_eq!(lines[1], "c *:* m");
        assert!(lines.contains(&"c 1:3 rwm".to_owned()));
        assert!(lines.contains(&"c 136:* rwm".to_owned()));
    }

    #[test]
    fn a_bare_rule_means_every_device() {
        assert_eq!(rule_line(&LinuxDeviceCgroup::default()), "a *:* rwm");
    }
}
