//! A container's spec, its image and what the engine resolved, as the OCI config that the shim obeys. Pure.
//!
//! The result is docker's (moby `daemon/oci_linux.go`): same defaults, same mounts, same devices.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use oci_spec::runtime::{LinuxSeccomp, Spec};
use serde_json::{Map, Value, json};

use super::merge::{self, ImageFacts};
use super::profile::{self, SystemPaths, UnknownCapability};
use crate::runtime::bundle::Lookup;
use crate::spec::container::{ContainerSpec, Profile, Resources};

/// What the engine found out about this machine and this container.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    pub hostname: String,
    /// Where the rootfs is mounted, or its place in the bundle.
    pub rootfs: PathBuf,
    /// Below each hierarchy's root.
    pub cgroup_path: String,
    /// The network sandbox; `None` is the host's.
    pub sandbox: Option<PathBuf>,
    /// Whether the sandbox is this container's alone, so that we may set its sysctls.
    pub owns_sandbox: bool,
    /// Namespaces of other containers, for `container:ID`.
    pub pid_namespace: Option<PathBuf>,
    pub ipc_namespace: Option<PathBuf>,
    pub identity: Identity,
    /// Binds and volumes with host paths, and the engine's own `/etc/hosts` and its like.
    pub mounts: Vec<ResolvedMount>,
    pub devices: Vec<ResolvedDevice>,
    /// Capabilities that we may give at all.
    pub bounding: BTreeSet<String>,
    /// Hard limits of this host that can't be raised, by name (`nofile`).
    pub hard_limits: BTreeMap<String, u64>,
    pub cgroup_v2: bool,
    /// Paths of this machine to hide besides the profile's: docker's `thermal_throttle` of each CPU.
    pub masked_too: Vec<String>,
    pub default_pids_limit: i64,
    pub default_nofile: [u64; 2],
    /// The profile to confine with where the host has AppArmor.
    pub apparmor: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedMount {
    pub target: String,
    /// `bind`, `tmpfs`, …
    pub kind: String,
    pub source: String,
    /// Words of mount(8).
    pub options: Vec<String>,
    /// What the source of a bind is looked up in, if not in the host's tree.
    pub lookup: Option<Lookup>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedDevice {
    pub path: String,
    pub block: bool,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    /// Some of `rwm`.
    pub access: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    #[error("no command specified")]
    NoCommand,
    #[error(transparent)]
    Capability(#[from] UnknownCapability),
    #[error("invalid device rule {0}: it is `TYPE MAJOR:MINOR ACCESS`, such as `c 1:3 mr`")]
    DeviceRule(String),
    #[error("invalid security option {0}")]
    SecurityOption(String),
    #[error("conflicting options: CPU period or quota, and nano CPUs")]
    TwoCpuLimits,
    #[error("the OCI configuration can't hold what was asked for: {0}")]
    Unrepresentable(String),
}

/// Returns the OCI config. `seccomp` is the compiled default; a privileged container gets none.
pub fn translate(
    spec: &ContainerSpec,
    image: &ImageFacts,
    resolved: &Resolved,
    seccomp: Option<LinuxSeccomp>,
) -> Result<Spec, TranslateError> {
    let options = SecurityOptions::parse(&spec.security_opt)?;
    let mut config = json!({
        "ociVersion": "1.2.0",
        "process": process(spec, image, resolved, &options)?,
        "root": { "path": resolved.rootfs.to_string_lossy(), "readonly": spec.read_only },
        "mounts": mounts(spec, resolved),
        "annotations": spec.annotations,
        "linux": linux(spec, resolved, &options)?,
    });
    if spec.uts_mode != "host" {
        config["hostname"] = json!(resolved.hostname);
        if let Some(domain) = &spec.domainname {
            config["domainname"] = json!(domain);
        }
    }
    let mut config: Spec = serde_json::from_value(config)
        .map_err(|error| TranslateError::Unrepresentable(error.to_string()))?;
    let wanted = !spec.privileged && !options.seccomp_unconfined;
    if let (Some(seccomp), Some(linux), true) = (seccomp, config.linux_mut(), wanted) {
        linux.set_seccomp(Some(seccomp));
    }
    Ok(config)
}

/// Returns the text of `config.json`, the same for the same config: `oci-spec` keeps sets and maps unordered,
/// and drift is found by comparing with what was written.
pub fn to_json(config: &Spec) -> Result<String, TranslateError> {
    let failed = |error: serde_json::Error| TranslateError::Unrepresentable(error.to_string());
    let mut config = serde_json::to_value(config).map_err(failed)?;
    config.sort_all_objects();
    if let Some(sets) = config.pointer_mut("/process/capabilities").and_then(Value::as_object_mut) {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
        }
    }
    serde_json::to_string_pretty(&config).map_err(failed)
}

/// Docker's `--security-opt` words that bear on the config.
#[derive(Debug, Default)]
struct SecurityOptions {
    no_new_privileges: Option<bool>,
    apparmor: Option<String>,
    seccomp_unconfined: bool,
    paths_unconfined: bool,
}

impl SecurityOptions {
    /// `key=value` or, of old, `key:value`. A seccomp profile of the asker's is the caller's to compile.
    fn parse(words: &[String]) -> Result<Self, TranslateError> {
        let mut options = Self::default();
        for word in words {
            let (key, value) = word.split_once(['=', ':']).unwrap_or((word, "true"));
            match (key, value) {
                ("no-new-privileges", "true") => options.no_new_privileges = Some(true),
                ("no-new-privileges", "false") => options.no_new_privileges = Some(false),
                ("apparmor", profile) => options.apparmor = Some(profile.to_owned()),
                ("seccomp", profile) => options.seccomp_unconfined = profile == "unconfined",
                ("systempaths", "unconfined") => options.paths_unconfined = true,
                // SELinux labels: `disable` is what a host without SELinux does anyway.
                ("label", _) => {}
                _ => return Err(TranslateError::SecurityOption(word.clone())),
            }
        }
        Ok(options)
    }
}

fn process(
    spec: &ContainerSpec,
    image: &ImageFacts,
    resolved: &Resolved,
    options: &SecurityOptions,
) -> Result<Value, TranslateError> {
    let arguments = merge::arguments(spec, image);
    if arguments.is_empty() {
        return Err(TranslateError::NoCommand);
    }
    let mut env = merge::environment(spec, image, &resolved.hostname);
    if !env.iter().any(|line| line.starts_with("HOME=")) {
        let home = if resolved.identity.home.is_empty() { "/" } else { &resolved.identity.home };
        env.push(format!("HOME={home}"));
    }
    let capabilities = if spec.privileged {
        profile::privileged(&resolved.bounding)
    } else {
        profile::capabilities(spec.profile, &spec.cap_add, &spec.cap_drop, &resolved.bounding)?
    };
    let Identity { uid, gid, groups, .. } = &resolved.identity;
    let mut process = json!({
        "terminal": spec.tty,
        "user": { "uid": uid, "gid": gid, "additionalGids": groups },
        "args": arguments,
        "env": env,
        "cwd": merge::working_dir(spec, image),
        // Nothing is inheritable or ambient (CVE-2022-24769): execve by a user other than root drops all.
        "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        "rlimits": rlimits(spec, resolved),
        "noNewPrivileges": options.no_new_privileges.unwrap_or(spec.profile == Profile::Strict),
    });
    if let Some((rows, columns)) = spec.console_size.filter(|_| spec.tty) {
        process["consoleSize"] = json!({ "height": rows, "width": columns });
    }
    if let Some(score) = spec.resources.oom_score_adj {
        process["oomScoreAdj"] = json!(score);
    }
    let apparmor = if spec.privileged {
        None
    } else {
        options.apparmor.as_ref().or(resolved.apparmor.as_ref())
    };
    if let Some(profile) = apparmor.filter(|profile| *profile != "unconfined") {
        process["apparmorProfile"] = json!(profile);
    }
    Ok(process)
}

fn rlimits(spec: &ContainerSpec, resolved: &Resolved) -> Vec<Value> {
    let unlimited = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let [soft, hard] = resolved.default_nofile;
    let mut limits: BTreeMap<&str, (u64, u64)> = [("nofile", (soft, hard))].into();
    for (name, limit) in &spec.ulimits {
        limits.insert(name, (unlimited(limit.soft), unlimited(limit.hard)));
    }
    limits
        .into_iter()
        .map(|(name, (soft, hard))| {
            let most = resolved.hard_limits.get(name).copied().unwrap_or(u64::MAX);
            let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
            json!({ "type": kind, "soft": soft.min(most), "hard": hard.min(most) })
        })
        .collect()
}

/// Docker's seven mounts, those of the spec in their place, and the others after them by depth.
fn mounts(spec: &ContainerSpec, resolved: &Resolved) -> Vec<Value> {
    let mount = |target: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": source, "options": options });
    let system = if spec.privileged { "rw" } else { "ro" };
    let safe = ["nosuid", "noexec", "nodev"];
    let shm_size = format!("size={}", spec.shm_size.unwrap_or(64 << 20));
    let mut all = vec![
        mount("/proc", "proc", "proc", &safe),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", system]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &[system, "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &safe),
    ];
    if spec.ipc_mode != "none" && spec.ipc_mode != "host" && resolved.ipc_namespace.is_none() {
        all.push(mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm_size],
        ));
    }
    all.retain(|known| {
        !resolved.mounts.iter().any(|asked| known["destination"] == asked.target.as_str())
    });
    let mut asked: Vec<&ResolvedMount> = resolved.mounts.iter().collect();
    // A mount below another one must come after it.
    asked.sort_by_key(|mount| mount.target.matches('/').count());
    for ResolvedMount { target, kind, source, options, .. } in asked {
        all.push(
            json!({ "destination": target, "type": kind, "source": source, "options": options }),
        );
    }
    all
}

fn linux(
    spec: &ContainerSpec,
    resolved: &Resolved,
    options: &SecurityOptions,
) -> Result<Value, TranslateError> {
    let open = spec.privileged || options.paths_unconfined;
    let closed = if open {
        SystemPaths::default()
    } else {
        profile::system_paths(spec, &resolved.masked_too)
    };
    let mut devices = profile::device_nodes();
    for device in &resolved.devices {
        devices.retain(|known| known["path"] != device.path.as_str());
        devices.push(json!({
            "path": device.path,
            "type": if device.block { "b" } else { "c" },
            "major": device.major,
            "minor": device.minor,
            "fileMode": device.mode,
            "uid": 0,
            "gid": 0,
        }));
    }
    Ok(json!({
        "cgroupsPath": resolved.cgroup_path,
        "namespaces": namespaces(spec, resolved),
        "sysctl": sysctls(spec, resolved),
        "devices": devices,
        "maskedPaths": closed.masked,
        "readonlyPaths": closed.read_only,
        "resources": {
            "devices": device_rules(spec, resolved)?,
            "memory": memory(&spec.resources),
            "cpu": cpu(&spec.resources)?,
            "pids": { "limit": pids(&spec.resources, resolved.default_pids_limit) },
            "blockIO": spec.resources.blkio_weight.map_or(json!({}), |weight| json!({ "weight": weight })),
        },
    }))
}

fn namespaces(spec: &ContainerSpec, resolved: &Resolved) -> Vec<Value> {
    let mut all = vec![json!({ "type": "mount" })];
    let mut join = |kind: &str, path: &PathBuf| {
        all.push(json!({ "type": kind, "path": path.to_string_lossy() }))
    };
    if let Some(sandbox) = &resolved.sandbox {
        join("network", sandbox);
    }
    if let Some(path) = &resolved.pid_namespace {
        join("pid", path);
    }
    if let Some(path) = &resolved.ipc_namespace {
        join("ipc", path);
    }
    if resolved.pid_namespace.is_none() && spec.pid_mode != "host" {
        all.push(json!({ "type": "pid" }));
    }
    if resolved.ipc_namespace.is_none() && spec.ipc_mode != "host" {
        all.push(json!({ "type": "ipc" }));
    }
    if spec.uts_mode != "host" {
        all.push(json!({ "type": "uts" }));
    }
    // Docker's default: private on v2, the host's on v1.
    if spec.cgroupns_mode == "private" || (spec.cgroupns_mode != "host" && resolved.cgroup_v2) {
        all.push(json!({ "type": "cgroup" }));
    }
    all
}

/// In a sandbox of its own a container may ping and bind low ports without a capability.
fn sysctls(spec: &ContainerSpec, resolved: &Resolved) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if resolved.owns_sandbox {
        all.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        all.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
    }
    all.extend(spec.sysctls.clone());
    all
}

fn device_rules(spec: &ContainerSpec, resolved: &Resolved) -> Result<Vec<Value>, TranslateError> {
    if spec.privileged {
        return Ok(vec![json!({ "allow": true, "access": "rwm" })]);
    }
    let mut rules = profile::device_rules();
    for device in &resolved.devices {
        let kind = if device.block { "b" } else { "c" };
        rules.push(json!({
            "allow": true,
            "type": kind,
            "major": device.major,
            "minor": device.minor,
            "access": device.access,
        }));
    }
    for text in &spec.device_cgroup_rules {
        rules.push(device_rule(text).ok_or_else(|| TranslateError::DeviceRule(text.clone()))?);
    }
    Ok(rules)
}

/// Reads `c 42:* rmw`, where a star is any number.
fn device_rule(text: &str) -> Option<Value> {
    let mut words = text.split_ascii_whitespace();
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let (major, minor) = numbers.split_once(':')?;
    let valid = words.next().is_none()
        && matches!(kind, "a" | "b" | "c")
        && access.chars().all(|c| "rwm".contains(c));
    if !valid || access.is_empty() {
        return None;
    }
    let mut rule = json!({ "allow": true, "type": kind, "access": access });
    for (key, number) in [("major", major), ("minor", minor)] {
        if number != "*" {
            rule[key] = json!(number.parse::<u32>().ok()?);
        }
    }
    Some(rule)
}

/// Swap without a word is as much again as memory, as in docker.
fn memory(resources: &Resources) -> Value {
    let mut memory = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            memory.insert(key.to_owned(), value);
        }
    };
    let limit =
        resources.memory.filter(|limit| *limit > 0).and_then(|limit| i64::try_from(limit).ok());
    set("limit", limit.map(Value::from));
    let swap = resources
        .memory_swap
        .filter(|swap| *swap != 0)
        .or(limit.map(|limit| limit.saturating_mul(2)));
    set("swap", swap.map(Value::from));
    set("reservation", resources.memory_reservation.filter(|value| *value > 0).map(Value::from));
    set("swappiness", resources.memory_swappiness.map(Value::from));
    set("disableOOMKiller", resources.oom_kill_disable.then_some(Value::from(true)));
    Value::Object(memory)
}

fn cpu(resources: &Resources) -> Result<Value, TranslateError> {
    const PERIOD: u64 = 100_000;
    let mut cpu = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            cpu.insert(key.to_owned(), value);
        }
    };
    let (mut period, mut quota) = (
        resources.cpu_period.filter(|value| *value > 0),
        resources.cpu_quota.filter(|value| *value != 0),
    );
    if let Some(nano) = resources.nano_cpus.filter(|nano| *nano > 0) {
        if period.is_some() || quota.is_some() {
            return Err(TranslateError::TwoCpuLimits);
        }
        // 10^9 of these are one CPU, which is a whole period.
        quota = i64::try_from(u128::from(nano) * u128::from(PERIOD) / 1_000_000_000).ok();
        period = Some(PERIOD);
    }
    set("shares", resources.cpu_shares.filter(|value| *value > 0).map(Value::from));
    set("period", period.map(Value::from));
    set("quota", quota.map(Value::from));
    set("cpus", resources.cpuset_cpus.clone().filter(|text| !text.is_empty()).map(Value::from));
    set("mems", resources.cpuset_mems.clone().filter(|text| !text.is_empty()).map(Value::from));
    Ok(Value::Object(cpu))
}

/// Zero and below are unlimited, which OCI writes as -1.
fn pids(resources: &Resources, default: i64) -> i64 {
    let limit = resources.pids_limit.unwrap_or(default);
    if limit > 0 { limit } else { -1 }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    fn image() -> ImageFacts {
        ImageFacts { cmd: vec!["sh".into()], ..ImageFacts::default() }
    }

    fn resolved() -> Resolved {
        let bounding =
            ["CAP_CHOWN", "CAP_KILL", "CAP_MKNOD", "CAP_NET_ADMIN"].map(str::to_owned).into();
        Resolved {
            hostname: "0123456789ab".into(),
            rootfs: "rootfs".into(),
            cgroup_path: "/bargee-1a2b3c/0123".into(),
            sandbox: Some("/run/bargee/netns/0123".into()),
            owns_sandbox: true,
            bounding,
            hard_limits: [("nofile".to_owned(), 20_000)].into(),
            default_pids_limit: 4096,
            default_nofile: [1024, 524_288],
            identity: Identity { home: "/root".into(), ..Identity::default() },
            mounts: vec![ResolvedMount {
                target: "/etc/hosts".into(),
                kind: "bind".into(),
                source: "/var/lib/bargee/containers/0123/hosts".into(),
                options: vec!["rbind".into(), "rprivate".into()],
                lookup: None,
            }],
            ..Resolved::default()
        }
    }

    fn json(spec: &ContainerSpec, resolved: &Resolved) -> Value {
        serde_json::to_value(
            translate(spec, &image(), resolved, Some(LinuxSeccomp::default())).unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn the_default_container_has_dockers_config() {
        let config = translate(&ContainerSpec::default(), &image(), &resolved(), None).unwrap();
        insta::assert_snapshot!(to_json(&config).unwrap());
    }

    #[test]
    fn limits_become_the_units_of_oci() {
        let resources = Resources {
            memory: Some(1 << 20),
            nano_cpus: Some(1_500_000_000),
            pids_limit: Some(0),
            ..Resources::default()
        };
        let config = json(&ContainerSpec { resources, ..ContainerSpec::default() }, &resolved());
        let resources = &config["linux"]["resources"];
        assert_eq!(resources["memory"]["limit"], 1 << 20);
        assert_eq!(resources["memory"]["swap"], 2 << 20);
        assert_eq!(
            (&resources["cpu"]["quota"], &resources["cpu"]["period"]),
            (&json!(150_000), &json!(100_000))
        );
        assert_eq!(resources["pids"]["limit"], -1);
        let both = Resources { nano_cpus: Some(1), cpu_quota: Some(1), ..Resources::default() };
        let spec = ContainerSpec { resources: both, ..ContainerSpec::default() };
        assert_eq!(
            translate(&spec, &image(), &resolved(), None),
            Err(TranslateError::TwoCpuLimits)
        );
    }

    #[test]
    fn a_privileged_container_is_open_but_never_beyond_our_own_bounding_set() {
        let config =
            json(&ContainerSpec { privileged: true, ..ContainerSpec::default() }, &resolved());
        assert_eq!(config["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 4);
        assert_eq!(config["linux"]["maskedPaths"], json!([]));
        assert_eq!(
            config["linux"]["resources"]["devices"],
            json!([{"allow": true, "access": "rwm"}])
        );
        assert!(config["linux"].get("seccomp").is_none());
        assert!(json(&ContainerSpec::default(), &resolved())["linux"].get("seccomp").is_some());
    }

    #[test]
    fn modes_choose_the_namespaces() {
        let kinds = |spec: &ContainerSpec, resolved: &Resolved| -> Vec<String> {
            let config = json(spec, resolved);
            let all = config["linux"]["namespaces"].as_array().unwrap();
            all.iter().map(|one| one["type"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(
            kinds(&ContainerSpec::default(), &resolved()),
            ["mount", "network", "pid", "ipc", "uts"]
        );
        let host = || "host".to_owned();
        let spec = ContainerSpec {
            pid_mode: host(),
            ipc_mode: host(),
            uts_mode: host(),
            ..ContainerSpec::default()
        };
        let v2 = Resolved { sandbox: None, owns_sandbox: false, cgroup_v2: true, ..resolved() };
        assert_eq!(kinds(&spec, &v2), ["mount", "cgroup"]);
        let joined = Resolved { pid_namespace: Some("/proc/7/ns/pid".into()), ..resolved() };
        let config = json(&ContainerSpec::default(), &joined);
        let pids: Vec<_> = config["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["type"] == "pid")
            .collect();
        assert_eq!(pids, [&json!({"type": "pid", "path": "/proc/7/ns/pid"})]);
    }

    #[test]
    fn a_mount_of_the_asker_replaces_a_default_one_and_parents_come_first() {
        let mount = |target: &str| ResolvedMount {
            target: target.into(),
            kind: "bind".into(),
            source: "/s".into(),
            options: Vec::new(),
            lookup: None,
        };
        let mounts = vec![mount("/data/sub"), mount("/dev/shm"), mount("/data")];
        let config = json(&ContainerSpec::default(), &Resolved { mounts, ..resolved() });
        let targets: Vec<&str> = config["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["destination"].as_str().unwrap())
            .collect();
        assert_eq!(targets[6..], ["/data", "/data/sub", "/dev/shm"]);
    }

    #[test]
    fn security_options_and_device_rules_are_dockers_words() {
        let with = |word: &str| ContainerSpec {
            security_opt: vec![word.to_owned()],
            ..ContainerSpec::default()
        };
        assert_eq!(
            json(&with("no-new-privileges"), &resolved())["process"]["noNewPrivileges"],
            true
        );
        assert_eq!(
            json(&with("no-new-privileges:true"), &resolved())["process"]["noNewPrivileges"],
            true
        );
        assert!(json(&with("seccomp=unconfined"), &resolved())["linux"].get("seccomp").is_none());
        assert_eq!(
            json(&with("systempaths=unconfined"), &resolved())["linux"]["readonlyPaths"],
            json!([])
        );
        assert!(translate(&with("magic=1"), &image(), &resolved(), None).is_err());
        assert_eq!(
            device_rule("c 42:* rmw"),
            Some(json!({"allow": true, "type": "c", "access": "rmw", "major": 42}))
        );
        for wrong in ["c 42 r", "x 1:1 r", "c 1:1 q", "c 1:1 r r", ""] {
            assert_eq!(device_rule(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_command_is_an_error() {
        let error = translate(&ContainerSpec::default(), &ImageFacts::default(), &resolved(), None)
            .unwrap_err();
        assert_eq!(error, TranslateError::NoCommand);
    }
}
