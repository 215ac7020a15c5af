//! What becomes of every replica, and which containers go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Orphans, Policy, Recreate, changes};
use crate::reconcile::cause::{Cause, Change};
use crate::reconcile::desired::{Desired, DesiredReplica, DesiredService};
use crate::reconcile::observed::{Health, Observed, ObservedContainer, State};
use crate::reconcile::resolve::shared_namespaces;
use crate::spec::container::RestartPolicy;
use crate::spec::name::ServiceName;
use crate::spec::stack::{Condition, OnUnhealthy};

/// All that fates are decided from.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) desired: &'a Desired,
    pub(super) observed: &'a Observed,
    pub(super) policy: &'a Policy,
    /// Services that the user asks for anew.
    pub(super) resumed: BTreeSet<&'a ServiceName>,
    /// Networks that are made anew.
    pub(super) divergent: BTreeMap<&'a str, Vec<Change>>,
}

#[derive(Debug, Default)]
pub(super) struct Fates<'a> {
    pub(super) services: BTreeMap<&'a ServiceName, ServiceFate<'a>>,
    pub(super) removals: Vec<Removal<'a>>,
    pub(super) divergent: BTreeMap<&'a str, Vec<Change>>,
    pub(super) warnings: Vec<String>,
    /// When the first backoff ends that an action waits for.
    pub(super) again: Option<SystemTime>,
}

#[derive(Debug)]
pub(super) struct Removal<'a> {
    pub(super) container: &'a ObservedContainer,
    pub(super) cause: Cause,
}

#[derive(Debug)]
pub(super) struct ServiceFate<'a> {
    pub(super) service: &'a DesiredService,
    pub(super) replicas: Vec<(&'a Arc<DesiredReplica>, Action<'a>)>,
}

#[derive(Debug)]
pub(super) enum Action<'a> {
    Create {
        cause: Cause,
    },
    /// The new one is made beside the old one.
    Replace {
        old: &'a ObservedContainer,
        cause: Cause,
    },
    /// The old one goes before the new one is made, since something it uses is made anew.
    Rebuild {
        old: &'a ObservedContainer,
        cause: Cause,
    },
    Start {
        container: &'a ObservedContainer,
        cause: Cause,
    },
    Restart {
        container: &'a ObservedContainer,
        cause: Cause,
    },
    Keep {
        container: &'a ObservedContainer,
    },
    /// A job that is done, without a container.
    Finished,
    /// Stopped by the user: not even its limits are touched.
    LeaveAlone,
    /// Not there, and it cannot come now.
    Blocked,
}

/// Decides for the services of `order`, dependencies first.
pub(super) fn decide<'a>(question: &Question<'a>, order: &[&'a ServiceName]) -> Fates<'a> {
    let mut there: BTreeMap<&ServiceName, BTreeMap<u32, Vec<&ObservedContainer>>> = BTreeMap::new();
    for container in question.observed.containers.values().filter(|container| !container.oneoff) {
        there
            .entry(&container.service)
            .or_default()
            .entry(container.number)
            .or_default()
            .push(container);
    }
    let mut fates = Fates { divergent: question.divergent.clone(), ..Fates::default() };
    for name in order {
        let service = &question.desired.services[*name];
        let numbers = there.remove(*name).unwrap_or_default();
        decide_service(question, service, numbers, &mut fates);
    }
    if question.policy.orphans == Orphans::Remove {
        let unselected = &question.desired.unselected;
        let orphans = there.into_iter().filter(|(name, _)| !unselected.contains(name));
        for container in
            orphans.flat_map(|(_, numbers)| numbers).flat_map(|(_, containers)| containers)
        {
            fates.removals.push(Removal { container, cause: Cause::Orphaned });
        }
    }
    fates
}

fn decide_service<'a>(
    question: &Question<'a>,
    service: &'a DesiredService,
    mut numbers: BTreeMap<u32, Vec<&'a ObservedContainer>>,
    fates: &mut Fates<'a>,
) {
    let blocked = blocked(service, fates);
    let had_some = !numbers.is_empty();
    let mut replicas = Vec::with_capacity(service.replicas.len());
    for replica in &service.replicas {
        let found = numbers.remove(&replica.number).unwrap_or_default();
        let kept = choose(question, replica, &found);
        for container in found {
            if kept.is_none_or(|kept| kept.id != container.id) {
                let cause = match container.state {
                    State::Removing => Cause::HalfRemoved,
                    _ => Cause::Duplicate,
                };
                fates.removals.push(Removal { container, cause });
            }
        }
        let action = match kept {
            Some(container) => {
                match decide_kept(question, service, replica, container, &mut fates.again) {
                    Action::LeaveAlone => Action::LeaveAlone,
                    Action::Rebuild { old, cause } => Action::Rebuild { old, cause },
                    Action::Replace { old, cause } => Action::Replace { old, cause },
                    other => match lost_namespace(fates, replica) {
                        Some(service) => Action::Replace {
                            old: container,
                            cause: Cause::DependencyChanged { service },
                        },
                        None => other,
                    },
                }
            }
            None if is_finished(question, replica) => Action::Finished,
            None if is_dismissed(question, replica) => Action::LeaveAlone,
            None if had_some => Action::Create { cause: missing_or_scaled(question, replica) },
            None => Action::Create { cause: Cause::Missing },
        };
        replicas.push((replica, if blocked.is_some() { hold(action) } else { action }));
    }
    for container in numbers.into_values().flatten() {
        fates.removals.push(Removal { container, cause: Cause::ScaledDown });
    }
    if let Some(reason) = blocked {
        fates.warnings.push(format!("{} waits: {reason}", service.name));
    }
    fates.services.insert(&service.name, ServiceFate { service, replicas });
}

/// Returns what remains of `action` for a service whose dependencies failed for good.
fn hold(action: Action<'_>) -> Action<'_> {
    match action {
        Action::Create { .. } => Action::Blocked,
        Action::Replace { old, .. } => Action::Keep { container: old },
        Action::Start { container, .. } | Action::Restart { container, .. } => {
            Action::Keep { container }
        }
        Action::Rebuild { cause: Cause::NetworkChanged { .. }, .. } => action,
        Action::Rebuild { old, .. } => Action::Keep { container: old },
        Action::Keep { .. } | Action::Finished | Action::LeaveAlone | Action::Blocked => action,
    }
}

/// A number above all that are there was added; one among them is missing.
fn missing_or_scaled(question: &Question<'_>, replica: &DesiredReplica) -> Cause {
    let mut siblings = question.observed.containers.values();
    let above =
        siblings.any(|c| !c.oneoff && c.service == replica.service && c.number >= replica.number);
    if above { Cause::Missing } else { Cause::ScaledUp }
}

/// Returns the container that is the replica: one that needs no replacement, under its own name, running.
fn choose<'a>(
    question: &Question<'a>,
    replica: &DesiredReplica,
    found: &[&'a ObservedContainer],
) -> Option<&'a ObservedContainer> {
    let rest =
        found.iter().copied().filter(|container| !matches!(container.state, State::Removing));
    rest.max_by_key(|container| {
        let stopped = container.stopped_by_user && !question.resumed.contains(&replica.service);
        let current = container.hash == replica.hash
            && container.broken.is_none()
            && image_change(question, replica, container).is_none();
        let up = matches!(container.state, State::Running { .. });
        let named = container.name == replica.container_name;
        // Where nothing is replaced, what an update left beside the one that serves goes.
        let stays = question.policy.recreate == Recreate::Never
            && named
            && !matches!(container.state, State::Created);
        let good = up && matches!(container.health, None | Some(Health::Healthy));
        (
            stopped,
            stays,
            // The one of before serves until the new one can.
            current && good,
            named && good,
            current,
            named,
            up,
            container.id.as_str(),
        )
    })
}

fn decide_kept<'a>(
    question: &Question<'a>,
    service: &'a DesiredService,
    replica: &'a DesiredReplica,
    container: &'a ObservedContainer,
    again: &mut Option<SystemTime>,
) -> Action<'a> {
    let resumed = question.resumed.contains(&service.name);
    if container.stopped_by_user && !resumed {
        return Action::LeaveAlone;
    }
    let divergent =
        container.networks.iter().find_map(|name| question.divergent.get_key_value(name.as_str()));
    if let Some((network, changes)) = divergent {
        let cause =
            Cause::NetworkChanged { network: (*network).to_owned(), changes: changes.clone() };
        return Action::Rebuild { old: container, cause };
    }
    if let Some(cause) = replacement(question, service, replica, container) {
        // Both can't have one address at a time.
        return match holds_wanted_address(replica, container) {
            true => Action::Rebuild { old: container, cause },
            false => Action::Replace { old: container, cause },
        };
    }
    let now = question.observed.now;
    match &container.state {
        State::Created => Action::Start { container, cause: Cause::NotStarted },
        State::Running { .. }
            if container.health == Some(Health::Unhealthy)
                && service.on_unhealthy == OnUnhealthy::Restart =>
        {
            if let Some(due) = container.restart_not_before.filter(|due| *due > now && !resumed) {
                wait_until(again, due);
                return Action::Keep { container };
            }
            Action::Restart { container, cause: Cause::Unhealthy }
        }
        State::Exited { code, at, .. } => match wants_start(&replica.spec.restart, *code) {
            true => {
                let due = *at + RESTARTER_TURN;
                if due > now && *at <= now && !resumed {
                    wait_until(again, due);
                    return Action::Keep { container };
                }
                Action::Start { container, cause: Cause::Exited { code: *code } }
            }
            false if resumed && (container.stopped_by_user || *code != 0) => {
                Action::Start { container, cause: Cause::Resumed }
            }
            false => Action::Keep { container },
        },
        // The engine owns a crashed container's backoff, and the user a pause.
        State::Running { .. } | State::Paused | State::Restarting { .. } | State::Removing => {
            Action::Keep { container }
        }
    }
}

/// Returns the service whose namespaces `replica` lives in, when its container is made anew: they go with it.
fn lost_namespace(fates: &Fates<'_>, replica: &DesiredReplica) -> Option<ServiceName> {
    shared_namespaces(&replica.spec).find_map(|name| {
        fates.services.values().flat_map(|fate| &fate.replicas).find_map(|(other, action)| {
            let anew = matches!(
                action,
                Action::Create { .. } | Action::Replace { .. } | Action::Rebuild { .. }
            );
            (other.container_name == name && anew).then(|| other.service.clone())
        })
    })
}

/// How long the engine's restart policy has the first turn with a container that exited.
const RESTARTER_TURN: Duration = Duration::from_secs(2);

fn wait_until(again: &mut Option<SystemTime>, due: SystemTime) {
    *again = Some(again.map_or(due, |earliest| earliest.min(due)));
}

/// What is asked for anew by name runs again.
fn is_finished(question: &Question<'_>, replica: &DesiredReplica) -> bool {
    let anew = question.policy.recreate == Recreate::Always
        && question.policy.resume.names(&replica.service);
    !anew && question.observed.finished.contains(&(replica.service.clone(), replica.number))
}

fn is_dismissed(question: &Question<'_>, replica: &DesiredReplica) -> bool {
    !question.resumed.contains(&replica.service)
        && question.observed.dismissed.contains(&(replica.service.clone(), replica.number))
}

fn holds_wanted_address(replica: &DesiredReplica, container: &ObservedContainer) -> bool {
    replica.spec.networks.iter().any(|(network, wanted)| {
        container.spec.networks.get(network).is_some_and(|held| {
            (wanted.ipv4.is_some() && wanted.ipv4 == held.ipv4)
                || (wanted.ipv6.is_some() && wanted.ipv6 == held.ipv6)
        })
    })
}

/// An exited container with a limit of tries was given up by who counted them.
fn wants_start(policy: &RestartPolicy, code: i32) -> bool {
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max } => *max == 0 && code != 0,
    }
}

fn replacement(
    question: &Question<'_>,
    service: &DesiredService,
    replica: &DesiredReplica,
    container: &ObservedContainer,
) -> Option<Cause> {
    if let Some(reason) = &container.broken {
        return Some(Cause::Broken { reason: reason.clone() });
    }
    match question.policy.recreate {
        Recreate::Never => return None,
        Recreate::Always if question.policy.resume.names(&service.name) => {
            return Some(Cause::Requested);
        }
        Recreate::Always | Recreate::Changed => {}
    }
    if container.hash != replica.hash {
        let changes = changes::of_specs(&container.spec, &replica.spec, &service.origins);
        return Some(Cause::SpecChanged { changes });
    }
    let (from, to) = image_change(question, replica, container)?;
    Some(Cause::ImageChanged { from, to })
}

fn image_change(
    question: &Question<'_>,
    replica: &DesiredReplica,
    container: &ObservedContainer,
) -> Option<(String, String)> {
    let wanted =
        replica.image_id.as_ref().or_else(|| question.observed.images.get(&replica.spec.image))?;
    (*wanted != container.image_id).then(|| (container.image_id.clone(), wanted.clone()))
}

/// Returns why `service` can't start, when a dependency is in a state that no step of this plan changes.
fn blocked(service: &DesiredService, fates: &Fates<'_>) -> Option<String> {
    let required = service.depends_on.iter().filter(|(_, dependency)| dependency.required);
    for (name, dependency) in required {
        let Some(fate) = fates.services.get(name) else { continue };
        for (replica, action) in &fate.replicas {
            let subject = format!("{name}.{}", replica.number);
            match action {
                Action::Blocked => return Some(format!("{subject} cannot start")),
                Action::LeaveAlone
                    if dependency.condition == Condition::ServiceCompletedSuccessfully =>
                {
                    return Some(format!("{subject} was stopped"));
                }
                Action::Keep { container } => {
                    if let Some(reason) = hopeless(container, dependency.condition) {
                        return Some(format!("{subject} {reason}"));
                    }
                }
                _ => {}
            }
        }
    }
    None
}

fn hopeless(container: &ObservedContainer, condition: Condition) -> Option<String> {
    match (&container.state, condition) {
        (State::Created, _) => Some("cannot start".to_owned()),
        (State::Exited { code, .. }, Condition::ServiceHealthy) => {
            Some(format!("exited with {code}"))
        }
        (State::Exited { code, .. }, Condition::ServiceCompletedSuccessfully) if *code != 0 => {
            Some(format!("exited with {code}"))
        }
        (State::Running { .. }, Condition::ServiceHealthy)
            if container.health == Some(Health::Unhealthy) =>
        {
            Some("is unhealthy".to_owned())
        }
        _ => None,
    }
}
