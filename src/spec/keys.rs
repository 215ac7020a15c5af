//! Every key of a stack file and what may stand under it: one table per mapping. The readers in
//! `document` read by it, and `schema` writes it out as a JSON Schema, so neither knows a key that the
//! other does not.
//!
//! <https://docs.docker.com/reference/compose-file/>

/// What may stand at a place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Anything at all.
    Any,
    /// Any scalar.
    Text,
    Flag,
    Integer,
    /// A number of bytes.
    Size,
    /// A time as Go writes it.
    Duration,
    /// A number of CPUs.
    Cpus,
    /// A number from 0 to 1.
    Ratio,
    Words(&'static [&'static str]),
    List(&'static Shape),
    /// A list, or the one value that stands for a list of it.
    OneOrMany(&'static Shape),
    /// A mapping, or a list of `key=value`.
    Pairs,
    /// A mapping with keys of the user's own choice.
    Map(&'static Shape),
    /// As [`Shape::Map`], where a key may stand alone.
    NullableMap(&'static Shape),
    Keys(&'static Keys),
    Either(&'static [Shape]),
    /// Valid in the Compose Specification, harmless, and not enforced.
    Ignored,
    /// Valid in the Compose Specification, and refused: ignoring it would not be safe.
    Refused,
}

/// The keys of one mapping; `x-…` is always allowed beside them.
#[derive(Debug)]
pub(crate) struct Keys {
    /// What the mapping is, for the schema's `$defs`.
    pub(crate) name: &'static str,
    pub(crate) keys: &'static [(&'static str, Shape)],
    pub(crate) required: &'static [&'static str],
}

/// Keys that the loader resolves: a merged document no longer has them.
pub(crate) const RESOLVED: [&str; 2] = ["include", "extends"];

impl Keys {
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|(name, _)| *name)
    }
}

use Shape::{
    Any, Cpus, Duration, Either, Flag, Ignored, Integer, List, Map, NullableMap, OneOrMany, Pairs,
    Ratio, Refused, Size, Text, Words,
};

pub(crate) const CONDITIONS: [&str; 3] =
    ["service_started", "service_healthy", "service_completed_successfully"];
pub(crate) const MOUNT_TYPES: [&str; 4] = ["bind", "volume", "tmpfs", "image"];
pub(crate) const RECURSIVE: [&str; 4] = ["enabled", "disabled", "writable", "readonly"];
pub(crate) const PROPAGATION: [&str; 6] =
    ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
pub(crate) const DEPLOY_MODES: [&str; 4] = ["replicated", "global", "replicated-job", "global-job"];
pub(crate) const ENDPOINT_MODES: [&str; 2] = ["vip", "dnsrr"];
pub(crate) const RESTART_CONDITIONS: [&str; 3] = ["none", "on-failure", "any"];
pub(crate) const FAILURE_ACTIONS: [&str; 3] = ["pause", "continue", "rollback"];
pub(crate) const UPDATE_ORDERS: [&str; 2] = ["stop-first", "start-first"];
pub(crate) const NETWORK_DRIVERS: [&str; 4] = ["bridge", "default", "host", "none"];
pub(crate) const VOLUME_DRIVERS: [&str; 1] = ["local"];
pub(crate) const PORT_MODES: [&str; 2] = ["host", "ingress"];
pub(crate) const SECURITY: [&str; 2] = ["strict", "default"];
pub(crate) const ON_UNHEALTHY: [&str; 2] = ["restart", "none"];
pub(crate) const CGROUP_NAMESPACES: [&str; 2] = ["host", "private"];

const TEXTS: Shape = OneOrMany(&Text);
const COMMAND: Shape = Either(&[Text, List(&Text)]);

pub(crate) static ROOT: Keys = Keys {
    name: "stack",
    keys: &[
        ("name", Text),
        ("version", Any),
        ("x-bargee", Shape::Keys(&EXTENSION)),
        ("include", List(&Either(&[Text, Shape::Keys(&INCLUDE)]))),
        // A later file may take an entry away: `name: !reset null`.
        ("services", NullableMap(&Shape::Keys(&SERVICE))),
        ("networks", NullableMap(&Shape::Keys(&NETWORK))),
        ("volumes", NullableMap(&Shape::Keys(&VOLUME))),
        ("configs", NullableMap(&Shape::Keys(&FILE))),
        ("secrets", NullableMap(&Shape::Keys(&FILE))),
        ("models", Ignored),
    ],
    required: &[],
};

pub(crate) static EXTENSION: Keys = Keys {
    name: "x-bargee",
    keys: &[
        ("security", Words(&SECURITY)),
        ("on_unhealthy", Words(&ON_UNHEALTHY)),
        ("reversible", Flag),
    ],
    required: &[],
};

static INCLUDE: Keys = Keys {
    name: "include",
    keys: &[("path", TEXTS), ("project_directory", Text), ("env_file", TEXTS)],
    required: &["path"],
};

static EXTENDS: Keys =
    Keys { name: "extends", keys: &[("service", Text), ("file", Text)], required: &["service"] };

pub(crate) static SERVICE: Keys = Keys {
    name: "service",
    keys: &[
        ("x-bargee", Shape::Keys(&EXTENSION)),
        ("extends", Either(&[Text, Shape::Keys(&EXTENDS)])),
        ("image", Text),
        ("build", Ignored),
        ("platform", Text),
        ("pull_policy", Text),
        ("container_name", Text),
        ("attach", Flag),
        ("profiles", List(&Text)),
        ("labels", Pairs),
        ("annotations", Pairs),
        ("command", COMMAND),
        ("entrypoint", COMMAND),
        ("working_dir", Text),
        ("user", Text),
        ("hostname", Text),
        ("domainname", Text),
        ("runtime", Text),
        ("tty", Flag),
        ("stdin_open", Flag),
        ("init", Flag),
        ("group_add", TEXTS),
        ("stop_signal", Text),
        ("stop_grace_period", Duration),
        ("restart", Text),
        ("environment", Pairs),
        ("env_file", OneOrMany(&Either(&[Text, Shape::Keys(&ENV_FILE)]))),
        ("label_file", OneOrMany(&Either(&[Text, Shape::Keys(&ENV_FILE)]))),
        ("mem_limit", Size),
        ("mem_reservation", Size),
        ("memswap_limit", Either(&[Integer, Size])),
        ("mem_swappiness", Integer),
        ("cpus", Cpus),
        ("cpu_shares", Integer),
        ("cpu_period", Either(&[Integer, Duration])),
        ("cpu_quota", Either(&[Integer, Duration])),
        ("cpuset", Text),
        ("cpu_rt_period", Ignored),
        ("cpu_rt_runtime", Ignored),
        ("pids_limit", Integer),
        ("oom_score_adj", Integer),
        ("oom_kill_disable", Flag),
        ("blkio_config", Shape::Keys(&BLKIO)),
        ("shm_size", Size),
        ("sysctls", Pairs),
        ("ulimits", Map(&Either(&[Integer, Shape::Keys(&ULIMIT)]))),
        ("scale", Integer),
        ("deploy", Shape::Keys(&DEPLOY)),
        ("cap_add", List(&Text)),
        ("cap_drop", List(&Text)),
        ("privileged", Flag),
        ("read_only", Flag),
        ("security_opt", List(&Text)),
        ("devices", List(&Either(&[Text, Shape::Keys(&DEVICE)]))),
        ("device_cgroup_rules", List(&Text)),
        ("cgroup_parent", Text),
        ("cgroup", Words(&CGROUP_NAMESPACES)),
        ("uts", Words(&["host"])),
        ("userns_mode", Text),
        ("pid", Text),
        ("ipc", Text),
        ("volumes", List(&Either(&[Text, Shape::Keys(&MOUNT)]))),
        ("tmpfs", TEXTS),
        ("volumes_from", List(&Text)),
        ("configs", List(&Either(&[Text, Shape::Keys(&FILE_USE)]))),
        ("secrets", List(&Either(&[Text, Shape::Keys(&FILE_USE)]))),
        ("logging", Shape::Keys(&LOGGING)),
        ("networks", Either(&[List(&Text), NullableMap(&Shape::Keys(&ENDPOINT))])),
        ("mac_address", Text),
        ("network_mode", Text),
        ("ports", List(&Either(&[Text, Shape::Keys(&PORT)]))),
        ("expose", List(&Text)),
        ("extra_hosts", Either(&[List(&Text), Map(&TEXTS)])),
        ("links", List(&Text)),
        ("external_links", TEXTS),
        ("dns", TEXTS),
        ("dns_search", TEXTS),
        ("dns_opt", TEXTS),
        ("healthcheck", Shape::Keys(&HEALTHCHECK)),
        ("depends_on", Either(&[List(&Text), Map(&Shape::Keys(&DEPENDENCY))])),
        ("cpu_count", Ignored),
        ("cpu_percent", Ignored),
        ("credential_spec", Ignored),
        ("isolation", Ignored),
        ("develop", Ignored),
        ("gpus", Ignored),
        ("models", Ignored),
        ("post_start", Ignored),
        ("pre_stop", Ignored),
        ("pull_refresh_after", Ignored),
        ("storage_opt", Ignored),
        ("use_api_socket", Ignored),
        ("pre_start", Refused),
        ("provider", Refused),
    ],
    required: &[],
};

pub(crate) static ENV_FILE: Keys = Keys {
    name: "env_file",
    keys: &[("path", Text), ("required", Flag), ("format", Words(&["raw"]))],
    required: &["path"],
};

pub(crate) static BLKIO: Keys = Keys {
    name: "blkio_config",
    keys: &[
        ("weight", Integer),
        ("weight_device", Ignored),
        ("device_read_bps", Ignored),
        ("device_read_iops", Ignored),
        ("device_write_bps", Ignored),
        ("device_write_iops", Ignored),
    ],
    required: &[],
};

pub(crate) static ULIMIT: Keys = Keys {
    name: "ulimit",
    keys: &[("soft", Integer), ("hard", Integer)],
    required: &["soft", "hard"],
};

pub(crate) static DEPLOY: Keys = Keys {
    name: "deploy",
    keys: &[
        ("replicas", Integer),
        ("mode", Words(&DEPLOY_MODES)),
        ("endpoint_mode", Words(&ENDPOINT_MODES)),
        ("resources", Shape::Keys(&DEPLOY_RESOURCES)),
        ("restart_policy", Shape::Keys(&RESTART_POLICY)),
        ("update_config", Shape::Keys(&UPDATE_CONFIG)),
        ("rollback_config", Shape::Keys(&UPDATE_CONFIG)),
        ("placement", Ignored),
        ("labels", Ignored),
    ],
    required: &[],
};

pub(crate) static DEPLOY_RESOURCES: Keys = Keys {
    name: "deploy.resources",
    keys: &[("limits", Shape::Keys(&LIMITS)), ("reservations", Shape::Keys(&RESERVATIONS))],
    required: &[],
};

pub(crate) static LIMITS: Keys = Keys {
    name: "deploy.resources.limits",
    keys: &[("cpus", Cpus), ("memory", Size), ("pids", Integer)],
    required: &[],
};

pub(crate) static RESERVATIONS: Keys = Keys {
    name: "deploy.resources.reservations",
    keys: &[
        ("memory", Size),
        ("cpus", Ignored),
        ("devices", Ignored),
        ("generic_resources", Ignored),
        ("pids", Ignored),
    ],
    required: &[],
};

pub(crate) static RESTART_POLICY: Keys = Keys {
    name: "deploy.restart_policy",
    keys: &[
        ("condition", Words(&RESTART_CONDITIONS)),
        ("max_attempts", Integer),
        ("delay", Duration),
        ("window", Duration),
    ],
    required: &[],
};

pub(crate) static UPDATE_CONFIG: Keys = Keys {
    name: "deploy.update_config",
    keys: &[
        ("parallelism", Integer),
        ("order", Words(&UPDATE_ORDERS)),
        ("delay", Duration),
        ("failure_action", Words(&FAILURE_ACTIONS)),
        ("monitor", Duration),
        ("max_failure_ratio", Ratio),
    ],
    required: &[],
};

pub(crate) static DEVICE: Keys = Keys {
    name: "device",
    keys: &[("source", Text), ("target", Text), ("permissions", Text)],
    required: &["source"],
};

pub(crate) static MOUNT: Keys = Keys {
    name: "mount",
    keys: &[
        ("type", Words(&MOUNT_TYPES)),
        ("source", Text),
        ("target", Text),
        ("read_only", Flag),
        ("consistency", Ignored),
        ("bind", Shape::Keys(&MOUNT_BIND)),
        ("volume", Shape::Keys(&MOUNT_VOLUME)),
        ("tmpfs", Shape::Keys(&MOUNT_TMPFS)),
        ("image", Refused),
    ],
    required: &["type", "target"],
};

pub(crate) static MOUNT_BIND: Keys = Keys {
    name: "mount.bind",
    keys: &[
        ("create_host_path", Flag),
        ("recursive", Words(&RECURSIVE)),
        ("propagation", Words(&PROPAGATION)),
        ("selinux", Ignored),
    ],
    required: &[],
};

pub(crate) static MOUNT_VOLUME: Keys = Keys {
    name: "mount.volume",
    keys: &[("nocopy", Flag), ("subpath", Text), ("labels", Ignored)],
    required: &[],
};

pub(crate) static MOUNT_TMPFS: Keys =
    Keys { name: "mount.tmpfs", keys: &[("size", Size), ("mode", Text)], required: &[] };

pub(crate) static FILE_USE: Keys = Keys {
    name: "file_use",
    keys: &[("source", Text), ("target", Text), ("uid", Integer), ("gid", Integer), ("mode", Text)],
    required: &["source"],
};

pub(crate) static LOGGING: Keys =
    Keys { name: "logging", keys: &[("driver", Text), ("options", Pairs)], required: &[] };

pub(crate) static ENDPOINT: Keys = Keys {
    name: "endpoint",
    keys: &[
        ("aliases", TEXTS),
        ("ipv4_address", Text),
        ("ipv6_address", Text),
        ("mac_address", Text),
        ("driver_opts", Pairs),
        ("gw_priority", Integer),
        ("priority", Integer),
        ("link_local_ips", Ignored),
        ("interface_name", Ignored),
    ],
    required: &[],
};

pub(crate) static PORT: Keys = Keys {
    name: "port",
    keys: &[
        ("target", Text),
        ("published", Text),
        ("protocol", Text),
        ("host_ip", Text),
        ("mode", Words(&PORT_MODES)),
        ("name", Text),
        ("app_protocol", Text),
    ],
    required: &["target"],
};

pub(crate) static HEALTHCHECK: Keys = Keys {
    name: "healthcheck",
    keys: &[
        ("test", COMMAND),
        ("interval", Duration),
        ("timeout", Duration),
        ("start_period", Duration),
        ("start_interval", Duration),
        ("retries", Integer),
        ("disable", Flag),
    ],
    required: &[],
};

pub(crate) static DEPENDENCY: Keys = Keys {
    name: "dependency",
    keys: &[("condition", Words(&CONDITIONS)), ("restart", Flag), ("required", Flag)],
    required: &[],
};

pub(crate) static NETWORK: Keys = Keys {
    name: "network",
    keys: &[
        ("name", Text),
        ("external", Either(&[Flag, Shape::Keys(&EXTERNAL)])),
        ("internal", Flag),
        ("attachable", Flag),
        ("enable_ipv6", Flag),
        ("enable_ipv4", Flag),
        ("driver", Words(&NETWORK_DRIVERS)),
        ("driver_opts", Pairs),
        ("labels", Pairs),
        ("ipam", Shape::Keys(&IPAM)),
    ],
    required: &[],
};

pub(crate) static EXTERNAL: Keys =
    Keys { name: "external", keys: &[("name", Text)], required: &[] };

pub(crate) static IPAM: Keys = Keys {
    name: "ipam",
    keys: &[
        ("driver", Words(&["default"])),
        ("options", Ignored),
        ("config", List(&Shape::Keys(&SUBNET))),
    ],
    required: &[],
};

pub(crate) static SUBNET: Keys = Keys {
    name: "subnet",
    keys: &[("subnet", Text), ("gateway", Text), ("ip_range", Text), ("aux_addresses", Map(&Text))],
    required: &["subnet"],
};

pub(crate) static VOLUME: Keys = Keys {
    name: "volume",
    keys: &[
        ("name", Text),
        ("external", Either(&[Flag, Shape::Keys(&EXTERNAL)])),
        ("driver", Words(&VOLUME_DRIVERS)),
        ("driver_opts", Pairs),
        ("labels", Pairs),
    ],
    required: &[],
};

pub(crate) static FILE: Keys = Keys {
    name: "file",
    keys: &[
        ("file", Text),
        ("environment", Text),
        ("content", Text),
        ("external", Flag),
        ("driver", Refused),
        ("driver_opts", Refused),
        ("template_driver", Refused),
        ("name", Ignored),
        ("labels", Ignored),
    ],
    required: &[],
};
