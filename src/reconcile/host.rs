//! The one door to effects, and the steps that go through it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::desired::{Desired, DesiredNetwork, DesiredReplica, DesiredVolume};
use super::observed::Observed;
use crate::spec::container::{Endpoint, PortSpec, Resources, RestartPolicy};
use crate::spec::name::{ServiceName, StackName};
use crate::spec::stack::Condition;

/// The machine as the reconciler sees it: the real engine, or a simulated one.
pub trait Host: Send + Sync {
    /// One snapshot of all that belongs to `stack` or that `desired` names (external objects, host ports).
    fn observe(
        &self,
        stack: &StackName,
        desired: Option<&Desired>,
    ) -> impl Future<Output = Result<Observed, HostError>> + Send;

    /// Carries one step out. Doing a step that is done already does no harm.
    fn execute(
        &self,
        stack: &StackName,
        step: &Step,
    ) -> impl Future<Output = Result<(), HostError>> + Send;
}

/// One call to the host. Everything it needs was decided when the plan was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    CreateNetwork {
        network: DesiredNetwork,
    },
    RemoveNetwork {
        name: String,
    },
    CreateVolume {
        volume: DesiredVolume,
    },
    /// Only `down -v` plans this one.
    RemoveVolume {
        name: String,
    },
    PullImage {
        reference: String,
    },
    /// Creates under `name`, which is a temporary one while the old container still has the real one.
    CreateContainer {
        name: String,
        replica: Arc<DesiredReplica>,
    },
    StartContainer {
        id: String,
    },
    /// Starts the container that the plan itself made under `name`.
    StartNew {
        name: String,
    },
    StopContainer {
        id: String,
        grace: Option<Duration>,
        /// While others of its service serve: it gets no new connections, and those that it has may end for so long
        /// before the stop signal.
        #[serde(default)]
        drain: Option<Duration>,
    },
    RemoveContainer {
        id: String,
    },
    RenameContainer {
        from: String,
        to: String,
    },
    UpdateContainer {
        id: String,
        change: LiveChange,
    },
    ConnectNetwork {
        id: String,
        network: String,
        endpoint: Endpoint,
    },
    DisconnectNetwork {
        id: String,
        network: String,
    },
    /// Waits until every replica of `service` meets `condition`; fails at once when it can no longer.
    WaitFor {
        service: ServiceName,
        condition: Condition,
        containers: Vec<String>,
    },
    /// Watches a new container that is up; fails when it ends, restarts or turns unhealthy within `duration`.
    Monitor {
        container: String,
        duration: Duration,
    },
    /// Fails when more than `tolerated` of the containers are not there as new ones, up and not unhealthy.
    CheckFailures {
        containers: Vec<NewContainer>,
        tolerated: usize,
    },
    /// Lets time pass between two batches of an update.
    Pause {
        duration: Duration,
    },
}

/// A container that an update was to make, by the name that it has in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewContainer {
    pub name: String,
    /// Of the specification: the one of before has another.
    pub hash: String,
    /// `None`: whatever the reference means.
    pub image_id: Option<String>,
}

/// What changes without a re-creation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LiveChange {
    pub resources: Option<Resources>,
    pub restart: Option<RestartPolicy>,
    pub ports: Option<Vec<PortSpec>>,
}

/// A failed call to the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct HostError {
    pub message: String,
    /// Trying again without a change cannot help.
    pub permanent: bool,
    pub hint: Option<String>,
}
