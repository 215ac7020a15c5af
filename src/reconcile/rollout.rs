//! What follows when an update of a service fails: pure.

use std::collections::BTreeMap;

use super::apply::Report;
use super::cause::Cause;
use super::desired::Desired;
use super::host::Step;
use super::plan::{Plan, Planned};
use crate::spec::name::ServiceName;
use crate::spec::stack::{Condition, FailureAction};

/// Returns the services whose new containers were found not to be good, and what the file wants then. What fails for
/// other reasons (a full disk, a lost race) is no verdict on the release.
pub fn failed(
    desired: &Desired,
    plan: &Plan,
    report: &Report,
) -> BTreeMap<ServiceName, FailureAction> {
    let failed = report.failed.iter().filter_map(|(number, _)| plan.step(*number));
    failed
        .filter_map(|planned| {
            let service = desired.services.get(planned.service.as_ref()?)?;
            let tolerant = plan.steps().any(|(_, other)| {
                matches!(other.step, Step::CheckFailures { .. }) && other.service == planned.service
            });
            let verdict = match &planned.step {
                Step::CheckFailures { .. } => true,
                // With a tolerance only the sum counts.
                Step::Monitor { .. } | Step::StartNew { .. } => !tolerant && replaces(planned),
                Step::WaitFor { condition: Condition::ServiceHealthy, .. } => {
                    !tolerant && replaces(planned)
                }
                _ => false,
            };
            verdict.then(|| (service.name.clone(), service.update.failure_action))
        })
        .collect()
}

fn replaces(planned: &Planned) -> bool {
    matches!(
        planned.cause,
        Cause::SpecChanged { .. }
            | Cause::ImageChanged { .. }
            | Cause::NetworkChanged { .. }
            | Cause::Requested
    )
}

/// What is done about a release that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    Rollback,
    Pause,
    Continue,
}

/// Returns what is done when these services failed: one that wants the way back leads all the way.
pub fn remedy(failed: &BTreeMap<ServiceName, FailureAction>) -> Remedy {
    let wants = |action| failed.values().any(|wanted| *wanted == action);
    if wants(FailureAction::Rollback) {
        Remedy::Rollback
    } else if wants(FailureAction::Pause) {
        Remedy::Pause
    } else {
        Remedy::Continue
    }
}
