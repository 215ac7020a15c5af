//! `up` and `plan`: what is submitted is merged into what is stored, planned, stored, and carried out.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::StackError;
use super::keep::LIMIT;
use super::merge::{Merged, merge};
use super::report::{Detail, Failure, Teller, digest, report};
use super::revision::{Asked, Content, check_owner};
use super::turns::{Claim, Held};
use crate::engine::background;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::host::{RealHost, host_error, seconds};
use crate::engine::state::revisions::Outcome;
use crate::protocol::{
    ApplyOptions, ApplyRequest, PlanReport, Progress, RecreatePolicy, Submission,
};
use crate::reconcile::apply::apply;
use crate::reconcile::controller::{Round, round};
use crate::reconcile::desired::Desired;
use crate::reconcile::diff::{Orphans, Policy, Problems, Recreate, Resume, Start, plan};
use crate::reconcile::plan::Plan;
use crate::reconcile::rollout::{self, Remedy};
use crate::spec::name::{ServiceName, StackName};

/// A plan that failed is made anew so often before the caller is told; the loop goes on after that.
const TRIES: usize = 3;
/// After a success the machine must be as wanted within so many looks.
const LOOKS: usize = 5;

/// What is wanted after a request, with every name settled.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The services that were asked for, in order.
    pub(super) resumed: Vec<ServiceName>,
    pub(super) content: Content,
    pub(super) desired: Desired,
    pub(super) policy: Policy,
}

/// What a request comes to on this machine now.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) wanted: Wanted,
    pub(super) plan: Plan,
}

/// A release that failed, and the revision that it is if it came so far.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) failure: Failure,
    pub(super) revision: Option<(StackName, u32)>,
}

impl From<EngineError> for Refused {
    fn from(error: EngineError) -> Self {
        Self { failure: error.into(), revision: None }
    }
}

impl Engine {
    /// Returns what `apply` would do.
    pub async fn plan_stack(
        self: &Arc<Self>,
        request: ApplyRequest,
    ) -> Result<PlanReport, EngineError> {
        let name = request.submission.stack.name.clone();
        // Without a turn: it changes nothing, and a run may wait for long.
        let ApplyRequest { submission, options } = request;
        let prepared = tokio::task::block_in_place(|| self.prepare(submission, &options))?;
        let mut report = report(name.as_str(), &prepared.plan, Detail::of(&options));
        report.digest = options.with_digest.then(|| digest(&prepared.plan));
        self.give_memory_back_soon();
        // Nobody waits for it, and a large stack has a lot to free.
        if let Err(error) = background::start(move || drop(prepared)) {
            tracing::debug!(error = error.full(), "a plan was freed before its answer");
        }
        Ok(report)
    }

    /// Stores the stack and converges; the stream ends with `Finished`. A reader that goes away stops nothing.
    pub async fn apply_stack(
        self: &Arc<Self>,
        request: ApplyRequest,
    ) -> Result<mpsc::Receiver<Progress>, EngineError> {
        let ApplyRequest { submission, options } = request;
        let name = submission.stack.name.clone();
        let row = self.stack_row(name.as_str())?;
        check_owner(row.as_ref(), name.as_str(), &submission.source, options.take_over)?;
        let (mut teller, lines) = Teller::new(name.as_str(), Detail::of(&options));
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let prepare = || engine.prepare(submission, &options);
            let outcome = engine.converge(&name, prepare, &options, &mut teller).await;
            let outcome = match outcome {
                Ok(scope) if options.wait && !options.no_start => {
                    let timeout = options.wait_timeout;
                    engine.await_stack(name.as_str(), &scope, timeout, &teller).await
                }
                other => other.map(|_| None),
            };
            teller.finish(outcome);
            engine.give_memory_back_soon();
        });
        Ok(lines)
    }

    /// Merges, resolves and plans; nothing is changed.
    fn prepare(
        &self,
        submission: Submission,
        options: &ApplyOptions,
    ) -> Result<Prepared, EngineError> {
        let name = submission.stack.name.as_str();
        let row = self.stack_row(name)?;
        check_owner(row.as_ref(), name, &submission.source, options.take_over)?;
        let wanted = self.want(submission, options)?;
        let observed = self.observe_stack(wanted.desired.name.as_str(), Some(&wanted.desired))?;
        let plan = plan(&wanted.desired, &observed, &wanted.policy);
        Ok(Prepared { wanted, plan })
    }

    /// Merges what is submitted into what is stored.
    pub(super) fn want(
        &self,
        mut submission: Submission,
        options: &ApplyOptions,
    ) -> Result<Wanted, EngineError> {
        let name = submission.stack.name.as_str();
        let stored = self.stored_stack(name)?;
        let present: BTreeSet<ServiceName> = self
            .handles()
            .iter()
            .filter_map(|handle| handle.row().replica.clone())
            .filter(|replica| replica.stack == name && !replica.oneoff)
            .filter_map(|replica| ServiceName::try_from(replica.service).ok())
            .collect();
        let before = stored.as_ref().map(|stored| stored.stack());
        let Merged { stack, resume, resumed } =
            merge(before, Arc::unwrap_or_clone(submission.stack), options, &present)?;
        let mut images = self.current_images(&stack);
        if let Some(stored) = &stored {
            // What was not asked for keeps the image that it has, wherever its tag points by now.
            let services = stack.services.values();
            let asked: BTreeSet<&String> = services
                .filter(|service| resumed.binary_search(&service.name).is_ok())
                .map(|service| &service.container.image)
                .collect();
            for (image, id) in &stored.content.images {
                if !asked.contains(image) && images.contains_key(image) {
                    images.insert(image.clone(), id.clone());
                }
            }
        }
        submission.stack = Arc::new(stack);
        let content = Content { submission, images };
        let desired = Desired::resolve(&content.submission.stack, &content.images);
        let policy = policy(options, resume);
        Ok(Wanted { resumed, content, desired, policy })
    }

    /// Makes the machine what `prepare` decides once it is the stack's turn. Returns the services that were asked for,
    /// once the machine is as wanted.
    pub(super) async fn converge(
        self: &Arc<Self>,
        name: &StackName,
        prepare: impl FnOnce() -> Result<Prepared, EngineError>,
        options: &ApplyOptions,
        teller: &mut Teller,
    ) -> Result<Vec<ServiceName>, Failure> {
        let name = name.as_str();
        let keeper = self.keeper(name);
        let Held { mut turn, way } = keeper.turns.claim(Claim::Begin).await;
        let _at_work = self.at_work(name);
        let prepared = tokio::task::block_in_place(prepare)?;
        teller.plan(&prepared.plan);
        if !prepared.plan.problems.is_empty() {
            return Err(Failure::of_problems(&prepared.plan));
        }
        if options.expected_plan.as_ref().is_some_and(|kept| *kept != digest(&prepared.plan)) {
            let error = StackError::PlanOutdated { name: name.to_owned() };
            return Err(EngineError::from(error).into());
        }
        turn.heals.forget();
        let mut host = RealHost { way, ..RealHost::new(self) };
        host.grace = seconds(options.timeout);
        host.stays_created = options.no_start;
        let released = self.release(&host, prepared, Asked::of(options), teller).await;
        let outcome = match released {
            Ok(resumed) => Ok(resumed),
            Err(Refused { failure, revision }) => {
                Err(self.remedy(&host, revision, failure, teller).await)
            }
        };
        // Whatever is not as wanted yet is the loop's from here on.
        self.start_loop(name, &mut turn);
        outcome
    }

    /// Stores what is wanted, carries the plan out, and records how it went.
    pub(super) async fn release(
        self: &Arc<Self>,
        host: &RealHost,
        prepared: Prepared,
        asked: Asked<'_>,
        teller: &mut Teller,
    ) -> Result<Vec<ServiceName>, Refused> {
        let name = prepared.wanted.desired.name.clone();
        let name = name.as_str();
        let Wanted { content, resumed, .. } = &prepared.wanted;
        let revision = self.store_stack(content, resumed, asked)?;
        let outcome = self.carry_out(host, &prepared, teller).await;
        let word = match &outcome {
            Ok(()) => Outcome::Good,
            // Who was told to let it be has not judged it.
            Err(_) if host.way.is_cancelled() => Outcome::Bad,
            Err(failure) => match rollout::remedy(&failure.rollouts) {
                Remedy::Rollback | Remedy::Pause => Outcome::Paused,
                Remedy::Continue => Outcome::Bad,
            },
        };
        self.set_outcome(name, revision, word).map_err(EngineError::from)?;
        self.pin_missing(revision, prepared.wanted.content)?;
        match outcome {
            Ok(()) => {
                self.tell_stack(name, "converged", &[("revision", &revision.to_string())]);
                Ok(prepared.wanted.resumed)
            }
            Err(failure) => {
                self.tell_stack(name, "failed", &[("error", &failure.message)]);
                Err(Refused { failure, revision: Some((prepared.wanted.desired.name, revision)) })
            }
        }
    }

    /// Applies the plan, and plans anew until nothing is left or trying again can't help.
    async fn carry_out(
        self: &Arc<Self>,
        host: &RealHost,
        prepared: &Prepared,
        teller: &mut Teller,
    ) -> Result<(), Failure> {
        let Prepared { wanted: Wanted { desired, policy, .. }, plan } = prepared;
        if plan.is_empty() {
            return Ok(());
        }
        let name = &desired.name;
        let mut report = apply(host, name, plan, LIMIT, |event| teller.step(event)).await;
        let mut failure =
            (!report.is_success()).then(|| Failure::of_release(desired, plan, &report));
        let mut failures = usize::from(failure.is_some());
        for _ in 0..LOOKS {
            let hopeless = report.failed.iter().any(|(_, error)| error.permanent);
            if let Some(failure) = failure.take_if(|_| hopeless || failures >= TRIES) {
                return Err(failure);
            }
            // What failed is tried as it was asked for; after a success only what still differs counts.
            let again = match failures {
                0 => Policy { resume: Resume::Nothing, ..later(policy) },
                _ => later(policy),
            };
            match round(host, desired, &again, LIMIT, |notice| teller.notice(notice)).await {
                Round::Settled(_) => return failure.map_or(Ok(()), Err),
                Round::Blind(error) => return Err(error.into()),
                Round::Applied { plan, report: next } => {
                    if !plan.problems.is_empty() {
                        return Err(Failure::of_problems(&plan));
                    }
                    failure =
                        (!next.is_success()).then(|| Failure::of_release(desired, &plan, &next));
                    failures += usize::from(failure.is_some());
                    report = next;
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Pins the images that were pulled on the way.
    pub(super) fn pin_missing(&self, number: u32, mut content: Content) -> Result<(), EngineError> {
        let now = self.current_images(&content.submission.stack);
        let before = content.images.len();
        for (reference, id) in now {
            content.images.entry(reference).or_insert(id);
        }
        if content.images.len() > before {
            self.pin_images(number, &content)?;
        }
        Ok(())
    }

    /// Brings services of a stored stack up as `up` does, without a new revision: `start`.
    pub(super) async fn resume_services(
        self: &Arc<Self>,
        name: &str,
        words: &[String],
        no_deps: bool,
        teller: &mut Teller,
    ) -> Result<Option<String>, Failure> {
        let keeper = self.keeper(name);
        let Held { mut turn, way } = keeper.turns.claim(Claim::Begin).await;
        let _at_work = self.at_work(name);
        let stored = self.stored_stack(name)?;
        let stored = stored
            .ok_or_else(|| EngineError::from(StackError::NoStack { name: name.to_owned() }))?;
        let options = ApplyOptions { services: words.to_vec(), no_deps, ..ApplyOptions::default() };
        let stack = stored.stack();
        let merged = merge(Some(stack), stack.clone(), &options, &BTreeSet::new())
            .map_err(EngineError::from)?;
        let host = RealHost { way, ..RealHost::new(self) };
        let desired = stored.desired();
        let policy = policy(&options, merged.resume);
        let observed = tokio::task::block_in_place(|| self.observe_stack(name, Some(&desired)))
            .map_err(host_error)?;
        let plan = plan(&desired, &observed, &policy);
        teller.plan(&plan);
        if !plan.problems.is_empty() {
            return Err(Failure::of_problems(&plan));
        }
        self.store_stack(&stored.content, &merged.resumed, Asked::default())?;
        turn.heals.forget();
        let resumed = merged.resumed;
        let wanted = Wanted { resumed, content: stored.content, desired, policy };
        let prepared = Prepared { wanted, plan };
        let outcome = self.carry_out(&host, &prepared, teller).await;
        self.start_loop(name, &mut turn);
        outcome.map(|()| None)
    }
}

fn policy(options: &ApplyOptions, resume: Resume) -> Policy {
    Policy {
        resume,
        orphans: Orphans::Remove,
        recreate: match options.recreate {
            RecreatePolicy::Changed => Recreate::Changed,
            RecreatePolicy::Never => Recreate::Never,
            RecreatePolicy::Always => Recreate::Always,
        },
        start: if options.no_start { Start::No } else { Start::Yes },
        problems: Problems::Refuse,
    }
}

/// Of the looks after the first one: nothing is replaced twice.
fn later(policy: &Policy) -> Policy {
    let recreate = match policy.recreate {
        Recreate::Always => Recreate::Changed,
        other => other,
    };
    Policy { recreate, ..policy.clone() }
}
