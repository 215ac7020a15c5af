//! Fates become steps: removals first, then every service behind what it depends on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::changes;
use super::fate::{Action, Fates, ServiceFate};
use crate::reconcile::cause::Cause;
use crate::reconcile::desired::{Desired, DesiredReplica, DesiredService};
use crate::reconcile::host::{LiveChange, Step};
use crate::reconcile::observed::{Health, Observed, ObservedContainer, State};
use crate::reconcile::plan::{Draft, Order, Planned, Problem};
use crate::reconcile::resolve::needed_containers;
use crate::spec::container::{MountKind, NetworkMode};
use crate::spec::name::ServiceName;
use crate::spec::stack::{Condition, PullPolicy};

/// How long connections may take to end before the container that has them is stopped.
const DRAIN: Duration = Duration::from_secs(5);

/// The plan in the making, and which step brings or frees what.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    pub(super) desired: &'a Desired,
    pub(super) observed: &'a Observed,
    pub(super) fates: &'a Fates<'a>,
    pub(super) draft: Draft,
    pub(super) networks: BTreeMap<&'a str, usize>,
    pub(super) volumes: BTreeMap<&'a str, usize>,
    /// By network, the steps that take containers off it.
    pub(super) disconnects: BTreeMap<&'a str, Vec<usize>>,
    pulls: BTreeMap<&'a str, usize>,
    /// By container id.
    removed: BTreeMap<&'a str, usize>,
    /// By name of a container, the step after which the name is free.
    pub(super) freed: BTreeMap<&'a str, usize>,
    /// By name of a container, the step after which the new one has it.
    pub(super) made: BTreeMap<&'a str, usize>,
    /// By service, the steps after which its new containers are up.
    pub(super) ready: BTreeMap<&'a ServiceName, Vec<usize>>,
    /// By service, the stops of containers that are replaced.
    pub(super) stops: BTreeMap<&'a ServiceName, Vec<usize>>,
    waits: BTreeMap<(&'a ServiceName, &'static str), usize>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        desired: &'a Desired,
        observed: &'a Observed,
        mut draft: Draft,
        fates: &'a Fates<'a>,
    ) -> Self {
        draft.warnings.extend(fates.warnings.iter().cloned());
        Self {
            desired,
            observed,
            fates,
            draft,
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            disconnects: BTreeMap::new(),
            pulls: BTreeMap::new(),
            removed: BTreeMap::new(),
            freed: BTreeMap::new(),
            made: BTreeMap::new(),
            ready: BTreeMap::new(),
            stops: BTreeMap::new(),
            waits: BTreeMap::new(),
        }
    }

    pub(super) fn into_draft(self) -> Draft {
        self.draft
    }

    /// Removes what is surplus, and what stands on networks that are made anew.
    pub(super) fn remove_containers(&mut self) {
        let fates = self.fates;
        for removal in &fates.removals {
            self.remove(removal.container, &removal.cause, []);
        }
        for fate in fates.services.values() {
            for (_, action) in &fate.replicas {
                if let Action::Rebuild { old, cause } = action {
                    self.remove(old, cause, []);
                }
            }
        }
    }

    /// Stops and removes `container` behind `needs`.
    pub(super) fn remove(
        &mut self,
        container: &'a ObservedContainer,
        cause: &Cause,
        needs: impl IntoIterator<Item = usize>,
    ) -> usize {
        let mut needs: Vec<usize> = needs.into_iter().collect();
        if runs(container) {
            let mut stop = stop(container);
            if let Step::StopContainer { drain, .. } = &mut stop {
                *drain = self.drains(container, cause).then_some(DRAIN);
            }
            let stop = self.draft.add(of_container(container, stop, cause), needs);
            self.stops.entry(&container.service).or_default().push(stop);
            needs = vec![stop];
        }
        let remove = Step::RemoveContainer { id: container.id.clone() };
        let remove = self.draft.add(of_container(container, remove, cause), needs);
        self.removed.insert(&container.id, remove);
        self.freed.insert(&container.name, remove);
        remove
    }

    /// Returns whether others of its service serve when it goes.
    fn drains(&self, container: &ObservedContainer, cause: &Cause) -> bool {
        let Some(service) = self.desired.services.get(&container.service) else { return false };
        match cause {
            Cause::ScaledDown => !service.replicas.is_empty(),
            Cause::SpecChanged { .. } | Cause::ImageChanged { .. } | Cause::Requested => {
                service.replicas.len() > 1 || service.update.start_first
            }
            _ => false,
        }
    }

    /// Returns the removals of the containers on `network`.
    pub(super) fn removals_of_users(&self, network: &str) -> Vec<usize> {
        let users = self.observed.containers.values();
        let users = users.filter(|container| container.networks.iter().any(|name| name == network));
        users.filter_map(|container| self.removed.get(container.id.as_str()).copied()).collect()
    }

    /// Returns whether `container` is off `network` when the plan is done.
    pub(super) fn leaves(&self, container: &ObservedContainer, network: &str) -> bool {
        self.removed.contains_key(container.id.as_str())
            || self.disconnects.get(network).is_some_and(|steps| {
                let mut planned = steps.iter().map(|step| self.draft.step(*step));
                planned.any(|step| matches!(step, Step::DisconnectNetwork { id, .. } if *id == container.id))
            })
    }

    /// Brings the containers of `name` to what they should be.
    pub(super) fn bring_up(&mut self, name: &'a ServiceName) {
        let fates = self.fates;
        let fate = &fates.services[name];
        let mut start_needs = None;
        for (replica, action) in &fate.replicas {
            match action {
                Action::Create { cause } | Action::Rebuild { cause, .. } => {
                    let create =
                        self.create(fate.service, replica, &replica.container_name, cause, &[]);
                    let start = Step::StartNew { name: replica.container_name.clone() };
                    let start = self.draft.add(of_replica(replica, start, cause), [create]);
                    self.follow(fate, &mut start_needs, start);
                    self.ready.entry(name).or_default().push(start);
                }
                Action::Start { container, cause } => {
                    let before = self.adjust(fate.service, replica, container);
                    let start = Step::StartContainer { id: container.id.clone() };
                    let start = self.draft.add(of_replica(replica, start, cause), before);
                    self.follow(fate, &mut start_needs, start);
                    self.ready.entry(name).or_default().push(start);
                }
                Action::Restart { container, cause } => {
                    let before = self.adjust(fate.service, replica, container);
                    let halt = self.draft.add(of_replica(replica, stop(container), cause), before);
                    let start = Step::StartContainer { id: container.id.clone() };
                    let start = self.draft.add(of_replica(replica, start, cause), [halt]);
                    self.ready.entry(name).or_default().push(start);
                }
                Action::Keep { container } => {
                    self.adjust(fate.service, replica, container);
                    self.restart_with_dependency(fate, replica, container, &mut start_needs);
                }
                Action::Replace { .. }
                | Action::Finished
                | Action::LeaveAlone
                | Action::Blocked => {}
            }
        }
        self.replace_in_turn(fate, &mut start_needs);
    }

    /// Makes the one-off container, for its asker to start, when all that it depends on is as it needs it.
    pub(super) fn make_oneoff(&mut self) {
        let Some(service) = &self.desired.oneoff else { return };
        let needs = self.start_needs(service);
        for replica in &service.replicas {
            let create =
                self.create(service, replica, &replica.container_name, &Cause::Requested, &[]);
            for (earlier, order) in &needs {
                self.draft.order(*earlier, create, *order);
            }
        }
    }

    /// Makes `replica` under `name`, behind all that it uses.
    pub(super) fn create(
        &mut self,
        service: &'a DesiredService,
        replica: &'a Arc<DesiredReplica>,
        name: &str,
        cause: &Cause,
        before: &[usize],
    ) -> usize {
        let mut needs = before.to_vec();
        needs.extend(self.pull(service, replica));
        if let NetworkMode::Networks(_) = replica.spec.network_mode {
            needs.extend(
                replica.spec.networks.keys().filter_map(|n| self.networks.get(n.as_str()).copied()),
            );
        }
        needs.extend(replica.spec.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Volume { name: Some(volume), .. } => {
                self.volumes.get(volume.as_str()).copied()
            }
            _ => None,
        }));
        needs.extend(self.freed.get(name).copied());
        needs.extend(
            needed_containers(&replica.spec).filter_map(|other| self.made.get(other).copied()),
        );
        let create = Step::CreateContainer { name: name.to_owned(), replica: Arc::clone(replica) };
        let create = self.draft.add(of_replica(replica, create, cause), needs);
        if name == replica.container_name {
            self.made.insert(&replica.container_name, create);
        }
        create
    }

    fn pull(&mut self, service: &'a DesiredService, replica: &'a DesiredReplica) -> Option<usize> {
        let image = replica.spec.image.as_str();
        if replica.image_id.is_some() || self.observed.images.contains_key(image) {
            if service.pull_policy == PullPolicy::Always {
                let place = service.origins.get("pull_policy");
                let place = place.map_or(String::new(), |place| format!(" ({place})"));
                let warning = format!(
                    "services.{}.pull_policy{place}: `always` is not enforced: the image {image} that is here is \
                     used, and no registry is asked for a newer one",
                    service.name
                );
                if !self.draft.warnings.contains(&warning) {
                    self.draft.warnings.push(warning);
                }
            }
            return None;
        }
        if let Some(step) = self.pulls.get(image) {
            return Some(*step);
        }
        let owned = |image: &str| (service.name.clone(), image.to_owned());
        let problem = match (service.pull_policy, self.observed.unobtainable.get(image)) {
            (PullPolicy::Always | PullPolicy::Missing, Some(reason)) => {
                let ((service, image), reason) = (owned(image), reason.clone());
                Problem::ImageUnobtainable { service, image, reason }
            }
            (PullPolicy::Always | PullPolicy::Missing, None) => {
                let planned = Planned {
                    step: Step::PullImage { reference: image.to_owned() },
                    cause: Cause::NeededBy { service: service.name.clone() },
                    service: None,
                    subject: format!("image {image}"),
                };
                let step = self.draft.add(planned, []);
                self.pulls.insert(image, step);
                return Some(step);
            }
            (PullPolicy::Never, _) => {
                let (service, image) = owned(image);
                Problem::ImageMissing { service, image }
            }
            (PullPolicy::Build, _) => {
                let (service, image) = owned(image);
                Problem::ImageNotBuilt { service, image }
            }
        };
        if !self.draft.problems.contains(&problem) {
            self.draft.problems.push(problem);
        }
        None
    }

    /// Orders `start` behind what the service's dependencies must have reached.
    pub(super) fn follow(
        &mut self,
        fate: &ServiceFate<'a>,
        needs: &mut Option<Vec<(usize, Order)>>,
        start: usize,
    ) {
        let needs = needs.get_or_insert_with(|| self.start_needs(fate.service));
        for (earlier, order) in needs {
            self.draft.order(*earlier, start, *order);
        }
    }

    fn start_needs(&mut self, service: &'a DesiredService) -> Vec<(usize, Order)> {
        let fates = self.fates;
        let mut needs = Vec::new();
        for (name, dependency) in &service.depends_on {
            let Some(fate) = fates.services.get(name) else { continue };
            let order = if dependency.required { Order::Needs } else { Order::After };
            let steps = match dependency.condition {
                Condition::ServiceStarted => self.ready.get(name).cloned().unwrap_or_default(),
                condition => Vec::from_iter(self.wait(fate, condition, &service.name)),
            };
            needs.extend(steps.into_iter().map(|step| (step, order)));
        }
        needs
    }

    /// Waits for the containers of `fate` that are not yet as `condition` says.
    fn wait(
        &mut self,
        fate: &ServiceFate<'a>,
        condition: Condition,
        dependent: &ServiceName,
    ) -> Option<usize> {
        let name = &fate.service.name;
        let key = match condition {
            Condition::ServiceStarted => "started",
            Condition::ServiceHealthy => "healthy",
            Condition::ServiceCompletedSuccessfully => "completed",
        };
        if let Some(step) = self.waits.get(&(name, key)) {
            return Some(*step);
        }
        let containers: Vec<String> = fate
            .replicas
            .iter()
            .filter(|(_, action)| match action {
                Action::Finished | Action::LeaveAlone | Action::Blocked => false,
                Action::Keep { container } => !meets(container, condition),
                _ => true,
            })
            .map(|(replica, _)| replica.container_name.clone())
            .collect();
        if containers.is_empty() {
            return None;
        }
        let planned = Planned {
            step: Step::WaitFor { service: name.clone(), condition, containers },
            cause: Cause::NeededBy { service: dependent.clone() },
            service: Some(name.clone()),
            subject: name.as_str().to_owned(),
        };
        let step = self.draft.add(planned, self.ready.get(name).cloned().unwrap_or_default());
        self.waits.insert((name, key), step);
        Some(step)
    }

    /// Stops a container before a dependency that it must be restarted with goes, and starts it after.
    fn restart_with_dependency(
        &mut self,
        fate: &ServiceFate<'a>,
        replica: &'a DesiredReplica,
        container: &'a ObservedContainer,
        needs: &mut Option<Vec<(usize, Order)>>,
    ) {
        let replaced: Vec<(&ServiceName, Vec<usize>)> = fate
            .service
            .depends_on
            .iter()
            .filter(|(_, dependency)| dependency.restart)
            .filter(|(name, _)| self.fates.services.get(*name).is_some_and(is_replaced))
            .map(|(name, _)| (name, self.stops.get(name).cloned().unwrap_or_default()))
            .collect();
        let Some((first, _)) = replaced.first() else { return };
        if !runs(container) {
            return;
        }
        let cause = Cause::DependencyChanged { service: (*first).clone() };
        let halt = self.draft.add(of_replica(replica, stop(container), &cause), []);
        for later in replaced.iter().flat_map(|(_, stops)| stops) {
            self.draft.order(halt, *later, Order::After);
        }
        let start = Step::StartContainer { id: container.id.clone() };
        let start = self.draft.add(of_replica(replica, start, &cause), [halt]);
        self.follow(fate, needs, start);
        // The dependency may fail to come back: what ran before runs again all the same.
        self.draft.weaken(start, halt);
        self.ready.entry(&fate.service.name).or_default().push(start);
    }

    /// Changes what can change in a container that stays; returns the steps.
    fn adjust(
        &mut self,
        service: &'a DesiredService,
        replica: &'a DesiredReplica,
        container: &'a ObservedContainer,
    ) -> Vec<usize> {
        let mut steps = Vec::from_iter(self.rename(replica, container));
        steps.extend(self.update(service, replica, container));
        if let NetworkMode::Networks(_) = replica.spec.network_mode {
            let wanted = &replica.spec.networks;
            for (network, endpoint) in
                wanted.iter().filter(|(name, _)| !container.networks.contains(name))
            {
                let step = Step::ConnectNetwork {
                    id: container.id.clone(),
                    network: network.clone(),
                    endpoint: endpoint.clone(),
                };
                let planned = of_replica(replica, step, &Cause::Drifted { changes: Vec::new() });
                steps.push(self.draft.add(planned, self.networks.get(network.as_str()).copied()));
            }
            for network in container.networks.iter().filter(|name| !wanted.contains_key(*name)) {
                let step =
                    Step::DisconnectNetwork { id: container.id.clone(), network: network.clone() };
                let step = self
                    .draft
                    .add(of_replica(replica, step, &Cause::Drifted { changes: Vec::new() }), []);
                self.disconnects.entry(network).or_default().push(step);
            }
        }
        steps
    }

    fn update(
        &mut self,
        service: &DesiredService,
        replica: &DesiredReplica,
        container: &ObservedContainer,
    ) -> Option<usize> {
        let (from, to) = (&container.spec, &replica.spec);
        let mut changed =
            changes::of_values("resources", &from.resources, &to.resources, &service.origins);
        let resources = !changed.is_empty() || !container.drifted.is_empty();
        let restart = from.restart != to.restart;
        if restart {
            changed.extend(changes::of_values(
                "restart",
                &from.restart,
                &to.restart,
                &service.origins,
            ));
        }
        let ports = sorted(&from.ports) != sorted(&to.ports);
        if ports {
            changed.extend(changes::of_values("ports", &from.ports, &to.ports, &service.origins));
        }
        if !(resources || restart || ports) {
            return None;
        }
        let change = LiveChange {
            resources: resources.then(|| to.resources.clone()),
            restart: restart.then_some(to.restart),
            ports: ports.then(|| to.ports.clone()),
        };
        let cause = if changed.is_empty() {
            Cause::Drifted { changes: container.drifted.clone() }
        } else {
            Cause::LiveChanged { changes: changed }
        };
        let step = Step::UpdateContainer { id: container.id.clone(), change };
        Some(self.draft.add(of_replica(replica, step, &cause), []))
    }

    fn rename(
        &mut self,
        replica: &'a DesiredReplica,
        container: &'a ObservedContainer,
    ) -> Option<usize> {
        let to = replica.container_name.as_str();
        if container.name == to {
            return None;
        }
        let cause = match container.name == super::replace::temporary_name(to) {
            true => Cause::Duplicate,
            false => Cause::NameChanged,
        };
        let step = Step::RenameContainer { from: container.name.clone(), to: to.to_owned() };
        let step = self.draft.add(of_replica(replica, step, &cause), self.freed.get(to).copied());
        self.freed.insert(&container.name, step);
        Some(step)
    }
}

fn sorted<T: Ord + Clone>(items: &[T]) -> Vec<T> {
    let mut items = items.to_vec();
    items.sort();
    items
}

fn is_replaced(fate: &ServiceFate<'_>) -> bool {
    let mut actions = fate.replicas.iter().map(|(_, action)| action);
    actions.any(|action| matches!(action, Action::Replace { .. } | Action::Rebuild { .. }))
}

fn meets(container: &ObservedContainer, condition: Condition) -> bool {
    match condition {
        Condition::ServiceStarted => runs(container),
        Condition::ServiceHealthy => {
            matches!(container.state, State::Running { .. })
                && container.health == Some(Health::Healthy)
        }
        Condition::ServiceCompletedSuccessfully => {
            matches!(container.state, State::Exited { code: 0, .. })
        }
    }
}

/// Returns whether there is something to stop.
pub(super) fn runs(container: &ObservedContainer) -> bool {
    match container.state {
        State::Running { .. } | State::Paused | State::Restarting { .. } => true,
        State::Created | State::Exited { .. } | State::Removing => false,
    }
}

/// Returns the stop of `container` with its own grace; `None` in it is the engine's default or no end.
pub(super) fn stop(container: &ObservedContainer) -> Step {
    let seconds = container.spec.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok());
    let grace = seconds.map(Duration::from_secs);
    Step::StopContainer { id: container.id.clone(), grace, drain: None }
}

pub(super) fn of_container(container: &ObservedContainer, step: Step, cause: &Cause) -> Planned {
    Planned {
        step,
        cause: cause.clone(),
        service: Some(container.service.clone()),
        subject: match container.oneoff {
            true => container.name.clone(),
            false => format!("{}.{}", container.service, container.number),
        },
    }
}

pub(super) fn of_replica(replica: &DesiredReplica, step: Step, cause: &Cause) -> Planned {
    Planned {
        step,
        cause: cause.clone(),
        service: Some(replica.service.clone()),
        subject: match replica.oneoff {
            true => replica.container_name.clone(),
            false => format!("{}.{}", replica.service, replica.number),
        },
    }
}
