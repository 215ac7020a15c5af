//! `down`: everything of a stack goes, dependents first, and its row at the end. It needs no file.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::StackError;
use super::keep::LIMIT;
use super::report::{Detail, Failure, Teller};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::host::{RealHost, seconds};
use crate::engine::state::stacks::{self, Stack as StackRow};
use crate::engine::state::{Durability, StateError};
use crate::protocol::{DownRequest, Progress};
use crate::reconcile::apply::apply;
use crate::reconcile::diff::{Down, plan_down};
use crate::reconcile::host::Host as _;
use crate::spec::name::StackName;

/// A plan that failed or met something new is made anew so often.
const TRIES: usize = 3;

impl Engine {
    pub async fn down_stack(
        self: &Arc<Self>,
        name: &str,
        request: DownRequest,
    ) -> Result<mpsc::Receiver<Progress>, EngineError> {
        let name = self.known_stack(name)?;
        let (mut teller, lines) = Teller::new(name.as_str(), Detail::Cause);
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = engine.take_down(&name, &request, &mut teller).await;
            teller.finish(outcome);
            engine.give_memory_back_soon();
        });
        Ok(lines)
    }

    /// Ends a `down` that a crash of the engine interrupted. Whether volumes were to go is forgotten: they stay.
    pub(super) fn resume_down(self: &Arc<Self>, name: &str) {
        let Ok(name) = StackName::try_from(name) else { return };
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let (mut teller, _) = Teller::new(name.as_str(), Detail::Cause);
            let outcome = engine.take_down(&name, &DownRequest::default(), &mut teller).await;
            if let Err(failure) = outcome {
                tracing::error!(stack = name.as_str(), "down did not end: {}", failure.message);
            }
        });
    }

    async fn take_down(
        self: &Arc<Self>,
        name: &StackName,
        request: &DownRequest,
        teller: &mut Teller,
    ) -> Result<Option<String>, Failure> {
        let keeper = self.keeper(name.as_str());
        let _turn = keeper.turn.lock().await;
        let _at_work = self.at_work(name.as_str());
        if let Some(row) = self.stack_row(name.as_str()).map_err(EngineError::from)? {
            // From here on the loop leaves it alone, also after a crash.
            let row = StackRow { wanted: false, ..row };
            self.write(Durability::Power, |tx| stacks::put(tx, &row)).map_err(EngineError::from)?;
        }
        let mut host = RealHost::new(self);
        host.grace = seconds(request.timeout);
        host.anonymous_volumes = request.volumes;
        let down = if request.volumes { Down::RemoveVolumes } else { Down::KeepVolumes };
        let mut failure = None;
        let mut warnings = Vec::new();
        for round in 0..TRIES {
            let observed = host.observe(name, None).await?;
            let plan = plan_down(&observed, down);
            warnings.clone_from(&plan.warnings);
            if plan.is_empty() && round > 0 {
                failure = None;
                break;
            }
            teller.plan(&plan);
            let report = apply(&host, name, &plan, LIMIT, |event| teller.step(event)).await;
            failure = (!report.is_success()).then(|| Failure::of_report(&plan, &report));
            if failure.is_none() {
                break;
            }
        }
        if let Some(failure) = failure {
            self.tell_stack(name.as_str(), "failed", &[("error", &failure.message)]);
            return Err(failure);
        }
        self.write(Durability::Power, |tx| {
            stacks::recall(tx, name.as_str(), None)?;
            stacks::forget_jobs(tx, name.as_str())?;
            stacks::delete(tx, name.as_str())
        })
        .map_err(EngineError::from)?;
        self.tell_stack(name.as_str(), "removed", &[]);
        Ok((!warnings.is_empty()).then(|| warnings.join("\n")))
    }

    /// Returns the name of a stack that is stored, or that containers, networks or volumes of this machine belong to.
    pub(super) fn known_stack(&self, name: &str) -> Result<StackName, EngineError> {
        let parsed = StackName::try_from(name)
            .map_err(|error| StackError::BadName { name: name.to_owned(), rule: error.rule })?;
        let owned = |stack: &Option<String>| stack.as_deref() == Some(name);
        let known = self.stack_row(name)?.is_some()
            || self.handles().iter().any(|handle| {
                handle.row().replica.as_ref().is_some_and(|replica| replica.stack == name)
            })
            || self.networks()?.iter().any(|network| owned(&network.stack));
        match known || self.volumes()?.iter().any(|volume| owned(&volume.stack)) {
            true => Ok(parsed),
            false => Err(StackError::NoStack { name: name.to_owned() }.into()),
        }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        EngineError::from(error).into()
    }
}
