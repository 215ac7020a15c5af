//! A stack with every name, image and default settled: what the planner compares with the machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::spec::compose_hash::ComposeHash;
use crate::spec::container::ContainerSpec;
use crate::spec::name::{ServiceName, StackName};
use crate::spec::origins::Origins;
use crate::spec::stack::{
    Dependency, FailureAction, OnUnhealthy, PullPolicy, RestartLimits, SubnetSpec, UpdateConfig,
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    pub name: StackName,
    pub services: BTreeMap<ServiceName, DesiredService>,
    /// By name on the machine.
    pub networks: BTreeMap<String, DesiredNetwork>,
    pub volumes: BTreeMap<String, DesiredVolume>,
    /// Services that are known and not selected now; never orphans.
    pub unselected: Vec<ServiceName>,
    /// A container of a service beside its replicas, made by the next plan and never healed. The service may be
    /// among `services` or not; this one's only replica is the container.
    pub oneoff: Option<DesiredService>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DesiredService {
    pub name: ServiceName,
    /// Shared with the steps that make them: a specification is large.
    pub replicas: Vec<Arc<DesiredReplica>>,
    pub depends_on: BTreeMap<ServiceName, Dependency>,
    pub pull_policy: PullPolicy,
    pub update: UpdateConfig,
    pub rollback: Option<UpdateConfig>,
    pub on_unhealthy: OnUnhealthy,
    pub restart_limits: RestartLimits,
    pub origins: Origins,
}

impl Desired {
    /// Lets every service be replaced as its `rollback_config` says.
    pub fn as_rollback(mut self) -> Self {
        for service in self.services.values_mut() {
            let plain = UpdateConfig { failure_action: FailureAction::Pause, ..service.update };
            service.update = service.rollback.unwrap_or(plain);
        }
        self
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DesiredReplica {
    pub service: ServiceName,
    /// From 1.
    pub number: u32,
    pub oneoff: bool,
    /// `STACK-SERVICE-N`, or `container_name`.
    pub container_name: String,
    /// All names are names on the machine; compose's labels are in it.
    pub spec: ContainerSpec,
    /// Digest of what forces a re-creation: `spec` without its live fields, and the image's id.
    pub hash: String,
    /// Config digest of the image, `None` when it is not on the machine yet.
    pub image_id: Option<String>,
    /// Compose's hash of the service; the ids that it waits for are those of containers of these names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose_hash: Option<ComposeHash>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DesiredNetwork {
    pub name: String,
    pub key: String,
    pub external: bool,
    pub internal: bool,
    pub enable_ipv6: bool,
    pub attachable: bool,
    pub driver: String,
    pub driver_opts: BTreeMap<String, String>,
    /// Empty: the engine picks the next free one.
    pub subnets: Vec<SubnetSpec>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DesiredVolume {
    pub name: String,
    pub key: String,
    pub external: bool,
    pub driver: String,
    pub driver_opts: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}
