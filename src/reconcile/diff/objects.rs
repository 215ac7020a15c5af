//! Networks and volumes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::changes;
use super::fate::Action;
use super::steps::Planner;
use crate::reconcile::cause::{Cause, Change};
use crate::reconcile::desired::{Desired, DesiredNetwork, DesiredReplica, DesiredVolume};
use crate::reconcile::host::Step;
use crate::reconcile::observed::Observed;
use crate::reconcile::plan::{Order, Planned, Problem};
use crate::spec::container::MountKind;
use crate::spec::name::ServiceName;
use crate::spec::origins::Origins;

/// Returns the networks that must be made anew, and why. One that somebody else is on stays as it is.
pub(super) fn divergent_networks<'a>(
    desired: &'a Desired,
    observed: &'a Observed,
    resumed: &BTreeSet<&ServiceName>,
    warnings: &mut Vec<String>,
) -> BTreeMap<&'a str, Vec<Change>> {
    let mut divergent = BTreeMap::new();
    for (name, network) in desired.networks.iter().filter(|(_, network)| !network.external) {
        let Some(there) = observed.networks.get(name).filter(|there| there.ours) else { continue };
        let (from, to) = (network_view(&there.network), network_view(network));
        if from == to {
            continue;
        }
        let held = observed.containers.values().find(|container| {
            let planned_for =
                desired.services.contains_key(&container.service) && !container.oneoff;
            let left_alone = container.stopped_by_user && !resumed.contains(&container.service);
            container.networks.contains(name) && (!planned_for || left_alone)
        });
        match held.map(|container| &container.name).or(there.foreign_users.first()) {
            Some(user) => {
                warnings.push(format!("network {name} stays as it is while {user} is on it"))
            }
            None => {
                _ = divergent
                    .insert(name.as_str(), changes::of_values("", &from, &to, &Origins::default()))
            }
        }
    }
    divergent
}

fn network_view(network: &DesiredNetwork) -> Value {
    json!({
        "driver": network.driver,
        "driver_opts": network.driver_opts,
        "internal": network.internal,
        "enable_ipv6": network.enable_ipv6,
        "attachable": network.attachable,
        "subnets": network.subnets,
        "labels": own_labels(&network.labels),
    })
}

fn own_labels(labels: &BTreeMap<String, String>) -> BTreeMap<&String, &String> {
    labels.iter().filter(|(key, _)| !key.starts_with("com.docker.compose.")).collect()
}

impl Planner<'_> {
    /// Makes the networks that are missing, and those that changed anew.
    pub(super) fn make_networks(&mut self) {
        for (name, network) in &self.desired.networks {
            let subject = format!("network {name}");
            let create = Step::CreateNetwork { network: network.clone() };
            match self.observed.networks.get(name) {
                None if network.external => {
                    self.draft.problems.push(Problem::NetworkMissing { name: name.clone() });
                }
                // Made with the first container that needs it: the user may be taking everything away.
                None if !self.is_used(|replica| replica.spec.networks.contains_key(name)) => {}
                None => {
                    let planned =
                        Planned { step: create, cause: Cause::Missing, service: None, subject };
                    let step = self.draft.add(planned, []);
                    self.networks.insert(name, step);
                }
                Some(_) => {
                    let Some(changes) = self.fates.divergent.get(name.as_str()) else { continue };
                    let cause =
                        Cause::NetworkChanged { network: name.clone(), changes: changes.clone() };
                    let remove = Step::RemoveNetwork { name: name.clone() };
                    let users = self.removals_of_users(name);
                    let planned = Planned {
                        step: remove,
                        cause: cause.clone(),
                        service: None,
                        subject: subject.clone(),
                    };
                    let removed = self.draft.add(planned, users);
                    let planned = Planned { step: create, cause, service: None, subject };
                    let step = self.draft.add(planned, [removed]);
                    self.networks.insert(name, step);
                }
            }
        }
    }

    /// Returns whether a container that uses something is there or comes: not one that the user stopped or removed.
    fn is_used(&self, uses: impl Fn(&DesiredReplica) -> bool) -> bool {
        if self
            .desired
            .oneoff
            .iter()
            .flat_map(|service| &service.replicas)
            .any(|replica| uses(replica))
        {
            return true;
        }
        let mut replicas = self.fates.services.values().flat_map(|fate| &fate.replicas);
        replicas.any(|(replica, action)| {
            !matches!(action, Action::LeaveAlone | Action::Finished | Action::Blocked)
                && uses(replica)
        })
    }

    /// Makes the volumes that are missing. One that differs from the file stays: it holds data.
    pub(super) fn make_volumes(&mut self) {
        for (name, volume) in &self.desired.volumes {
            match self.observed.volumes.get(name) {
                None if volume.external => {
                    self.draft.problems.push(Problem::VolumeMissing { name: name.clone() });
                }
                None if !self.is_used(|replica| mounts(replica, name)) => {}
                None => {
                    let planned = Planned {
                        step: Step::CreateVolume { volume: volume.clone() },
                        cause: Cause::Missing,
                        service: None,
                        subject: format!("volume {name}"),
                    };
                    let step = self.draft.add(planned, []);
                    self.volumes.insert(name, step);
                }
                Some(there) if there.ours && differs(&there.volume, volume) => {
                    let warning =
                        format!("volume {name} has other options than the file says; it stays");
                    self.draft.warnings.push(warning);
                }
                Some(_) => {}
            }
        }
    }

    /// Removes the stack's networks that the file no longer names and that nobody is on.
    pub(super) fn remove_networks(&mut self) {
        for (name, there) in &self.observed.networks {
            if !there.ours
                || self.desired.networks.contains_key(name)
                || !there.foreign_users.is_empty()
            {
                continue;
            }
            let mut users = self.observed.containers.values().filter(|c| c.networks.contains(name));
            if users.any(|container| !self.leaves(container, name)) {
                continue;
            }
            let leaving = self.removals_of_users(name);
            let planned = Planned {
                step: Step::RemoveNetwork { name: name.clone() },
                cause: Cause::Orphaned,
                service: None,
                subject: format!("network {name}"),
            };
            let step = self.draft.add(planned, leaving);
            let disconnects = self.disconnects.get(name.as_str()).cloned().unwrap_or_default();
            for disconnect in disconnects {
                self.draft.order(disconnect, step, Order::Needs);
            }
        }
    }
}

fn mounts(replica: &DesiredReplica, volume: &str) -> bool {
    replica.spec.mounts.iter().any(
        |mount| matches!(&mount.kind, MountKind::Volume { name: Some(name), .. } if name == volume),
    )
}

fn differs(there: &DesiredVolume, wanted: &DesiredVolume) -> bool {
    there.driver != wanted.driver || there.driver_opts != wanted.driver_opts
}
