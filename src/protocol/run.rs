//! A one-off container of a service.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::stacks::Submission;
use crate::spec::container::{Mount, PortSpec};

/// `POST /bargee/v1/stacks/{name}/run`; answers progress lines. What the service depends on is brought up, the container
/// is made and not started: its asker attaches first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRequest {
    /// `None`: the stack as it is kept.
    pub submission: Option<Submission>,
    pub service: String,
    /// Name of the container.
    pub container: String,
    /// Leave alone what the service depends on.
    pub no_deps: bool,
    pub change: OneoffChange,
}

/// What the container has otherwise than its service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OneoffChange {
    pub entrypoint: Option<Vec<String>>,
    /// Empty: the service's own.
    pub command: Vec<String>,
    /// `KEY=value`; a bare `KEY` removes the variable.
    pub env: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    /// Each replaces the one of its target.
    pub mounts: Vec<Mount>,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub ports: Vec<PortSpec>,
    /// Publish the service's ports too.
    pub service_ports: bool,
    /// Other containers reach it by the names of its service.
    pub use_aliases: bool,
    pub tty: bool,
    pub console_size: Option<(u16, u16)>,
    pub stdin: bool,
    pub auto_remove: bool,
}
