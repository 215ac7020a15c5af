//! The structs of compose-go that a service consists of (`types/types.go`), in the order of their fields.

use super::shape::Shape::{
    Always, By, Bytes, Flag, Float, MaybeFlag, MaybeNumber, MaybeTime, Number, Pairs, Struct,
    Structs, Text, Texts, Time,
};
use super::shape::Table;
use super::{mounts, ports, service};

pub(super) const SERVICE: Table = &[
    ("annotations", Pairs),
    ("attach", MaybeFlag),
    ("blkio_config", Struct(BLKIO)),
    ("cap_add", Texts),
    ("cap_drop", Texts),
    ("cgroup_parent", Text),
    ("cgroup", Text),
    ("cpu_count", Number),
    ("cpu_percent", Float),
    ("cpu_period", Number),
    ("cpu_quota", Number),
    ("cpu_rt_period", Number),
    ("cpu_rt_runtime", Number),
    ("cpus", Float),
    ("cpuset", Text),
    ("cpu_shares", Number),
    ("command", By(service::command)),
    ("configs", By(mounts::configs)),
    ("container_name", Text),
    ("credential_spec", Struct(CREDENTIAL_SPEC)),
    ("deploy", Struct(DEPLOY)),
    ("device_cgroup_rules", Texts),
    ("devices", By(mounts::devices)),
    ("dns", Texts),
    ("dns_opt", Texts),
    ("dns_search", Texts),
    ("domainname", Text),
    ("entrypoint", By(service::entrypoint)),
    ("environment", By(service::environment)),
    ("expose", Texts),
    ("external_links", Texts),
    ("extra_hosts", By(service::extra_hosts)),
    ("group_add", Texts),
    ("hostname", Text),
    ("healthcheck", Struct(HEALTHCHECK)),
    ("image", Text),
    ("init", MaybeFlag),
    ("ipc", By(service::shared_namespace)),
    ("isolation", Text),
    ("labels", By(service::labels)),
    ("label_file", By(mounts::label_files)),
    ("links", Texts),
    ("logging", Struct(LOGGING)),
    ("mem_limit", Bytes),
    ("mem_reservation", Bytes),
    ("memswap_limit", Bytes),
    ("mem_swappiness", Bytes),
    ("mac_address", Text),
    ("network_mode", By(service::shared_namespace)),
    ("networks", By(service::networks)),
    ("oom_kill_disable", Flag),
    ("oom_score_adj", Number),
    ("pid", By(service::shared_namespace)),
    ("pids_limit", Number),
    ("platform", Text),
    ("ports", By(ports::ports)),
    ("privileged", Flag),
    ("read_only", Flag),
    ("restart", Text),
    ("runtime", Text),
    ("secrets", By(mounts::secrets)),
    ("security_opt", Texts),
    ("shm_size", Bytes),
    ("stdin_open", Flag),
    ("stop_grace_period", MaybeTime),
    ("stop_signal", Text),
    ("storage_opt", Pairs),
    ("sysctls", Pairs),
    ("tmpfs", Texts),
    ("tty", Flag),
    ("ulimits", By(service::ulimits)),
    ("user", Text),
    ("userns_mode", Text),
    ("uts", Text),
    ("volumes", By(mounts::volumes)),
    ("volumes_from", By(service::volumes_from)),
    ("working_dir", Text),
];

pub(super) const ENDPOINT: Table = &[
    ("aliases", Texts),
    ("driver_opts", Pairs),
    ("gw_priority", Number),
    ("interface_name", Text),
    ("ipv4_address", Text),
    ("ipv6_address", Text),
    ("link_local_ips", Texts),
    ("mac_address", Text),
    ("priority", Number),
];

const BLKIO: Table = &[("weight", Number)];

const CREDENTIAL_SPEC: Table = &[("config", Text), ("file", Text), ("registry", Text)];

const LOGGING: Table = &[("driver", Text), ("options", Pairs)];

const HEALTHCHECK: Table = &[
    ("test", By(service::health_test)),
    ("timeout", MaybeTime),
    ("interval", MaybeTime),
    ("retries", MaybeNumber),
    ("start_period", MaybeTime),
    ("start_interval", MaybeTime),
    ("disable", Flag),
];

const DEPLOY: Table = &[
    ("mode", Text),
    ("replicas", By(service::cleared)),
    ("labels", Pairs),
    ("update_config", Struct(UPDATE)),
    ("rollback_config", Struct(UPDATE)),
    ("resources", Always(RESOURCES)),
    ("restart_policy", Struct(RESTART)),
    ("placement", Always(PLACEMENT)),
    ("endpoint_mode", Text),
];

const UPDATE: Table = &[
    ("parallelism", MaybeNumber),
    ("delay", Time),
    ("failure_action", Text),
    ("monitor", Time),
    ("max_failure_ratio", Float),
    ("order", Text),
];

const RESOURCES: Table = &[("limits", Struct(RESOURCE)), ("reservations", Struct(RESOURCE))];

const RESOURCE: Table = &[("cpus", Float), ("memory", Bytes), ("pids", Number)];

const RESTART: Table = &[
    ("condition", Text),
    ("delay", MaybeTime),
    ("max_attempts", MaybeNumber),
    ("window", MaybeTime),
];

const PLACEMENT: Table = &[
    ("constraints", Texts),
    ("preferences", Structs(PREFERENCE)),
    ("max_replicas_per_node", Number),
];

const PREFERENCE: Table = &[("spread", Text)];

pub(super) const PORT: Table = &[
    ("name", Text),
    ("mode", By(ports::mode)),
    ("host_ip", Text),
    ("target", Number),
    ("published", Text),
    ("protocol", By(ports::protocol)),
    ("app_protocol", Text),
];
