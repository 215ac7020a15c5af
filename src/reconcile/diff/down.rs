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
    let mut stops: BTreeMap<&ServiceName, Vec<usize>> = BTreeMap::new();
    let mut removed: BTreeMap<&str, usize> = BTreeMap::new();
    let order = stop_order(observed);
    let mut containers: Vec<&ObservedContainer> = observed.containers.values().collect();
    let position: BTreeMap<&ServiceName, usize> =
        order.iter().enumerate().map(|(i, n)| (*n, i)).collect();
    containers.sort_by_key(|container| (position.get(&container.service), container.number));
    let dependents = dependents(observed, &position);
    for container in containers {
        let mut needs = Vec::new();
        if runs(container) {
            let halt = draft.add(of_container(container, stop(container), &Cause::Requested), []);
            for dependent in dependents.get(&container.service).into_iter().flatten() {
                for earlier in stops.get(dependent).into_iter().flatten() {
                    draft.order(*earlier, halt, Order::After);
                }
            }
            stops.entry(&container.service).or_default().push(halt);
            needs.push(halt);
        }
        let remove = Step::RemoveContainer { id: container.id.clone() };
        let step = draft.add(of_container(container, remove, &Cause::Requested), needs);
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

/// Returns the services, dependents first; by name when the labels say nonsense.
fn stop_order(observed: &Observed) -> Vec<&ServiceName> {
    let needs = labelled(observed);
    let pairs = needs.iter().map(|(name, needs)| (*name, needs.iter()));
    Dependencies::from_pairs(pairs)
        .stop_order()
        .map(|order| {
            order
                .into_iter()
                .filter_map(|name| needs.get_key_value(name))
                .map(|(n, _)| *n)
                .collect()
        })
        .unwrap_or_else(|_| needs.keys().copied().collect())
}

fn dependents<'a>(
    observed: &'a Observed,
    position: &BTreeMap<&'a ServiceName, usize>,
) -> BTreeMap<ServiceName, Vec<&'a ServiceName>> {
    let mut dependents: BTreeMap<ServiceName, Vec<&ServiceName>> = BTreeMap::new();
    for (name, needs) in labelled(observed) {
        for need in needs {
            // Labels that form a circle give no order: only what comes earlier is waited for.
            if position.get(name) < position.get(&need) {
                dependents.entry(need).or_default().push(name);
            }
        }
    }
    dependents
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
