//! The loop of one stack: something happened → observe → plan → apply → look again when it failed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::apply::{Event, Report, apply};
use super::desired::Desired;
use super::diff::{Policy, plan};
use super::host::{Host, HostError};
use super::plan::Plan;
use super::restart::delay;

/// Why the loop looks at the machine again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// An event touched the stack.
    Changed,
    /// The rare full check.
    Timer,
}

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
    /// Returns whether looking again without a new event could help or is needed to be sure.
    pub fn wants_another(&self) -> bool {
        match self {
            Self::Blind(error) => !error.permanent,
            Self::Settled(_) => false,
            Self::Applied { .. } => true,
        }
    }

    fn failed(&self) -> bool {
        match self {
            Self::Blind(_) => true,
            Self::Settled(_) => false,
            Self::Applied { report, .. } => !report.is_success(),
        }
    }
}

/// Told to whoever watches the loop.
#[derive(Debug)]
pub enum Notice<'a> {
    Step(Event),
    Round(&'a Round),
}

/// Looks once, plans, and obeys.
pub async fn round<H: Host>(
    host: &H,
    desired: &Desired,
    policy: &Policy,
    limit: usize,
    on_event: impl FnMut(Event),
) -> Round {
    let observed = match host.observe(&desired.name, Some(desired)).await {
        Ok(observed) => observed,
        Err(error) => return Round::Blind(error),
    };
    let plan = plan(desired, &observed, policy);
    if plan.is_empty() && plan.problems.is_empty() {
        return Round::Settled(plan);
    }
    let report = apply(host, &desired.name, &plan, limit, on_event).await;
    Round::Applied { plan, report }
}

/// Keeps the machine as `desired` says until both channels are closed by their owner. After a failure it
/// looks again after a pause that doubles up to a minute; an event or a new wish ends the pause.
pub async fn run<H: Host>(
    host: &H,
    mut desired: watch::Receiver<Arc<Desired>>,
    mut triggers: mpsc::Receiver<Trigger>,
    limit: usize,
    mut jitter: impl FnMut() -> f64,
    mut notify: impl FnMut(Notice<'_>),
) {
    let mut failures = 0_u32;
    loop {
        let wanted = Arc::clone(&desired.borrow_and_update());
        let outcome =
            round(host, &wanted, &Policy::default(), limit, |event| notify(Notice::Step(event)))
                .await;
        notify(Notice::Round(&outcome));
        failures = if outcome.failed() { failures.saturating_add(1) } else { 0 };
        let pause = outcome.wants_another().then(|| delay(failures, jitter()));
        // Our own failing steps make events too: after a second failure only time or a new wish helps.
        match wait(host, pause, failures < 2, &mut desired, &mut triggers).await {
            Wake::Look => {}
            Wake::Renewed => failures = 0,
            Wake::End => return,
        }
    }
}

enum Wake {
    Look,
    Renewed,
    End,
}

async fn wait<H: Host>(
    host: &H,
    pause: Option<Duration>,
    events_wake: bool,
    desired: &mut watch::Receiver<Arc<Desired>>,
    triggers: &mut mpsc::Receiver<Trigger>,
) -> Wake {
    let pause = async {
        match pause {
            Some(time) => host.sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        // Cancel-safe: `changed` marks the value as seen only when it returns.
        changed = desired.changed() => match changed {
            Ok(()) => Wake::Renewed,
            Err(_) => Wake::End,
        },
        // Cancel-safe: `recv` takes no message unless it returns it.
        trigger = triggers.recv(), if events_wake => match trigger {
            Some(_) => Wake::Look,
            None => Wake::End,
        },
        // Cancel-safe: a sleep that is dropped has no effect.
        () = pause => Wake::Look,
    }
}
