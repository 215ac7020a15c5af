//! Taking a stack away: dependents stop first, then everything goes. Volumes only when asked.

use std::collections::{BTreeMap, BTreeSet};

use super::steps::{of_container, runs, stop};
use crate::reconcile::cause::Cause;
use crate::reconcile::graph::Dependencies;
use crate::reconcile::host::Step;
use crate::reconcile::observed::{Observed, ObservedContainer};
use crate::reconcile::plan::{Draft, Order, Plan, Planned};
use crate::spec::name::ServiceName;

/// What goes with the containers and networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    KeepVolumes,
    RemoveVolumes,
}

/// Returns the plan that takes away all that is the stack's own. The order of stops comes from the labels
/// that the containers were made with, so that no file is needed.
pub fn plan_down(observed: &Observed, down: Down) -> Plan {
    let mut draft = Draft::default();
    let order = StopOrder::of(observed);
    let containers = order.sorted(observed.containers.values());
    let stops = order.add_stops(&mut draft, &containers);
    let mut removed: BTreeMap<&str, usize> = BTreeMap::new();
    for container in containers {
        let remove = Step::RemoveContainer { id: container.id.clone() };
        let stop = stops.get(container.id.as_str()).copied();
        let step = draft.add(of_container(container, remove, &Cause::Requested), stop);
        removed.insert(&container.id, step);
    }
    for (name, network) in observed.networks.iter().filter(|(_, network)| network.ours) {
        if !network.foreign_users.is_empty() {
            draft.warnings.push(format!(
                "network {name} stays: {} is on it",
                network.foreign_users.join(", ")
            ));
            continue;
        }
        let users =
            observed.containers.values().filter(|container| container.networks.contains(name));
        let users: Vec<usize> = users.map(|container| removed[container.id.as_str()]).collect();
        draft.add(
            removal(format!("network {name}"), Step::RemoveNetwork { name: name.clone() }),
            users,
        );
    }
    if down == Down::RemoveVolumes {
        let volumes =
            observed.volumes.iter().filter(|(_, there)| there.ours && !there.volume.external);
        for (name, _) in volumes {
            let step = Step::RemoveVolume { name: name.clone() };
            draft.add(removal(format!("volume {name}"), step), removed.values().copied());
        }
    }
    draft.finish()
}

fn removal(subject: String, step: Step) -> Planned {
    Planned { step, cause: Cause::Requested, service: None, subject }
}

/// Who depends on whom, by the labels that the containers were made with.
pub(super) struct StopOrder<'a> {
    /// Dependents first.
    position: BTreeMap<&'a ServiceName, usize>,
    needs: BTreeMap<&'a ServiceName, BTreeSet<ServiceName>>,
}

impl<'a> StopOrder<'a> {
    /// Reads the labels; by name when they say nonsense.
    pub(super) fn of(observed: &'a Observed) -> Self {
        let needs = labelled(observed);
        let pairs = needs.iter().map(|(name, needs)| (*name, needs.iter()));
        let order: Vec<&ServiceName> = Dependencies::from_pairs(pairs)
            .stop_order()
            .map(|order| {
                let known = order.into_iter().filter_map(|name| needs.get_key_value(name));
                known.map(|(name, _)| *name).collect()
            })
            .unwrap_or_else(|_| needs.keys().copied().collect());
        let position = order.into_iter().enumerate().map(|(place, name)| (name, place)).collect();
        Self { position, needs }
    }

    /// Sorts containers, dependents first.
    pub(super) fn sorted(
        &self,
        containers: impl Iterator<Item = &'a ObservedContainer>,
    ) -> Vec<&'a ObservedContainer> {
        let mut containers: Vec<&ObservedContainer> = containers.collect();
        containers
            .sort_by_key(|container| (self.position.get(&container.service), container.number));
        containers
    }

    /// Stops those of the sorted `containers` that run, each behind its dependents; returns the steps by id.
    pub(super) fn add_stops(
        &self,
        draft: &mut Draft,
        containers: &[&'a ObservedContainer],
    ) -> BTreeMap<&'a str, usize> {
        let mut stops = BTreeMap::new();
        let mut by_service: BTreeMap<&ServiceName, Vec<usize>> = BTreeMap::new();
        for container in containers.iter().copied().filter(|container| runs(container)) {
            let halt = draft.add(of_container(container, stop(container), &Cause::Requested), []);
            for dependent in self.dependents(&container.service) {
                for earlier in by_service.get(dependent).into_iter().flatten() {
                    draft.order(*earlier, halt, Order::After);
                }
            }
            by_service.entry(&container.service).or_default().push(halt);
            stops.insert(container.id.as_str(), halt);
        }
        stops
    }

    /// Labels that form a circle give no order: only what comes earlier is waited for.
    pub(super) fn dependents(&self, service: &ServiceName) -> Vec<&'a ServiceName> {
        let place = self.position.get(service);
        let dependents = self
            .needs
            .iter()
            .filter(|(name, needs)| needs.contains(service) && self.position.get(**name) < place);
        dependents.map(|(name, _)| *name).collect()
    }
}

/// Returns what each service depends on, as `com.docker.compose.depends_on` says: `db:condition:restart,…`.
fn labelled(observed: &Observed) -> BTreeMap<&ServiceName, BTreeSet<ServiceName>> {
    let mut needs: BTreeMap<&ServiceName, BTreeSet<ServiceName>> = BTreeMap::new();
    for container in observed.containers.values() {
        let label = container.spec.labels.get("com.docker.compose.depends_on");
        let names = label.into_iter().flat_map(|label| label.split(','));
        let names = names.filter_map(|entry| ServiceName::try_from(entry.split(':').next()?).ok());
        needs.entry(&container.service).or_default().extend(names);
    }
    needs
}
