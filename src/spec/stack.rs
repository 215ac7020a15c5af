//! A stack that cannot be wrong: what validation makes of a document. Names of networks, volumes and
//! files are the file's own keys; `reconcile::desired` turns them into names on the machine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::compose_hash::ComposeHash;
use super::container::ContainerSpec;
use super::name::{ServiceName, StackName};
use super::origins::Origins;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stack {
    pub name: StackName,
    pub services: BTreeMap<ServiceName, Service>,
    /// Only those that a service uses, the implicit `default` included.
    pub networks: BTreeMap<String, Network>,
    pub volumes: BTreeMap<String, Volume>,
    /// Absolute folder of the first file, and the files, for compose's labels.
    pub working_dir: String,
    pub config_files: Vec<String>,
    /// Services that a profile leaves out now; never orphans.
    pub disabled: Vec<ServiceName>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub name: ServiceName,
    /// `networks` and volume mounts hold the file's keys; `NetworkMode::Container("service:x")` is a service.
    /// Boxed, as it is large and a service moves from map to map.
    pub container: Box<ContainerSpec>,
    pub container_name: Option<String>,
    pub replicas: u32,
    pub pull_policy: PullPolicy,
    pub depends_on: BTreeMap<ServiceName, Dependency>,
    pub update: UpdateConfig,
    /// How the way back goes; as `update` when it is not said.
    #[serde(default)]
    pub rollback: Option<UpdateConfig>,
    pub restart_limits: RestartLimits,
    pub on_unhealthy: OnUnhealthy,
    /// What it does, if it is a job, does not stand in the way of an older revision.
    #[serde(default)]
    pub reversible: bool,
    /// Whether a foreground `up` shows its logs.
    pub attach: bool,
    /// Where the file says each key, for plans: dotted path (`mem_limit`) → `file:line`.
    pub origins: Origins,
    /// For the label by which docker compose knows the containers again. `None`: it was not asked for, or can't be
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose_hash: Option<ComposeHash>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    Always,
    Never,
    #[default]
    Missing,
    Build,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    pub condition: Condition,
    pub restart: bool,
    pub required: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    #[default]
    ServiceStarted,
    ServiceHealthy,
    ServiceCompletedSuccessfully,
}

/// `deploy.update_config`, or `rollback_config`: how containers are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateConfig {
    /// Zero: all at once.
    pub parallelism: u32,
    pub start_first: bool,
    pub delay: Duration,
    /// How long a new container is watched once it is up.
    pub monitor: Duration,
    /// Millionths of the replacements that may fail.
    pub max_failed: u32,
    pub failure_action: FailureAction,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            parallelism: 1,
            start_first: false,
            delay: Duration::ZERO,
            monitor: Duration::ZERO,
            max_failed: 0,
            failure_action: FailureAction::default(),
        }
    }
}

impl UpdateConfig {
    /// Returns how many of `replacements` may fail.
    pub fn tolerated(&self, replacements: usize) -> usize {
        let millionths = u64::try_from(replacements).unwrap_or(u64::MAX);
        let tolerated = millionths.saturating_mul(u64::from(self.max_failed)) / 1_000_000;
        usize::try_from(tolerated).unwrap_or(usize::MAX)
    }
}

/// What is done when more replacements fail than may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureAction {
    /// What still runs stays as it is, until somebody asks again.
    #[default]
    Pause,
    Continue,
    /// The last good revision comes back.
    Rollback,
}

/// `deploy.restart_policy`'s delay and window, over the engine's defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartLimits {
    pub delay: Option<Duration>,
    pub window: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnhealthy {
    #[default]
    Restart,
    None,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// `None`: `STACK_KEY`.
    pub name: Option<String>,
    pub external: bool,
    pub internal: bool,
    pub attachable: bool,
    pub enable_ipv6: bool,
    pub driver: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
    pub subnets: Vec<SubnetSpec>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetSpec {
    pub subnet: ipnet::IpNet,
    pub gateway: Option<IpAddr>,
    pub ip_range: Option<ipnet::IpNet>,
    /// Addresses never given out.
    pub reserved: Vec<IpAddr>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// `None`: `STACK_KEY`.
    pub name: Option<String>,
    pub external: bool,
    pub driver: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}
