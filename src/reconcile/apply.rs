//! Walks a plan over a host. It makes no choice: a step runs when all before it are over, a failed step
//! cancels those that need it, and everything else goes on.

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::{Deserialize, Serialize};

use super::host::{Host, HostError};
use super::plan::{Order, Plan, Problem};
use crate::spec::name::StackName;

/// What happens to a step, told while it happens. Numbers are the plan's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    Started {
        number: usize,
    },
    Done {
        number: usize,
    },
    Failed {
        number: usize,
        error: HostError,
    },
    /// `because` failed or was cancelled itself.
    Cancelled {
        number: usize,
        because: usize,
    },
}

/// How it went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub done: Vec<usize>,
    pub failed: Vec<(usize, HostError)>,
    pub cancelled: Vec<usize>,
    /// Nothing ran, because of these.
    pub refused: Vec<Problem>,
}

impl Report {
    pub fn is_success(&self) -> bool {
        self.failed.is_empty() && self.cancelled.is_empty() && self.refused.is_empty()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting { before: usize, lost: Option<usize> },
    Running,
    Over,
}

/// Carries `plan` out with at most `limit` steps at a time. A plan with problems is refused whole.
pub async fn apply<H: Host>(
    host: &H,
    stack: &StackName,
    plan: &Plan,
    limit: usize,
    mut on_event: impl FnMut(Event),
) -> Report {
    if !plan.problems.is_empty() {
        return Report { refused: plan.problems.clone(), ..Report::default() };
    }
    let mut walk = Walk::new(plan);
    let mut running = FuturesUnordered::new();
    loop {
        walk.cancel(&mut on_event);
        while running.len() < limit.max(1) {
            let Some(number) = walk.next() else { break };
            let planned = plan.step(number).expect("the walk has the plan's numbers");
            on_event(Event::Started { number });
            running.push(async move { (number, host.execute(stack, &planned.step).await) });
        }
        let Some((number, result)) = running.next().await else { break };
        match result {
            Ok(()) => {
                walk.finish(number, true);
                walk.report.done.push(number);
                on_event(Event::Done { number });
            }
            Err(error) => {
                walk.finish(number, false);
                walk.report.failed.push((number, error.clone()));
                on_event(Event::Failed { number, error });
            }
        }
    }
    walk.report
}

struct Walk<'a> {
    plan: &'a Plan,
    progress: Vec<Progress>,
    free: std::collections::BTreeSet<usize>,
    report: Report,
}

impl<'a> Walk<'a> {
    fn new(plan: &'a Plan) -> Self {
        let progress: Vec<Progress> = plan
            .steps()
            .map(|(number, _)| Progress::Waiting { before: plan.before(number).len(), lost: None })
            .collect();
        let free = progress.iter().enumerate();
        let free = free
            .filter(|(_, p)| matches!(p, Progress::Waiting { before: 0, .. }))
            .map(|(i, _)| i + 1);
        Self { plan, free: free.collect(), progress, report: Report::default() }
    }

    fn next(&mut self) -> Option<usize> {
        let number = self.free.pop_first()?;
        self.progress[number - 1] = Progress::Running;
        Some(number)
    }

    /// Ends the free steps that lost what they need, and so on down the graph.
    fn cancel(&mut self, on_event: &mut impl FnMut(Event)) {
        let lost = |walk: &Self| {
            walk.free.iter().find_map(|number| match walk.progress[number - 1] {
                Progress::Waiting { lost: Some(because), .. } => Some((*number, because)),
                _ => None,
            })
        };
        while let Some((number, because)) = lost(self) {
            self.free.remove(&number);
            self.finish(number, false);
            self.report.cancelled.push(number);
            on_event(Event::Cancelled { number, because });
        }
    }

    fn finish(&mut self, number: usize, success: bool) {
        self.progress[number - 1] = Progress::Over;
        for (later, order) in self.plan.following(number) {
            let Progress::Waiting { before, lost } = &mut self.progress[later - 1] else {
                continue;
            };
            *before -= 1;
            if !success && order == Order::Needs {
                lost.get_or_insert(number);
            }
            if *before == 0 {
                self.free.insert(later);
            }
        }
    }
}
