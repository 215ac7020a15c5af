//! One look of a stack's loop at the machine: observe → plan → apply. Whoever keeps the loop decides when.

use super::apply::{Event, Report, apply};
use super::desired::Desired;
use super::diff::{Policy, plan};
use super::host::{Host, HostError};
use super::plan::Plan;

/// How one look at the machine ended.
#[derive(Debug)]
pub enum Round {
    /// The machine could not be looked at.
    Blind(HostError),
    /// Nothing is to be done.
    Settled(Plan),
    Applied {
        plan: Plan,
        report: Report,
    },
}

impl Round {
    /// Returns whether something did not go as planned, so that another look may help.
    pub fn failed(&self) -> bool {
        match self {
            Self::Blind(_) => true,
            Self::Settled(plan) => !plan.held.is_empty(),
            Self::Applied { plan, report } => !report.is_success() || !plan.held.is_empty(),
        }
    }
}

/// Told while a round goes on.
#[derive(Debug)]
pub enum Notice<'a> {
    /// What is going to be done.
    Planned(&'a Plan),
    Step(Event),
}

/// Looks once, plans, and obeys; `limit` steps run at a time.
pub async fn round<H: Host>(
    host: &H,
    desired: &Desired,
    policy: &Policy,
    limit: usize,
    mut notify: impl FnMut(Notice<'_>),
) -> Round {
    let observed = match host.observe(&desired.name, Some(desired)).await {
        Ok(observed) => observed,
        Err(error) => return Round::Blind(error),
    };
    let plan = plan(desired, &observed, policy);
    if plan.is_empty() && plan.problems.is_empty() {
        return Round::Settled(plan);
    }
    notify(Notice::Planned(&plan));
    let report =
        apply(host, &desired.name, &plan, limit, |event| notify(Notice::Step(event))).await;
    Round::Applied { plan, report }
}
