//! The loop of each stack: it looks again when an event touched the stack, when a backoff ends, and rarely
//! without a reason. One run of a stack at a time, whoever asks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};

use super::at_work::{AtWork, Suspects};
use super::heals::{Heals, is_heal};
use super::report::{Detail, Failure, Teller};
use super::revision::Stored;
use super::turns::{Claim, Held, Turns};
use crate::engine::core::{Engine, now};
use crate::engine::error::EngineError;
use crate::engine::events::{Event, Query};
use crate::engine::host::RealHost;
use crate::engine::observe::subject;
use crate::engine::state::revisions::Outcome;
use crate::engine::state::{Durability, StateError, restarts, stacks};
use crate::reconcile::apply::Report;
use crate::reconcile::cause::Cause;
use crate::reconcile::controller::{Round, round};
use crate::reconcile::desired::Desired;
use crate::reconcile::diff::{Policy, Recreate};
use crate::reconcile::host::Step;
use crate::reconcile::plan::Plan;
use crate::reconcile::restart::delay;
use crate::reconcile::rollout::{self, Remedy};

/// Steps of one plan that are carried out at a time.
pub(super) const LIMIT: usize = 16;
/// The pause between two looks that nothing asked for; up to a third is added, so that stacks don't look in step.
const FULL_CHECK: Duration = Duration::from_secs(45);
/// An unhealthy container that was left alone for so long starts its backoff anew.
const FORGIVEN_AFTER: i64 = 600_000_000_000;

/// The loops that run.
#[derive(Debug, Default)]
pub struct Stacks {
    keepers: Mutex<BTreeMap<String, Arc<Keeper>>>,
    /// The engine takes everything down: healing would bring it up again.
    resting: AtomicBool,
    /// What the last engine's crash interrupted.
    suspects: OnceLock<Suspects>,
}

impl Stacks {
    /// Lets no loop act any more, until the next engine.
    pub(crate) fn rest(&self) {
        self.resting.store(true, Ordering::Relaxed);
    }

    /// Returns whether everything is being taken down.
    pub(crate) fn rests(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }
}

/// One stack's loop, and the turn that its runs take.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    pub(super) turns: Turns<Turn>,
    /// Triggers; many before a look are one.
    look: Notify,
}

/// What a run knows of the runs before it.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) heals: Heals,
    looping: bool,
}

/// How a look of the loop ended.
enum Looked {
    /// The stack is gone, and its loop with it.
    Gone,
    /// Nothing to do until something happens, or until then.
    Rest {
        again: Option<SystemTime>,
    },
    Failed,
}

impl Engine {
    pub(super) fn keeper(&self, name: &str) -> Arc<Keeper> {
        let mut keepers = self.stacks.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(keepers.entry(name.to_owned()).or_default())
    }

    fn all_keepers(&self) -> Vec<Arc<Keeper>> {
        let keepers = self.stacks.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        keepers.values().cloned().collect()
    }

    /// Starts the loop of every stack that the database has: after a crash or a boot it is the loop that heals.
    pub(crate) async fn start_stacks(self: &Arc<Self>) -> Result<(), EngineError> {
        let (_, events) = self.bus.subscribe(&Query::default());
        tokio::spawn(watch(Arc::downgrade(self), events));
        let suspects = Suspects::take(&self.paths().at_work())?;
        if self.config.after_crashes {
            self.freeze_after_crashes(&suspects)?;
        }
        self.stacks.suspects.get_or_init(|| suspects);
        for row in self.read(stacks::list)? {
            if row.wanted {
                let keeper = self.keeper(&row.name);
                self.start_loop(&row.name, &mut keeper.turns.claim(Claim::Loop).await.turn);
            } else {
                self.resume_down(&row.name);
            }
        }
        Ok(())
    }

    /// Makes sure that the stack's loop runs, and lets it look soon.
    pub(super) fn start_loop(self: &Arc<Self>, name: &str, turn: &mut Turn) {
        let keeper = self.keeper(name);
        if !turn.looping {
            turn.looping = true;
            tokio::spawn(keep(Arc::downgrade(self), Arc::clone(&keeper), name.to_owned()));
        }
        keeper.look.notify_one();
    }

    /// Returns the stacks that are worked on, by the notes of it.
    pub(crate) fn stacks_at_work(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.paths().at_work()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter(|name| self.read(|db| stacks::get(db, name)).is_ok_and(|row| row.is_some()))
            .collect()
    }

    /// Notes that the stack is worked on, until what this returns is dropped.
    pub(super) fn at_work(&self, name: &str) -> AtWork {
        let crashes = self.stacks.suspects.get().map_or(0, |suspects| suspects.crashes(name));
        AtWork::begin(&self.paths().at_work(), name, crashes)
    }

    /// One look of the loop.
    async fn look(self: &Arc<Self>, name: &str, keeper: &Keeper) -> Looked {
        let Held { mut turn, way } = keeper.turns.claim(Claim::Loop).await;
        let stored = match self.stored_stack(name) {
            Ok(Some(stored)) if stored.row.wanted => stored,
            Ok(_) => {
                turn.looping = false;
                return Looked::Gone;
            }
            Err(error) => {
                tracing::error!(stack = name, error = error.full(), "the stack is not kept");
                return Looked::Failed;
            }
        };
        if stored.row.frozen.is_some() || self.stacks.rests() {
            return Looked::Rest { again: None };
        }
        let _at_work = self.at_work(name);
        let host = RealHost { way, ..RealHost::new(self) };
        let desired = stored.desired();
        let recreate = match stored.outcome {
            Outcome::Paused => Recreate::Never,
            Outcome::Applying | Outcome::Good | Outcome::Bad => Recreate::Changed,
        };
        let policy = Policy { recreate, ..Policy::default() };
        let round = round(&host, &desired, &policy, LIMIT, |_| {}).await;
        if let Err(error) = self.account(&stored, &round, &mut turn) {
            tracing::error!(stack = name, error = error.full(), "a round is not recorded");
        }
        self.judge(&host, &stored, &desired, &round).await;
        match &round {
            _ if round.failed() => {
                self.tell_failure(name, &round);
                Looked::Failed
            }
            Round::Settled(plan) | Round::Applied { plan, .. } => {
                Looked::Rest { again: plan.again }
            }
            Round::Blind(_) => Looked::Failed,
        }
    }

    /// Does for an update that the loop ended, after a crash, what `up` does for its own.
    async fn judge(
        self: &Arc<Self>,
        host: &RealHost,
        stored: &Stored,
        desired: &Desired,
        round: &Round,
    ) {
        let Round::Applied { plan, report } = round else { return };
        let failure = Failure::of_release(desired, plan, report);
        if host.way.is_cancelled() || rollout::remedy(&failure.rollouts) == Remedy::Continue {
            return;
        }
        let name = stored.row.name.as_str();
        if let Err(error) = self.set_outcome(name, stored.number, Outcome::Paused) {
            tracing::error!(stack = name, %error, "a failed update is not recorded");
            return;
        }
        let (mut teller, _) = Teller::new(name, Detail::Cause);
        let revision = Some((desired.name.clone(), stored.number));
        let failure = self.remedy(host, revision, failure, &mut teller).await;
        tracing::warn!(stack = name, "an update failed: {}", failure.message);
    }

    /// Tells what was healed, counts it, and freezes the stack when it was too much.
    fn account(
        self: &Arc<Self>,
        stored: &Stored,
        round: &Round,
        turn: &mut Turn,
    ) -> Result<(), EngineError> {
        let Round::Applied { plan, report } = round else { return Ok(()) };
        let name = stored.row.name.as_str();
        self.note_unhealthy(name, plan, report)?;
        let mut healed: BTreeMap<&str, String> = BTreeMap::new();
        let tried: BTreeSet<usize> = report
            .done
            .iter()
            .chain(report.failed.iter().map(|(number, _)| number))
            .copied()
            .collect();
        for (_, planned) in
            plan.steps().filter(|(n, planned)| tried.contains(n) && is_heal(planned))
        {
            healed.entry(&planned.subject).or_insert_with(|| planned.cause.to_string());
        }
        let mut frozen = None;
        for (subject, cause) in healed {
            self.tell_stack(name, "healed", &[("subject", subject), ("cause", &cause)]);
            let reason = turn.heals.count(subject, &cause, SystemTime::now());
            frozen = frozen.or(reason);
        }
        if let Some(reason) = frozen {
            let row = stacks::Stack { frozen: Some(reason.clone()), ..stored.row.clone() };
            self.write(Durability::Power, |tx| stacks::put(tx, &row))?;
            self.tell_stack(name, "frozen", &[("reason", &reason)]);
        }
        Ok(())
    }

    /// Lets the loop of the stack look that the container `id` belongs to.
    pub(crate) fn look_at_stack_of(&self, id: &str) {
        let Some(row) = self.handle(id).map(|handle| handle.row()) else { return };
        let Some(replica) = &row.replica else { return };
        let keepers = self.stacks.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keepers.get(&replica.stack) {
            keeper.look.notify_one();
        }
    }

    /// Gives each unhealthy container that was stopped for a restart its backoff.
    fn note_unhealthy(&self, name: &str, plan: &Plan, report: &Report) -> Result<(), StateError> {
        for (number, planned) in plan.steps() {
            let stopped = matches!(planned.step, Step::StopContainer { .. })
                && planned.cause == Cause::Unhealthy
                && report.done.contains(&number);
            let Some((service, replica)) = planned.subject.rsplit_once('.').filter(|_| stopped)
            else {
                continue;
            };
            let subject = subject(name, service, replica.parse().unwrap_or_default());
            self.write(Durability::Process, |tx| {
                let before = restarts::get(tx, &subject)?;
                let at = now();
                let recent = before
                    .as_ref()
                    .and_then(|b| b.next_at)
                    .is_some_and(|due| at - due < FORGIVEN_AFTER);
                let failures = before.as_ref().filter(|_| recent).map_or(0, |b| b.failures);
                let pause = delay(failures.saturating_add(1), jitter());
                let pause = i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX);
                let backoff = restarts::Backoff {
                    subject: subject.clone(),
                    failures: failures.saturating_add(1),
                    incarnation: before.map_or(0, |before| before.incarnation),
                    next_at: Some(at.saturating_add(pause)),
                };
                restarts::put(tx, &backoff)
            })?;
        }
        Ok(())
    }

    fn tell_failure(&self, name: &str, round: &Round) {
        let why = match round {
            Round::Blind(error) => error.message.clone(),
            Round::Settled(plan) => problems(plan),
            Round::Applied { plan, report } => {
                let failed = report.failed.iter().map(|(number, error)| match plan.step(*number) {
                    Some(planned) => format!("{planned}: {error}"),
                    None => error.to_string(),
                });
                let failed: Vec<String> = failed.collect();
                [failed.join("; "), problems(plan)].concat()
            }
        };
        tracing::warn!(stack = name, "not as it should be: {why}");
        self.tell_stack(name, "failed", &[("error", &why)]);
    }

    /// Emits an event of kind `stack`.
    pub(super) fn tell_stack(&self, name: &str, action: &str, attributes: &[(&str, &str)]) {
        let mut all: BTreeMap<String, String> = attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        all.insert("name".to_owned(), name.to_owned());
        self.emit("stack", action, name, all);
    }
}

fn problems(plan: &Plan) -> String {
    plan.held.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The loop. It holds no engine while it waits, so that a dropped engine ends it.
async fn keep(engine: Weak<Engine>, keeper: Arc<Keeper>, name: String) {
    let mut failures = 0_u32;
    loop {
        let pause = {
            let Some(engine) = engine.upgrade() else { return };
            match engine.look(&name, &keeper).await {
                Looked::Gone => return,
                Looked::Rest { again } => {
                    failures = 0;
                    let rest = FULL_CHECK.mul_f64(1.0 + jitter() / 3.0);
                    let due =
                        again.map(|due| due.duration_since(SystemTime::now()).unwrap_or_default());
                    due.map_or(rest, |due| due.min(rest))
                }
                Looked::Failed => {
                    failures = failures.saturating_add(1);
                    delay(failures.saturating_add(1), jitter())
                }
            }
        };
        // Our own failing steps make events too: after a second failure only time helps.
        if failures < 2 {
            tokio::select! {
                // Cancel-safe: a permit that comes too late waits for the next look.
                () = keeper.look.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        } else {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Wakes the loops of the stacks that events touch. An event's labels may be forged: it only means "look again".
async fn watch(engine: Weak<Engine>, mut events: broadcast::Receiver<Event>) {
    loop {
        let event = match events.recv().await {
            Ok(event) => Some(event),
            // Some were missed: everybody looks.
            Err(RecvError::Lagged(_)) => None,
            Err(RecvError::Closed) => return,
        };
        let Some(engine) = engine.upgrade() else { return };
        match event.as_ref().map_or(Touched::All, touched) {
            Touched::Nobody => {}
            Touched::All => engine.all_keepers().iter().for_each(|keeper| keeper.look.notify_one()),
            Touched::Stack(name) => {
                let keepers = engine.stacks.keepers.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(keeper) = keepers.get(&name) {
                    keeper.look.notify_one();
                }
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Touched {
    Nobody,
    Stack(String),
    All,
}

fn touched(event: &Event) -> Touched {
    let word = event.action.split(':').next().unwrap_or_default();
    match (event.kind.as_str(), word) {
        (
            "container",
            "start" | "die" | "stop" | "destroy" | "rename" | "update" | "health_status" | "oom"
            | "unpause",
        ) => match event.actor.attributes.get("com.docker.compose.project") {
            Some(project) => Touched::Stack(project.clone()),
            None => Touched::Nobody,
        },
        ("network", "destroy" | "disconnect") | ("volume", "destroy") => Touched::All,
        _ => Touched::Nobody,
    }
}

/// Returns a random number in 0..1.
pub(super) fn jitter() -> f64 {
    f64::from(getrandom::u32().unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::events::Actor;

    fn event(kind: &str, action: &str, project: Option<&str>) -> Event {
        let labels = project.map(|p| ("com.docker.compose.project".to_owned(), p.to_owned()));
        let actor = Actor { id: "x".to_owned(), attributes: labels.into_iter().collect() };
        Event::new(kind, action, actor, 0)
    }

    #[test]
    fn an_event_wakes_the_stack_that_it_touches() {
        let shop = || Touched::Stack("shop".to_owned());
        assert_eq!(touched(&event("container", "die", Some("shop"))), shop());
        assert_eq!(touched(&event("container", "health_status: unhealthy", Some("shop"))), shop());
        assert_eq!(touched(&event("container", "die", None)), Touched::Nobody);
        assert_eq!(touched(&event("container", "exec_start: sh", Some("shop"))), Touched::Nobody);
        assert_eq!(touched(&event("network", "destroy", None)), Touched::All);
        assert_eq!(touched(&event("image", "tag", None)), Touched::Nobody);
    }
}
