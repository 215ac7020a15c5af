//! What is known of a change: one row a subject, in the order of the plan.

use std::collections::BTreeMap;
use std::time::Duration;

use super::words;
use crate::protocol::{PlanReport, PlanStep, Progress};

/// Follows the lines of one stream. Times are those since the command began.
#[derive(Debug, Default)]
pub(crate) struct Board {
    pub(super) steps: BTreeMap<usize, PlanStep>,
    pub(super) rows: Vec<Row>,
    /// Services that `--wait` still waits for.
    pub(super) waiting: Vec<String>,
    pub(super) failures: Vec<Failure>,
    pub(super) outcome: Option<Outcome>,
}

/// How the stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) ok: bool,
    pub(crate) message: Option<String>,
    pub(crate) hint: Option<String>,
}

/// A step that could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) service: Option<String>,
    pub(crate) subject: String,
    pub(crate) action: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Everything that is done to one subject.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) subject: String,
    /// Steps of the subject that are neither done nor given up.
    pub(super) left: usize,
    pub(super) state: State,
    pub(super) began: Option<Duration>,
    pub(super) ended: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing of it has begun.
    Pending,
    /// A step runs, or the next one is about to.
    Active(String),
    Done(String),
    Failed(String),
    Cancelled(String),
}

impl Board {
    /// Takes one line in. `now` is when it arrived.
    pub(crate) fn apply(&mut self, line: &Progress, now: Duration) {
        match line {
            Progress::Planned { plan } => self.plan(plan),
            Progress::Started { number } => self.started(*number, now),
            Progress::Done { number, .. } => self.done(*number, now),
            Progress::Failed { number, message, hint } => {
                self.failed(*number, message, hint.as_ref(), now);
            }
            Progress::Cancelled { number, because } => self.cancelled(*number, *because, now),
            Progress::Waiting { services } => self.waiting.clone_from(services),
            Progress::Remark { .. } => {}
            Progress::Finished { ok, message, hint } => {
                self.waiting.clear();
                self.outcome =
                    Some(Outcome { ok: *ok, message: message.clone(), hint: hint.clone() });
            }
        }
    }

    /// Returns how it ended; `None`: the stream was cut off, or runs.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Returns the steps that failed, in the order in which they did.
    pub(crate) fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// A new plan replaces what was not begun; what was done stays to be seen.
    fn plan(&mut self, plan: &PlanReport) {
        self.rows.retain(|row| row.began.is_some());
        for row in &mut self.rows {
            row.left = 0;
        }
        self.steps = plan.steps.iter().map(|step| (step.number, step.clone())).collect();
        for step in &plan.steps {
            let row = self.row_index(&step.subject);
            self.rows[row].left += 1;
        }
    }

    fn started(&mut self, number: usize, now: Duration) {
        let Some((action, row)) = self.step(number) else { return };
        row.began.get_or_insert(now);
        row.ended = None;
        row.state = State::Active(words::doing(&action));
    }

    fn done(&mut self, number: usize, now: Duration) {
        let Some((action, row)) = self.step(number) else { return };
        row.began.get_or_insert(now);
        row.ended = Some(now);
        row.left = row.left.saturating_sub(1);
        row.state = State::Done(words::done(&action));
    }

    fn failed(&mut self, number: usize, message: &str, hint: Option<&String>, now: Duration) {
        let failure = self.steps.get(&number).map_or_else(
            || Failure {
                service: None,
                subject: format!("step {number}"),
                action: String::new(),
                message: message.to_owned(),
                hint: hint.cloned(),
            },
            |step| Failure {
                service: step.service.clone(),
                subject: step.subject.clone(),
                action: step.action.clone(),
                message: message.to_owned(),
                hint: hint.cloned(),
            },
        );
        self.failures.push(failure);
        let Some((action, row)) = self.step(number) else { return };
        row.began.get_or_insert(now);
        row.ended = Some(now);
        row.left = row.left.saturating_sub(1);
        row.state = State::Failed(format!("{action} failed"));
    }

    fn cancelled(&mut self, number: usize, because: usize, now: Duration) {
        let reason = self.reason(because);
        let Some((action, row)) = self.step(number) else { return };
        row.left = row.left.saturating_sub(1);
        if matches!(row.state, State::Failed(_) | State::Cancelled(_)) {
            return;
        }
        row.ended = Some(now);
        row.state = State::Cancelled(format!("{action} not done{reason}"));
    }

    /// `: web.1 create failed`, or nothing for a step that nobody knows.
    pub(super) fn reason(&self, because: usize) -> String {
        self.steps
            .get(&because)
            .map_or_else(String::new, |step| format!(": {} {} failed", step.subject, step.action))
    }

    fn step(&mut self, number: usize) -> Option<(String, &mut Row)> {
        let step = self.steps.get(&number)?;
        let (subject, action) = (step.subject.clone(), step.action.clone());
        let row = self.row_index(&subject);
        Some((action, &mut self.rows[row]))
    }

    fn row_index(&mut self, subject: &str) -> usize {
        if let Some(found) = self.rows.iter().position(|row| row.subject == subject) {
            return found;
        }
        self.rows.push(Row {
            subject: subject.to_owned(),
            left: 0,
            state: State::Pending,
            began: None,
            ended: None,
        });
        self.rows.len() - 1
    }

    /// Subjects that are through, and all.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.rows.iter().filter(|row| row.is_over()).count(), self.rows.len())
    }
}

impl Row {
    /// Whether nothing more will be done to it.
    pub(super) fn is_over(&self) -> bool {
        match self.state {
            State::Failed(_) | State::Cancelled(_) => true,
            State::Done(_) => self.left == 0,
            State::Pending | State::Active(_) => false,
        }
    }
}
