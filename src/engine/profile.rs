//! The default profile, as data: docker's (moby `daemon/pkg/oci`), and ours with three capabilities less.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::spec::container::{ContainerSpec, Profile};

const BASE: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

const DOCKER_TOO: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW"];

/// All that Linux has, capabilities(7).
const REST: [&str; 27] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_DAC_READ_SEARCH",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_NET_ADMIN",
    "CAP_NET_BROADCAST",
    "CAP_PERFMON",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Paths of the kernel that a container can't see, and those that it can't write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemPaths {
    pub masked: Vec<String>,
    pub read_only: Vec<String>,
}

/// Returns the paths that are closed to a container that is not open to the system: those that were asked for, else
/// the profile's and `masked_too` of this machine.
pub fn system_paths(spec: &ContainerSpec, masked_too: &[String]) -> SystemPaths {
    let owned = |paths: Vec<&str>| paths.into_iter().map(str::to_owned).collect();
    let masked = || {
        let mut masked = masked_paths(spec.profile);
        masked.extend(masked_too.iter().map(String::as_str));
        owned(masked)
    };
    SystemPaths {
        masked: spec.masked_paths.clone().unwrap_or_else(masked),
        read_only: spec.readonly_paths.clone().unwrap_or_else(|| owned(READONLY.to_vec())),
    }
}

/// Returns the paths that are hidden: docker's, and kernel addresses too in our own profiles.
fn masked_paths(profile: Profile) -> Vec<&'static str> {
    let ours = (profile != Profile::Docker).then_some("/proc/kallsyms");
    MASKED.into_iter().chain(ours).collect()
}

/// Character devices of every container: path, major, minor (devices.txt of the kernel).
const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability {0}")]
pub struct UnknownCapability(pub String);

/// Returns the capabilities of a container in a fixed order, the host's own `bounding` set permitting.
///
/// `ALL` in either list means every capability; an added one wins over `ALL` in `drop`, as in docker.
pub fn capabilities(
    profile: Profile,
    add: &[String],
    drop: &[String],
    bounding: &BTreeSet<String>,
) -> Result<Vec<String>, UnknownCapability> {
    let add = add.iter().map(|word| canonical(word)).collect::<Result<BTreeSet<_>, _>>()?;
    let drop = drop.iter().map(|word| canonical(word)).collect::<Result<BTreeSet<_>, _>>()?;
    let mut set: BTreeSet<&str> = match (add.contains(ALL), drop.contains(ALL)) {
        (true, _) => every().collect(),
        (false, true) => BTreeSet::new(),
        (false, false) => BASE.into_iter().collect(),
    };
    if profile == Profile::Docker && !drop.contains(ALL) {
        set.extend(DOCKER_TOO);
    }
    set.retain(|capability| !drop.contains(capability));
    set.extend(add.iter().filter(|word| **word != ALL && !drop.contains(*word)));
    Ok(set
        .into_iter()
        .filter(|capability| bounding.contains(*capability))
        .map(str::to_owned)
        .collect())
}

/// Returns every capability that the host lets us give.
pub fn privileged(bounding: &BTreeSet<String>) -> Vec<String> {
    every().filter(|capability| bounding.contains(*capability)).map(str::to_owned).collect()
}

const ALL: &str = "ALL";

fn every() -> impl Iterator<Item = &'static str> {
    let all: BTreeSet<&str> = BASE.into_iter().chain(DOCKER_TOO).chain(REST).collect();
    all.into_iter()
}

/// Accepts `net_admin`, `CAP_NET_ADMIN` and `all` in any case.
fn canonical(word: &str) -> Result<&'static str, UnknownCapability> {
    let upper = word.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if bare == ALL {
        return Ok(ALL);
    }
    every()
        .find(|known| known["CAP_".len()..] == *bare)
        .ok_or_else(|| UnknownCapability(word.to_owned()))
}

/// Returns the device nodes as OCI `linux.devices`.
pub(super) fn device_nodes() -> Vec<Value> {
    NODES
        .iter()
        .map(|(path, major, minor)| {
            json!({"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666, "uid": 0, "gid": 0})
        })
        .collect()
}

/// Returns the device rules, first match last: nothing, then making nodes, then using the harmless ones.
pub(super) fn device_rules() -> Vec<Value> {
    let mut rules = vec![
        json!({"allow": false, "access": "rwm"}),
        json!({"allow": true, "type": "c", "access": "m"}),
        json!({"allow": true, "type": "b", "access": "m"}),
    ];
    for (_, major, minor) in NODES {
        rules.push(
            json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm"}),
        );
    }
    // ptmx, and the slaves of our own devpts.
    rules.push(json!({"allow": true, "type": "c", "major": 5, "minor": 2, "access": "rwm"}));
    rules.push(json!({"allow": true, "type": "c", "major": 136, "access": "rwm"}));
    rules
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    fn caps(profile: Profile, add: &[&str], drop: &[&str]) -> Vec<String> {
        let owned =
            |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let bounding =
            every().filter(|word| *word != "CAP_SYS_RESOURCE").map(str::to_owned).collect();
        capabilities(profile, &owned(add), &owned(drop), &bounding).unwrap()
    }

    #[test]
    fn the_profiles_have_14_and_11_capabilities() {
        assert_eq!(caps(Profile::Docker, &[], &[]).len(), 14);
        assert_eq!(caps(Profile::Bargee, &[], &[]).len(), 11);
        assert!(!caps(Profile::Strict, &[], &[]).contains(&"CAP_NET_RAW".to_owned()));
        assert_eq!(every().count(), 41);
        assert_eq!(
            (masked_paths(Profile::Docker).len(), masked_paths(Profile::Strict).len()),
            (12, 13)
        );
    }

    #[test]
    fn all_and_single_capabilities_combine_as_in_docker() {
        assert_eq!(caps(Profile::Docker, &["net_admin"], &["ALL"]), ["CAP_NET_ADMIN"]);
        assert!(caps(Profile::Docker, &[], &["all"]).is_empty());
        let all = caps(Profile::Bargee, &["ALL"], &["CAP_SYS_ADMIN"]);
        assert_eq!(all.len(), 41 - 2);
        assert!(!all.contains(&"CAP_SYS_ADMIN".to_owned()));
        assert!(!caps(Profile::Docker, &[], &["MKNOD"]).contains(&"CAP_MKNOD".to_owned()));
    }

    #[test]
    fn an_unknown_capability_is_an_error() {
        let error = capabilities(Profile::Docker, &["FLY".into()], &[], &BTreeSet::new());
        assert_eq!(error, Err(UnknownCapability("FLY".into())));
    }
}
