//! Starting, stopping, waiting, and what happens when a container exits.
//!
//! Verbs hold the handle's `verb` lock for their whole time. An exit is handled by the shim's follower without
//! it: it takes only `turn`, which a start holds from the clone of init to its event.

mod control;
mod drain;
mod exit;
mod policy;
mod shims;
mod start;
mod stop;
mod wait;

pub(super) use start::Running;

use std::time::Duration;

use crate::engine::state::containers::Phase;

/// On whose behalf: a user's stop is remembered, so that healing leaves the container alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    User,
    /// A plan of the reconciler, or the engine itself.
    Plan,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// Seconds before SIGKILL; `None`: the container's own; -1 waits for ever.
    pub grace: Option<i64>,
    /// `None`: the container's own.
    pub signal: Option<String>,
    /// While others of its service serve: how long its connections may take to end before the signal.
    pub drain: Option<Duration>,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitFor {
    #[default]
    NotRunning,
    NextExit,
    Removed,
}

/// Tells whether init lives, as far as we know.
pub(super) fn is_up(phase: Phase) -> bool {
    matches!(phase, Phase::Running | Phase::Paused | Phase::Stopping)
}
