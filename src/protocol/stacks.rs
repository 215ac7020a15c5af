//! Requests about stacks and what is told of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::spec::stack::Stack;

/// `GET /bargee/v1/version`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub version: String,
    pub pid: u32,
    pub root: String,
    pub run: String,
}

/// A stack as the command line read it: everything that a boot without this user needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// Shared with whoever submits it: it is large.
    pub stack: Arc<Stack>,
    /// The files, as they were.
    pub sources: Vec<SourceText>,
    /// Values of the variables that the files used.
    pub variables: BTreeMap<String, Option<String>>,
    /// Who owns the stack: the absolute path of its first file.
    pub source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceText {
    pub path: String,
    pub text: String,
}

/// `POST /bargee/v1/stacks/{name}/apply` and `…/plan`. The first answers [`super::Progress`] lines, the
/// second a [`super::PlanReport`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplyRequest {
    pub submission: Submission,
    #[serde(default)]
    pub options: ApplyOptions,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApplyOptions {
    /// Empty: all. Else these and, unless `no_deps`, what they need.
    pub services: Vec<String>,
    pub no_deps: bool,
    pub recreate: RecreatePolicy,
    /// Orphans stay.
    pub keep_orphans: bool,
    /// Create without starting.
    pub no_start: bool,
    /// Answer only when every service runs and is healthy, or can't become so.
    pub wait: bool,
    /// Seconds; `None` waits for as long as it takes.
    pub wait_timeout: Option<u64>,
    /// Tell every step whole, with the container that it makes: ten times the text.
    pub detail: bool,
    /// Take a stack of this name over from another source.
    pub take_over: bool,
    /// Seconds of grace for containers that are replaced, over their own.
    pub timeout: Option<u64>,
    /// Tell the plan's digest.
    pub with_digest: bool,
    /// Carry out the plan of this digest and no other.
    pub expected_plan: Option<String>,
    /// Who asks, for the stack's history.
    pub author: Option<String>,
    /// Why, for the stack's history.
    pub message: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecreatePolicy {
    #[default]
    Changed,
    Never,
    Always,
}

/// `POST /bargee/v1/stacks/{name}/down`; answers progress lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DownRequest {
    pub volumes: bool,
    /// Seconds of grace, over the containers' own.
    pub timeout: Option<u64>,
}

/// `POST /bargee/v1/stacks/{name}/{start,stop,restart,kill,rm}`; answers progress lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSelection {
    /// `web` or `web.2`; empty: all.
    pub services: Vec<String>,
    pub timeout: Option<u64>,
    /// `kill` only.
    pub signal: Option<String>,
    /// `rm` only: stop running ones first; remove anonymous volumes.
    pub stop: bool,
    pub volumes: bool,
    /// `restart` and `start`: leave what they need alone.
    pub no_deps: bool,
}

/// `GET /bargee/v1/stacks/{name}`, and one of the list `GET /bargee/v1/stacks`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StackView {
    pub name: String,
    pub source: String,
    pub config_files: Vec<String>,
    /// `running(3)`, `degraded`, `stopped`, … as `bargee stack ls` prints it.
    pub status: String,
    /// Why the loop stands still, if it does.
    pub frozen: Option<String>,
    pub revision: u32,
    pub services: Vec<ServiceView>,
    pub networks: Vec<String>,
    pub volumes: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceView {
    pub name: String,
    pub image: String,
    /// Replicas wanted.
    pub wanted: u32,
    pub replicas: Vec<ReplicaView>,
    /// `attach: false` keeps its logs out of a foreground `up`.
    pub attach: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaView {
    pub number: u32,
    pub oneoff: bool,
    pub id: String,
    pub container: String,
    pub command: String,
    /// `created`, `running`, `paused`, `restarting`, `exited`, `removing`.
    pub state: String,
    /// As `ps` prints it: `Up 3 minutes (healthy)`, `Restarting in 4s (exit 1, 3 failures)`, `Exited (137) … OOM`.
    pub status: String,
    /// `starting`, `healthy`, `unhealthy`, or none.
    pub health: Option<String>,
    pub exit_code: Option<i32>,
    pub oom: bool,
    pub restarts: u32,
    /// As docker prints them: `0.0.0.0:8080->80/tcp`.
    pub ports: Vec<String>,
    /// Unix nanoseconds.
    pub created_at: i64,
    pub started_at: Option<i64>,
}
