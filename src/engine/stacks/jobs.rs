//! Jobs that are done: a row each, so that a removed container makes no migration run twice.
//!
//! A job is a replica that nothing starts again and that ended well by itself. Its row is keyed by what it was made
//! of; another image or another definition is another job. `down` forgets them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::core::{Engine, now};
use crate::engine::error::EngineError;
use crate::engine::state::containers::{Container, Phase};
use crate::engine::state::{Durability, StateError, stacks};
use crate::reconcile::desired::{Desired, DesiredReplica};
use crate::runtime::shim::protocol::Exit;
use crate::spec::container::RestartPolicy;
use crate::spec::name::ServiceName;

impl Engine {
    /// Writes down that a job is done; every other exit is none.
    pub(crate) fn note_job(&self, row: &Container, exit: &Exit) -> Result<(), StateError> {
        let Some(replica) = row.replica.as_ref().filter(|replica| !replica.oneoff) else {
            return Ok(());
        };
        let stopped = row.stopped_by_user || row.phase == Phase::Stopping;
        if exit.code != 0 || stopped || !ends_for_good(row.spec.restart) {
            return Ok(());
        }
        let input = input(&row.hash, replica.number, &row.image_id);
        self.write(Durability::Process, |tx| {
            stacks::finish_job(tx, &replica.stack, &replica.service, &input, now())
        })
    }

    /// Returns the wanted replicas that are done and have no container any more.
    pub(crate) fn finished_jobs(
        &self,
        desired: &Desired,
    ) -> Result<BTreeSet<(ServiceName, u32)>, EngineError> {
        let stack = desired.name.as_str();
        let done = self.read(|connection| stacks::jobs(connection, stack))?;
        if done.is_empty() {
            return Ok(BTreeSet::new());
        }
        let rows: Vec<_> = self.handles().iter().map(|handle| handle.row()).collect();
        // One that is being removed is as good as gone: its end is told before its row goes.
        let there: BTreeSet<(&str, u32)> = rows
            .iter()
            .filter(|row| row.phase != Phase::Removing)
            .filter_map(|row| row.replica.as_ref())
            .filter(|replica| replica.stack == stack && !replica.oneoff)
            .map(|replica| (replica.service.as_str(), replica.number))
            .collect();
        let is_done = |replica: &&Arc<DesiredReplica>| {
            let image = replica.image_id.clone().or_else(|| self.image_id(&replica.spec.image));
            // Without its image nobody can tell whether it would be the same job.
            let Some(image) = image else { return false };
            let input = input(&replica.hash, replica.number, &image);
            ends_for_good(replica.spec.restart)
                && !there.contains(&(replica.service.as_str(), replica.number))
                && done.contains(&(replica.service.as_str().to_owned(), input))
        };
        let replicas = desired.services.values().flat_map(|service| &service.replicas);
        Ok(replicas.filter(is_done).map(|job| (job.service.clone(), job.number)).collect())
    }
}

impl Engine {
    /// Returns the jobs that are done as `from` has them, and that `to` has otherwise or not at all: a way back to it
    /// does not undo what they did.
    pub(super) fn jobs_since(
        &self,
        from: &Desired,
        to: &Desired,
    ) -> Result<Vec<ServiceName>, EngineError> {
        let stack = from.name.as_str();
        let done = self.read(|connection| stacks::jobs(connection, stack))?;
        let inputs = |desired: &Desired, name: &ServiceName| -> Vec<String> {
            let replicas = desired.services.get(name).into_iter().flat_map(|it| &it.replicas);
            let known = replicas.filter(|replica| ends_for_good(replica.spec.restart));
            known
                .filter_map(|replica| {
                    let image = replica.image_id.as_ref()?;
                    Some(input(&replica.hash, replica.number, image))
                })
                .collect()
        };
        let ran_since = |name: &&ServiceName| {
            let before = inputs(to, name);
            inputs(from, name).into_iter().any(|input| {
                !before.contains(&input) && done.contains(&(name.as_str().to_owned(), input))
            })
        };
        Ok(from.services.keys().filter(ran_since).cloned().collect())
    }
}

fn ends_for_good(policy: RestartPolicy) -> bool {
    matches!(policy, RestartPolicy::No | RestartPolicy::OnFailure { .. })
}

fn input(hash: &str, number: u32, image_id: &str) -> String {
    format!("{hash} {number} {image_id}")
}
