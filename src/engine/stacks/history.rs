//! The revisions of a stack: what was wanted when, how two differ, and the way back to one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::StackError;
use super::apply::{Prepared, Wanted};
use super::report::{Detail, Teller, report};
use super::revision::{Content, decode};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::StateError;
use crate::engine::state::revisions::{self, Entry, Outcome};
use crate::protocol::{
    ApplyOptions, PlanReport, Progress, RevisionContent, RevisionView, RollbackRequest,
};
use crate::reconcile::desired::Desired;
use crate::reconcile::diff::{Policy, Problems, plan};
use crate::reconcile::observed::Observed;
use crate::spec::name::{ServiceName, StackName};

impl Engine {
    /// Returns the revisions of a stack, newest first.
    pub fn stack_history(&self, name: &str) -> Result<Vec<RevisionView>, EngineError> {
        let entries = self.stack_entries(name)?;
        let current = entries.first().map(|newest| newest.number);
        Ok(entries.into_iter().map(|entry| view(entry, current)).collect())
    }

    /// Returns one revision with the files that it was made of.
    pub fn stack_revision(&self, name: &str, number: u32) -> Result<RevisionContent, EngineError> {
        let current = self.stack_entries(name)?.first().map(|newest| newest.number);
        let (entry, content) = self.revision(name, number)?;
        let Content { submission, images } = content;
        let (sources, variables) = (submission.sources, submission.variables);
        Ok(RevisionContent { revision: view(entry, current), sources, variables, images })
    }

    /// Returns what would change on a machine that is as revision `from` wants it, were it made as `to` wants it.
    pub fn stack_difference(
        &self,
        name: &str,
        from: u32,
        to: u32,
    ) -> Result<PlanReport, EngineError> {
        let desired = |number| -> Result<Desired, EngineError> {
            let (_, content) = self.revision(name, number)?;
            Ok(resolve(&content))
        };
        let (from, to) = (desired(from)?, desired(to)?);
        let before = Observed::settled(&from, SystemTime::now());
        Ok(report(name, &plan(&to, &before, &Policy::default()), Detail::Cause))
    }

    /// Makes an earlier revision the newest one, and the machine as it wants; its images are those of then. Volumes stay
    /// as they are.
    pub async fn rollback_stack(
        self: &Arc<Self>,
        name: &str,
        request: RollbackRequest,
    ) -> Result<mpsc::Receiver<Progress>, EngineError> {
        let name = self.known_stack(name)?;
        let number = self.rollback_target(name.as_str(), request.to)?;
        let (mut teller, lines) = Teller::new(name.as_str(), Detail::Cause);
        let engine = Arc::clone(self);
        let options = ApplyOptions {
            timeout: request.timeout,
            author: request.author.clone(),
            message: Some(match &request.message {
                Some(message) => format!("rollback to {number}: {message}"),
                None => format!("rollback to {number}"),
            }),
            ..ApplyOptions::default()
        };
        tokio::spawn(async move {
            let prepare = || engine.prepare_rollback(&name, number, &request);
            let outcome = engine.converge(&name, prepare, &options, &mut teller).await;
            let outcome = match outcome.and_then(|_| Ok(engine.unstopped_services(&name)?)) {
                Ok(scope) if request.wait => {
                    engine.await_stack(name.as_str(), &scope, None, &teller).await
                }
                other => other.map(|_| None),
            };
            teller.finish(outcome);
            engine.give_memory_back_soon();
        });
        Ok(lines)
    }

    /// Returns the services of a stack of which the user stopped no replica.
    fn unstopped_services(&self, name: &StackName) -> Result<Vec<ServiceName>, EngineError> {
        let name = name.as_str();
        let Some(stored) = self.stored_stack(name)? else { return Ok(Vec::new()) };
        let dismissed =
            self.read(|connection| crate::engine::state::stacks::dismissed(connection, name))?;
        let handles = self.handles();
        let rows = handles.iter().map(|handle| handle.row()).filter(|row| row.stopped_by_user);
        let mut stopped: BTreeSet<String> = rows
            .filter_map(|row| row.replica.clone())
            .filter(|replica| replica.stack == name && !replica.oneoff)
            .map(|replica| replica.service)
            .collect();
        stopped.extend(dismissed.into_iter().map(|(service, _)| service));
        let services = stored.stack().services.keys();
        Ok(services.filter(|service| !stopped.contains(service.as_str())).cloned().collect())
    }

    /// Returns the revision that is meant: the one that was named, or the last good one that differs from the current.
    pub(super) fn rollback_target(&self, name: &str, to: Option<u32>) -> Result<u32, EngineError> {
        let entries = self.stack_entries(name)?;
        if let Some(number) = to {
            self.revision(name, number)?;
            return Ok(number);
        }
        let current = entries.first().map(|newest| newest.digest.as_str());
        let good = entries
            .iter()
            .skip(1)
            .find(|entry| entry.outcome == Outcome::Good && Some(entry.digest.as_str()) != current);
        let nothing = || StackError::NoGoodRevision { name: name.to_owned() };
        Ok(good.ok_or_else(nothing)?.number)
    }

    pub(super) fn prepare_rollback(
        &self,
        name: &StackName,
        number: u32,
        request: &RollbackRequest,
    ) -> Result<Prepared, EngineError> {
        let stored = self.stored_stack(name.as_str())?;
        let stored =
            stored.ok_or_else(|| StackError::NoStack { name: name.as_str().to_owned() })?;
        let (_, mut content) = self.revision(name.as_str(), number)?;
        // Whoever owns the stack by now keeps it.
        content.submission.source.clone_from(&stored.row.source);
        let gone: BTreeMap<&String, &String> =
            content.images.iter().filter(|(_, id)| self.image_id(id).is_none()).collect();
        if !gone.is_empty() {
            let images = gone.iter().map(|(image, id)| format!("{image} ({id})")).collect();
            return Err(StackError::RevisionImagesGone {
                name: name.as_str().to_owned(),
                number,
                images,
            }
            .into());
        }
        let desired = resolve(&content).as_rollback();
        if !request.past_jobs {
            let mut jobs = self.jobs_since(&stored.desired(), &desired)?;
            let services = &stored.stack().services;
            jobs.retain(|job| services.get(job).is_none_or(|service| !service.reversible));
            if !jobs.is_empty() {
                let jobs = jobs.iter().map(|job| job.as_str().to_owned()).collect();
                return Err(StackError::JobsRanSince { number, jobs }.into());
            }
        }
        let observed = self.observe_stack(name.as_str(), Some(&desired))?;
        // What the user stopped stays stopped: a way back is no new wish for it.
        let policy = Policy { problems: Problems::Refuse, ..Policy::default() };
        let plan = plan(&desired, &observed, &policy);
        Ok(Prepared { wanted: Wanted { resumed: Vec::new(), content, desired, policy }, plan })
    }

    fn stack_entries(&self, name: &str) -> Result<Vec<Entry>, EngineError> {
        let (row, entries) = self.read(|connection| {
            Ok::<_, StateError>((
                crate::engine::state::stacks::get(connection, name)?,
                revisions::list(connection, name)?,
            ))
        })?;
        match row {
            Some(_) => Ok(entries),
            None => Err(StackError::NoStack { name: name.to_owned() }.into()),
        }
    }

    fn revision(&self, name: &str, number: u32) -> Result<(Entry, Content), EngineError> {
        let found = self.read(|connection| revisions::get(connection, name, number))?;
        let Some(revision) = found else {
            let known = self.stack_entries(name)?.iter().map(|entry| entry.number).collect();
            return Err(StackError::NoRevision { name: name.to_owned(), number, known }.into());
        };
        let content = decode(&revision)?;
        Ok((revision.entry, content))
    }
}

fn resolve(content: &Content) -> Desired {
    Desired::resolve(&content.submission.stack, &content.images)
}

fn view(entry: Entry, current: Option<u32>) -> RevisionView {
    RevisionView {
        number: entry.number,
        current: current == Some(entry.number),
        outcome: entry.outcome.word().to_owned(),
        created_at: entry.created_at,
        author: entry.author,
        message: entry.message,
        digest: entry.digest,
    }
}
