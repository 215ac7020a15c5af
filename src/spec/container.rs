//! What one container is asked to be, as plain data: the one model that a stack's service, an API
//! request and the engine's database share. Nothing here is resolved against a machine: names of
//! networks, volumes and images are as the asker wrote them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is as it is by default is not written: a stack of a thousand services travels and is stored in a
/// third of the bytes, and a field that is added later changes no hash.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A container as asked for. Absent options mean "what the image or the engine's default says".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerSpec {
    /// Image reference or id, as written.
    #[serde(skip_serializing_if = "is_default")]
    pub image: String,
    /// `None`: the image's. `Some([])`: cleared.
    #[serde(skip_serializing_if = "is_default")]
    pub entrypoint: Option<Vec<String>>,
    /// `None`: the image's (unless `entrypoint` is set). `Some([])`: cleared.
    #[serde(skip_serializing_if = "is_default")]
    pub command: Option<Vec<String>>,
    /// `KEY=value`; a bare `KEY` removes the image's variable.
    #[serde(skip_serializing_if = "is_default")]
    pub env: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub working_dir: Option<String>,
    /// `user[:group]`, names or numbers.
    #[serde(skip_serializing_if = "is_default")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub group_add: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub domainname: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    pub tty: bool,
    /// Rows and columns of the terminal when the program starts.
    #[serde(skip_serializing_if = "is_default")]
    pub console_size: Option<(u16, u16)>,
    #[serde(skip_serializing_if = "is_default")]
    pub open_stdin: bool,
    /// Stdin closes when the first client that attached it leaves.
    #[serde(skip_serializing_if = "is_default")]
    pub stdin_once: bool,
    /// Docker's `AttachStdin/Stdout/Stderr`, kept for `inspect` alone.
    #[serde(skip_serializing_if = "is_default")]
    pub attach: [bool; 3],
    /// Runs our reaper as PID 1.
    #[serde(skip_serializing_if = "is_default")]
    pub init: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub stop_signal: Option<String>,
    /// Grace before SIGKILL, in seconds; default 10; -1 waits for ever.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(skip_serializing_if = "is_default")]
    pub restart: RestartPolicy,
    #[serde(skip_serializing_if = "is_default")]
    pub resources: Resources,
    #[serde(skip_serializing_if = "is_default")]
    pub ulimits: BTreeMap<String, Ulimit>,
    #[serde(skip_serializing_if = "is_default")]
    pub sysctls: BTreeMap<String, String>,
    /// Size of /dev/shm in bytes; default 64 MiB.
    #[serde(skip_serializing_if = "is_default")]
    pub shm_size: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    pub cap_add: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub cap_drop: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub privileged: bool,
    /// Docker's `--security-opt` words.
    #[serde(skip_serializing_if = "is_default")]
    pub security_opt: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub profile: Profile,
    #[serde(skip_serializing_if = "is_default")]
    pub read_only: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub mounts: Vec<Mount>,
    /// `container[:ro]`.
    #[serde(skip_serializing_if = "is_default")]
    pub volumes_from: Vec<String>,
    /// Files made inside at creation: configs and secrets.
    #[serde(skip_serializing_if = "is_default")]
    pub files: Vec<InlineFile>,
    #[serde(skip_serializing_if = "is_default")]
    pub devices: Vec<Device>,
    #[serde(skip_serializing_if = "is_default")]
    pub device_cgroup_rules: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub network_mode: NetworkMode,
    /// Endpoints by network name (or id), for `NetworkMode::Networks`.
    #[serde(skip_serializing_if = "is_default")]
    pub networks: BTreeMap<String, Endpoint>,
    #[serde(skip_serializing_if = "is_default")]
    pub ports: Vec<PortSpec>,
    /// `port/proto` without publishing.
    #[serde(skip_serializing_if = "is_default")]
    pub exposed: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub publish_all: bool,
    /// `host:ip`, ip may be `host-gateway`.
    #[serde(skip_serializing_if = "is_default")]
    pub extra_hosts: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub links: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub dns: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub dns_search: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub dns_options: Vec<String>,
    /// Docker's words: "", `host`, `private`, `container:ID`, `shareable`, `none`.
    #[serde(skip_serializing_if = "is_default")]
    pub pid_mode: String,
    #[serde(skip_serializing_if = "is_default")]
    pub ipc_mode: String,
    #[serde(skip_serializing_if = "is_default")]
    pub uts_mode: String,
    #[serde(skip_serializing_if = "is_default")]
    pub cgroupns_mode: String,
    #[serde(skip_serializing_if = "is_default")]
    pub userns_mode: String,
    #[serde(skip_serializing_if = "is_default")]
    pub cgroup_parent: String,
    #[serde(skip_serializing_if = "is_default")]
    pub logging: Logging,
    #[serde(skip_serializing_if = "is_default")]
    pub auto_remove: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub platform: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub runtime: Option<String>,
    /// `None`: the default of docker, i.e. masked and read-only paths as the profile has them.
    #[serde(skip_serializing_if = "is_default")]
    pub masked_paths: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_default")]
    pub readonly_paths: Option<Vec<String>>,
}

impl ContainerSpec {
    /// Tells whether the program is given a capability beside the profile's; `name` is without `CAP_`.
    pub fn adds_capability(&self, name: &str) -> bool {
        let gives = |word: &String| {
            let word = word.to_ascii_uppercase();
            let word = word.strip_prefix("CAP_").unwrap_or(&word);
            word == "ALL" || word == name
        };
        self.privileged || self.cap_add.iter().any(gives)
    }
}

/// Which default set of capabilities and switches applies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Docker's own: 14 capabilities. What the Docker API gives.
    #[default]
    Docker,
    /// 11 capabilities (no MKNOD, NET_RAW, AUDIT_WRITE). What stacks and our CLI give.
    Bargee,
    /// As `Bargee`, with no-new-privileges.
    Strict,
}

/// Times are nanoseconds, as in the Docker API; zero means the default (30 s, 30 s, 0 s, 5 s, 3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", line]`, or empty: the image's.
    #[serde(skip_serializing_if = "is_default")]
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub interval: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub start_period: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub start_interval: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub retries: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    #[default]
    No,
    Always,
    UnlessStopped,
    /// Zero means without a limit.
    OnFailure {
        max: u32,
    },
}

/// Limits; all of them can change while the container runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; -1 is unlimited.
    #[serde(skip_serializing_if = "is_default")]
    pub memory_swap: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub memory_reservation: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    pub memory_swappiness: Option<u64>,
    /// Billionths of a CPU.
    #[serde(skip_serializing_if = "is_default")]
    pub nano_cpus: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_shares: Option<u64>,
    /// Microseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_period: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_quota: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub cpuset_cpus: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub cpuset_mems: Option<String>,
    /// -1 is unlimited; `None` is the engine's default (4096).
    #[serde(skip_serializing_if = "is_default")]
    pub pids_limit: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub oom_score_adj: Option<i32>,
    #[serde(skip_serializing_if = "is_default")]
    pub oom_kill_disable: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub blkio_weight: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// -1 is unlimited.
    pub soft: i64,
    pub hard: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside.
    pub target: String,
    pub read_only: bool,
    pub kind: MountKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// Absolute host path. `propagation` is "" or a word of mount(8).
    Bind { source: String, create_host_path: bool, recursive: bool, propagation: String },
    /// `None` as name: an anonymous volume, named at creation.
    Volume { name: Option<String>, nocopy: bool, subpath: String },
    /// Zero size: half the memory, as the kernel has it. `options` are further mount(8) words.
    Tmpfs { size: u64, mode: Option<u32>, options: Vec<String> },
}

/// A file put into the container at creation. `content` is never printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlineFile {
    /// Absolute path inside.
    pub target: String,
    pub content: Vec<u8>,
    /// Secrets live on a tmpfs, configs in the container's own folder.
    pub secret: bool,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub host: String,
    pub container: String,
    /// Some of `rwm`.
    pub permissions: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// The engine's default bridge network, named `bridge`.
    #[default]
    Default,
    /// The networks listed in `networks`, first the one named here.
    Networks(String),
    Host,
    None,
    /// The sandbox of another container (name or id).
    Container(String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Endpoint {
    #[serde(skip_serializing_if = "is_default")]
    pub aliases: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub ipv4: Option<std::net::Ipv4Addr>,
    #[serde(skip_serializing_if = "is_default")]
    pub ipv6: Option<std::net::Ipv6Addr>,
    #[serde(skip_serializing_if = "is_default")]
    pub mac: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub driver_opts: BTreeMap<String, String>,
    /// The endpoint with the highest value gives the default route.
    #[serde(skip_serializing_if = "is_default")]
    pub gw_priority: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// One published port. Ranges are expanded into one `PortSpec` each, except a host range to pick from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortSpec {
    pub container: u16,
    pub protocol: Protocol,
    /// `None`: 0.0.0.0 and `[::]`.
    pub host_ip: Option<std::net::IpAddr>,
    /// First and last host port to pick from; `(0, 0)`: any ephemeral one.
    pub host: (u16, u16),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// "" is the engine's default, json-file.
    #[serde(skip_serializing_if = "is_default")]
    pub driver: String,
    #[serde(skip_serializing_if = "is_default")]
    pub options: BTreeMap<String, String>,
}
