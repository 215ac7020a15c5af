//! Replacing the containers of one service, a few at a time. Stop-first makes the new one beside the old
//! one, so that a failure to make it stops nothing; start-first also starts it first.

use std::sync::Arc;

use super::fate::{Action, ServiceFate};
use super::steps::{Planner, of_replica};
use crate::reconcile::cause::Cause;
use crate::reconcile::desired::{DesiredReplica, DesiredService};
use crate::reconcile::host::{NewContainer, Step};
use crate::reconcile::observed::ObservedContainer;
use crate::reconcile::plan::{Order, Problem};
use crate::spec::container::{MountKind, NetworkMode};
use crate::spec::stack::{Condition, FailureAction};

/// Returns the name of a container while the one that it replaces still has the real one.
pub(super) fn temporary_name(name: &str) -> String {
    format!("{name}.next")
}

/// Returns a temporary name that `old` does not have itself, as it may after an interrupted replacement.
fn name_beside(old: &ObservedContainer, name: &str) -> String {
    let temporary = temporary_name(name);
    if old.name == temporary { temporary_name(&temporary) } else { temporary }
}

/// One replacement, and what it waits for.
#[derive(Clone, Copy)]
struct Turn<'a, 'b> {
    service: &'a DesiredService,
    replica: &'a Arc<DesiredReplica>,
    old: &'a ObservedContainer,
    cause: &'b Cause,
    before: &'b [(usize, Order)],
}

impl<'a> Planner<'a> {
    /// Replaces what must be replaced, `update.parallelism` at a time, each batch when the last is good.
    pub(super) fn replace_in_turn(
        &mut self,
        fate: &'a ServiceFate<'a>,
        needs: &mut Option<Vec<(usize, Order)>>,
    ) {
        let turns: Vec<(&Arc<DesiredReplica>, &ObservedContainer, &Cause)> = fate
            .replicas
            .iter()
            .filter_map(|(replica, action)| match action {
                Action::Replace { old, cause } => Some((*replica, *old, cause)),
                _ => None,
            })
            .collect();
        let update = fate.service.update;
        let width = usize::try_from(update.parallelism).unwrap_or(usize::MAX);
        let width = if width == 0 { turns.len().max(1) } else { width };
        if update.start_first {
            self.check_start_first(fate.service, &turns);
        }
        // With one batch nothing waits for the verdict, unless it leads back.
        let judged = turns.len() > width || update.failure_action == FailureAction::Rollback;
        let tolerated = update.tolerated(turns.len());
        let mut before: Vec<(usize, Order)> = Vec::new();
        let mut checked = None;
        let mut made = Vec::new();
        for batch in turns.chunks(width) {
            if let (Some((replica, _, cause)), false) =
                (batch.first(), update.delay.is_zero() || before.is_empty())
            {
                let pause = Step::Pause { duration: update.delay };
                let pause = self.draft.add(of_replica(replica, pause, cause), []);
                for (earlier, order) in before {
                    self.draft.order(earlier, pause, order);
                }
                before = vec![(pause, Order::Needs)];
            }
            let mut good = Vec::new();
            for (replica, old, cause) in batch {
                let turn = Turn { service: fate.service, replica, old, cause, before: &before };
                let (start, ready) =
                    if update.start_first { self.start_first(turn) } else { self.stop_first(turn) };
                self.follow(fate, needs, start);
                self.ready.entry(&fate.service.name).or_default().push(ready);
                good.push(ready);
                if !update.start_first && (judged || !update.monitor.is_zero()) {
                    good.extend(self.until_good(turn, &replica.container_name, ready));
                }
                made.push(NewContainer {
                    name: replica.container_name.clone(),
                    hash: replica.hash.clone(),
                    image_id: replica.image_id.clone(),
                });
            }
            let order = match update.failure_action {
                FailureAction::Pause | FailureAction::Rollback if tolerated == 0 => Order::Needs,
                _ => Order::After,
            };
            before = good.into_iter().map(|step| (step, order)).collect();
            if let (
                Some((replica, _, cause)),
                true,
                FailureAction::Pause | FailureAction::Rollback,
            ) = (batch.last(), tolerated > 0, update.failure_action)
            {
                let check = Step::CheckFailures { containers: made.clone(), tolerated };
                let check = self.draft.add(of_replica(replica, check, cause), checked);
                checked = Some(check);
                for (earlier, order) in before {
                    self.draft.order(earlier, check, order);
                }
                before = vec![(check, Order::Needs)];
            }
        }
    }

    fn stop_first(&mut self, turn: Turn<'a, '_>) -> (usize, usize) {
        let name = turn.replica.container_name.as_str();
        let create = self.create_in(turn, &name_beside(turn.old, name));
        let remove = self.remove(turn.old, turn.cause, [create]);
        let rename = self.take_name(turn, [create, remove]);
        let start = Step::StartNew { name: name.to_owned() };
        let start = self.draft.add(of_replica(turn.replica, start, turn.cause), [rename]);
        (start, start)
    }

    fn start_first(&mut self, turn: Turn<'a, '_>) -> (usize, usize) {
        let temporary = name_beside(turn.old, &turn.replica.container_name);
        let create = self.create_in(turn, &temporary);
        let start = Step::StartNew { name: temporary.clone() };
        let start = self.draft.add(of_replica(turn.replica, start, turn.cause), [create]);
        let good = self.until_good(turn, &temporary, start).unwrap_or(start);
        let remove = self.remove(turn.old, turn.cause, [good]);
        let rename = self.take_name(turn, [good, remove]);
        (start, rename)
    }

    fn create_in(&mut self, turn: Turn<'a, '_>, name: &str) -> usize {
        let create = self.create(turn.service, turn.replica, name, turn.cause, &[]);
        for (earlier, order) in turn.before {
            self.draft.order(*earlier, create, *order);
        }
        create
    }

    fn take_name(&mut self, turn: Turn<'a, '_>, needs: [usize; 2]) -> usize {
        let to = turn.replica.container_name.clone();
        // Another container of ours may still have the name: the one of a service that was renamed.
        let freed = self.freed.get(turn.replica.container_name.as_str()).copied();
        let rename = Step::RenameContainer { from: name_beside(turn.old, &to), to };
        let needs = needs.into_iter().chain(freed);
        let rename = self.draft.add(of_replica(turn.replica, rename, turn.cause), needs);
        self.made.insert(&turn.replica.container_name, rename);
        rename
    }

    /// Returns the last of the steps that find out whether the new container is good, if there are any.
    fn until_good(&mut self, turn: Turn<'a, '_>, container: &str, start: usize) -> Option<usize> {
        let healthy = self.until_healthy(turn, container, start);
        let duration = turn.service.update.monitor;
        if duration.is_zero() {
            return healthy;
        }
        let step = Step::Monitor { container: container.to_owned(), duration };
        let needs = healthy.unwrap_or(start);
        Some(self.draft.add(of_replica(turn.replica, step, turn.cause), [needs]))
    }

    fn until_healthy(
        &mut self,
        turn: Turn<'a, '_>,
        container: &str,
        start: usize,
    ) -> Option<usize> {
        let check = turn.replica.spec.healthcheck.as_ref()?;
        if check.test.first().is_some_and(|word| word == "NONE") {
            return None;
        }
        let step = Step::WaitFor {
            service: turn.service.name.clone(),
            condition: Condition::ServiceHealthy,
            containers: vec![container.to_owned()],
        };
        Some(self.draft.add(of_replica(turn.replica, step, turn.cause), [start]))
    }

    /// Two of one service at once are impossible when they need the same thing alone.
    fn check_start_first(
        &mut self,
        service: &DesiredService,
        turns: &[(&Arc<DesiredReplica>, &ObservedContainer, &Cause)],
    ) {
        for (replica, _, _) in turns {
            let generated = format!("{}-{}-{}", self.desired.name, service.name, replica.number);
            let fixed = |endpoint: &crate::spec::container::Endpoint| {
                endpoint.ipv4.is_some() || endpoint.ipv6.is_some() || endpoint.mac.is_some()
            };
            let obstacle = if replica.container_name != generated {
                Some("container_name")
            } else if replica.spec.network_mode == NetworkMode::Host {
                Some("the host's network")
            } else if replica.spec.networks.values().any(fixed) {
                Some("a static address")
            } else {
                None
            };
            if let Some(obstacle) = obstacle {
                let problem = Problem::StartFirstImpossible {
                    service: service.name.clone(),
                    obstacle: obstacle.to_owned(),
                };
                self.draft.problems.push(problem);
                return;
            }
            let shared = replica.spec.mounts.iter().find(|mount| {
                !mount.read_only && matches!(mount.kind, MountKind::Volume { name: Some(_), .. })
            });
            // Several replicas write it at once anyway: then the file says that it is shared.
            if let Some(mount) = shared
                && service.replicas.len() == 1
            {
                let problem = Problem::StartFirstImpossible {
                    service: service.name.clone(),
                    obstacle: format!(
                        "a volume that old and new would both write ({})",
                        mount.target
                    ),
                };
                self.draft.problems.push(problem);
                return;
            }
            if let Some(mount) = shared {
                let warning = format!(
                    "{}: old and new both write {} for a while",
                    service.name, mount.target
                );
                if !self.draft.warnings.contains(&warning) {
                    self.draft.warnings.push(warning);
                }
            }
        }
    }
}
