//! Plans and their progress as clients get them.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::protocol::{ApplyOptions, PlanReport, PlanStep, Progress};
use crate::reconcile::apply::{Event, Report};
use crate::reconcile::controller::Notice;
use crate::reconcile::desired::Desired;
use crate::reconcile::plan::{Plan, Planned};
use crate::reconcile::rollout;
use crate::spec::digest::Digest;
use crate::spec::name::ServiceName;
use crate::spec::stack::FailureAction;

/// Lines that may wait for a slow reader; more wait in memory, as their number is the plan's.
const WAITING_LINES: usize = 64;

/// How much of each step a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// What people read.
    Cause,
    /// The step as data too.
    Whole,
}

impl Detail {
    pub(super) fn of(options: &ApplyOptions) -> Self {
        if options.detail { Self::Whole } else { Self::Cause }
    }
}

/// Returns a plan as clients get it.
pub(super) fn report(stack: &str, plan: &Plan, detail: Detail) -> PlanReport {
    let told = |planned: &Planned| match detail {
        Detail::Cause => json!({ "cause": planned.cause }),
        Detail::Whole => json!({ "step": public(planned), "cause": planned.cause }),
    };
    let steps = plan.steps().map(|(number, planned)| PlanStep {
        number,
        after: plan.before(number).into_iter().map(|(before, _)| before).collect(),
        service: planned.service.as_ref().map(|service| service.as_str().to_owned()),
        subject: planned.subject.clone(),
        action: planned.step.to_string(),
        cause: planned.cause.to_string(),
        detail: told(planned),
    });
    PlanReport {
        stack: stack.to_owned(),
        steps: steps.collect(),
        problems: plan.problems.iter().map(ToString::to_string).collect(),
        warnings: plan.warnings.clone(),
        text: match detail {
            Detail::Cause => String::new(),
            Detail::Whole => plan.to_string(),
        },
        digest: None,
    }
}

/// Returns the digest of all that `plan` does, in its order.
pub(super) fn digest(plan: &Plan) -> String {
    let text = serde_json::to_vec(&plan.document()).expect("a plan has only string keys");
    Digest::from_bytes(&Sha256::digest(text).into()).as_str().to_owned()
}

/// Returns a step as JSON, without the contents of files: they may be secrets.
fn public(planned: &Planned) -> serde_json::Value {
    let mut step = serde_json::to_value(&planned.step).unwrap_or_default();
    let files = step.pointer_mut("/replica/spec/files").and_then(|files| files.as_array_mut());
    for file in files.into_iter().flatten().filter_map(|file| file.as_object_mut()) {
        file.remove("content");
    }
    step
}

/// Tells a client what happens; one that went away is told nothing, and nothing waits for it.
#[derive(Debug)]
pub(super) struct Teller {
    stack: String,
    detail: Detail,
    lines: mpsc::UnboundedSender<Progress>,
    started: BTreeMap<usize, Instant>,
}

impl Teller {
    /// Returns the teller and the end that the client reads.
    pub(super) fn new(stack: &str, detail: Detail) -> (Self, mpsc::Receiver<Progress>) {
        let (lines, mut waiting) = mpsc::unbounded_channel();
        let (sender, receiver) = mpsc::channel(WAITING_LINES);
        tokio::spawn(async move {
            while let Some(line) = waiting.recv().await {
                if sender.send(line).await.is_err() {
                    return;
                }
            }
        });
        (Self { stack: stack.to_owned(), detail, lines, started: BTreeMap::new() }, receiver)
    }

    pub(super) fn say(&self, line: Progress) {
        // Nobody may be there any more.
        _ = self.lines.send(line);
    }

    /// Returns whether the client still reads.
    pub(super) fn is_heard(&self) -> bool {
        !self.lines.is_closed()
    }

    pub(super) async fn unheard(&self) {
        self.lines.closed().await;
    }

    pub(super) fn plan(&mut self, plan: &Plan) {
        self.started.clear();
        self.say(Progress::Planned { plan: Box::new(report(&self.stack, plan, self.detail)) });
    }

    pub(super) fn step(&mut self, event: Event) {
        let line = match event {
            Event::Started { number } => {
                self.started.insert(number, Instant::now());
                Progress::Started { number }
            }
            Event::Done { number } => {
                let took = self.started.remove(&number).map(|start| start.elapsed());
                let milliseconds = took.unwrap_or_default().as_millis();
                let milliseconds = u64::try_from(milliseconds).unwrap_or(u64::MAX);
                Progress::Done { number, milliseconds }
            }
            Event::Failed { number, error } => {
                Progress::Failed { number, message: error.message, hint: error.hint }
            }
            Event::Cancelled { number, because } => Progress::Cancelled { number, because },
        };
        self.say(line);
    }

    pub(super) fn notice(&mut self, notice: Notice<'_>) {
        match notice {
            Notice::Planned(plan) => self.plan(plan),
            Notice::Step(event) => self.step(event),
        }
    }

    pub(super) fn finish(&self, outcome: Result<Option<String>, Failure>) {
        let line = match outcome {
            Ok(message) => Progress::Finished { ok: true, message, hint: None },
            Err(Failure { message, hint, .. }) => {
                Progress::Finished { ok: false, message: Some(message), hint }
            }
        };
        self.say(line);
    }
}

/// Why a request did not get what it wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The services whose new containers are not good, and what is wanted then.
    pub(super) rollouts: BTreeMap<ServiceName, FailureAction>,
}

impl Failure {
    /// Names what stands against a plan.
    pub(super) fn of_problems(plan: &Plan) -> Self {
        let problems: Vec<String> = plan.problems.iter().map(ToString::to_string).collect();
        let hint = Some("nothing was changed".to_owned());
        Self::new(problems.join("\n"), hint)
    }

    /// Names the steps that failed.
    pub(super) fn of_report(plan: &Plan, report: &Report) -> Self {
        let failed = report.failed.iter().map(|(number, error)| match plan.step(*number) {
            Some(planned) => format!("{}: {}: {}", planned.subject, planned.step, error.message),
            None => error.message.clone(),
        });
        let message = failed.collect::<Vec<_>>().join("\n");
        let hint = report.failed.iter().find_map(|(_, error)| error.hint.clone());
        Self::new(message, hint)
    }

    pub(super) fn new(message: String, hint: Option<String>) -> Self {
        Self { message, hint, rollouts: BTreeMap::new() }
    }

    /// As [`Failure::of_report`], with its verdict on what `desired` releases.
    pub(super) fn of_release(desired: &Desired, plan: &Plan, report: &Report) -> Self {
        let rollouts = rollout::failed(desired, plan, report);
        Self { rollouts, ..Self::of_report(plan, report) }
    }
}

impl From<crate::engine::error::EngineError> for Failure {
    fn from(error: crate::engine::error::EngineError) -> Self {
        Self::new(error.full(), error.hint())
    }
}

impl From<crate::reconcile::host::HostError> for Failure {
    fn from(error: crate::reconcile::host::HostError) -> Self {
        Self::new(error.message, error.hint)
    }
}
