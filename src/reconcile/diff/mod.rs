//! Compares what is wanted with what is there, and plans what to do: pure and total.
//!
//! First every replica gets its fate (`fate`), then fates become steps (`steps`), then what stands
//! against them is found (`preflight`). Volumes are never removed here.

mod changes;
mod down;
mod fate;
mod objects;
mod preflight;
mod replace;
mod steps;
#[cfg(test)]
mod tests;
mod verb;

use std::collections::BTreeSet;

pub use down::{Down, plan_down};
pub use verb::{Verb, plan_verb, restarted_with};

use super::desired::Desired;
use super::graph::Dependencies;
use super::observed::Observed;
use super::plan::{Draft, Plan, Problem};
use crate::spec::name::ServiceName;

/// What the one who asks for the plan wants beyond the stack itself. The default is what healing uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub resume: Resume,
    pub orphans: Orphans,
    pub recreate: Recreate,
    pub start: Start,
    pub problems: Problems,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            resume: Resume::Nothing,
            orphans: Orphans::Remove,
            recreate: Recreate::Changed,
            start: Start::Yes,
            problems: Problems::HoldBack,
        }
    }
}

/// Which services start again although the user stopped them, or although they failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    Nothing,
    /// These and all that they need.
    Services(BTreeSet<ServiceName>),
    /// These alone.
    Only(BTreeSet<ServiceName>),
    All,
}

impl Resume {
    /// Returns whether `service` itself was asked for, not as somebody's dependency.
    fn names(&self, service: &ServiceName) -> bool {
        match self {
            Self::Nothing => false,
            Self::Services(services) | Self::Only(services) => services.contains(service),
            Self::All => true,
        }
    }
}

/// What becomes of containers whose service is gone from the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    Remove,
    Keep,
}

/// Which containers are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recreate {
    Changed,
    Never,
    /// All of the services that the user named.
    Always,
}

/// Whether containers start, or are only made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Yes,
    No,
}

/// What a problem does to the rest of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problems {
    /// Nothing may run: whoever asked for a change gets all of it or none.
    Refuse,
    /// The services that it concerns wait, the others are healed.
    HoldBack,
}

/// Returns what makes the machine as `desired` says.
pub fn plan(desired: &Desired, observed: &Observed, policy: &Policy) -> Plan {
    let graph = Dependencies::of(desired);
    let order = match graph.start_order() {
        Ok(order) => order,
        Err(cycle) => {
            let problem = Problem::Cycle { services: cycle.services };
            let mut draft = Draft::default();
            draft.problems.push(problem);
            return draft.finish();
        }
    };
    let resumed = match &policy.resume {
        Resume::Nothing => BTreeSet::new(),
        Resume::Services(services) => graph.with_dependencies(services),
        Resume::Only(services) => {
            desired.services.keys().filter(|name| services.contains(*name)).collect()
        }
        Resume::All => desired.services.keys().collect(),
    };
    let mut draft = Draft::default();
    let divergent = objects::divergent_networks(desired, observed, &resumed, &mut draft.warnings);
    let fates =
        fate::decide(&fate::Question { desired, observed, policy, resumed, divergent }, &order);
    let mut planner = steps::Planner::new(desired, observed, draft, &fates);
    planner.remove_containers();
    planner.make_networks();
    planner.make_volumes();
    for service in order {
        planner.bring_up(service);
    }
    planner.make_oneoff();
    planner.remove_networks();
    let mut draft = planner.into_draft();
    draft.again = fates.again;
    preflight::check(desired, observed, &mut draft);
    if policy.problems == Problems::HoldBack {
        draft.leave_out(preflight::concerned(desired, &draft));
        draft.held = std::mem::take(&mut draft.problems);
    }
    if policy.start == Start::No {
        draft.without_starts();
    }
    draft.finish()
}
