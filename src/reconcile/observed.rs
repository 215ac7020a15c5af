//! What exists, as plain data: one snapshot of the machine, taken at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::cause::Change;
use super::desired::{DesiredNetwork, DesiredVolume};
use crate::spec::container::{ContainerSpec, PortSpec};
use crate::spec::name::ServiceName;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    pub now: SystemTime,
    /// Containers of this stack, by id.
    pub containers: BTreeMap<String, ObservedContainer>,
    /// Networks of this stack, and external ones it names, by name.
    pub networks: BTreeMap<String, ObservedNetwork>,
    pub volumes: BTreeMap<String, ObservedVolume>,
    /// Image reference → config digest, for every reference that the desired stack names and that is here.
    pub images: BTreeMap<String, String>,
    /// Those of the desired stack's references that are not here and can't be pulled, and why.
    pub unobtainable: BTreeMap<String, String>,
    /// Host ports of the desired stack that somebody else holds, and who.
    pub taken_ports: Vec<(PortSpec, String)>,
    /// Bind sources of the desired stack that are missing and may not be made.
    pub missing_mounts: Vec<String>,
    /// Names of the desired stack's containers, networks or volumes that somebody else owns: name → owner.
    pub foreign_names: BTreeMap<String, String>,
    /// Replicas that the user stopped and then removed: they stay away until they are asked for again.
    pub dismissed: BTreeSet<(ServiceName, u32)>,
    /// Wanted replicas that are jobs, ended well exactly as they are wanted now, and have no container any more.
    pub finished: BTreeSet<(ServiceName, u32)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedContainer {
    pub id: String,
    pub name: String,
    pub service: ServiceName,
    pub number: u32,
    /// One-off containers (`run`) are no replicas.
    pub oneoff: bool,
    pub hash: String,
    pub spec: ContainerSpec,
    pub image_id: String,
    pub state: State,
    /// `None` without a health check.
    pub health: Option<Health>,
    /// The user asked for it to be stopped; healing leaves it alone.
    pub stopped_by_user: bool,
    /// Limits that the kernel tells otherwise than right after our own write, which it may have rounded.
    pub drifted: Vec<Change>,
    /// The backoff of an unhealthy container: it is not restarted before.
    pub restart_not_before: Option<SystemTime>,
    /// Missing kernel objects that a re-creation mends (rootfs mount, sandbox).
    pub broken: Option<String>,
    pub networks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    Created,
    Running {
        since: SystemTime,
    },
    Paused,
    /// The engine starts it again at `until`, or at once.
    Restarting {
        until: Option<SystemTime>,
        code: i32,
    },
    Exited {
        code: i32,
        oom: bool,
        at: SystemTime,
    },
    Removing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Starting,
    Healthy,
    Unhealthy,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedNetwork {
    /// As it was asked for when it was made.
    pub network: DesiredNetwork,
    /// Belongs to this stack, so that it may be removed.
    pub ours: bool,
    /// Containers outside this stack that are on it.
    pub foreign_users: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedVolume {
    pub volume: DesiredVolume,
    pub ours: bool,
}
