//! A machine that is exactly as a stack wants it: what another stack is compared with when no real machine is meant.

use std::time::SystemTime;

use super::desired::{Desired, DesiredReplica, DesiredService};
use super::observed::{
    Health, Observed, ObservedContainer, ObservedNetwork, ObservedVolume, State,
};
use crate::spec::container::NetworkMode;
use crate::spec::stack::Condition;

impl Observed {
    /// Returns the machine on which `desired` needs nothing: all runs and is healthy, jobs are done.
    pub fn settled(desired: &Desired, now: SystemTime) -> Self {
        let replicas = desired.services.values().flat_map(|service| {
            let state = match is_job(desired, service) {
                true => State::Exited { code: 0, oom: false, at: SystemTime::UNIX_EPOCH },
                false => State::Running { since: SystemTime::UNIX_EPOCH },
            };
            service.replicas.iter().map(move |replica| settled(replica, state.clone()))
        });
        let networks = desired.networks.values().map(|network| {
            let (network, foreign_users) = (network.clone(), Vec::new());
            let ours = !network.external;
            (network.name.clone(), ObservedNetwork { network, ours, foreign_users })
        });
        let volumes = desired.volumes.values().map(|volume| {
            let ours = !volume.external;
            (volume.name.clone(), ObservedVolume { volume: volume.clone(), ours })
        });
        let images = desired.services.values().flat_map(|service| &service.replicas);
        let images = images.map(|replica| (replica.spec.image.clone(), image_of(replica)));
        Self {
            now,
            containers: replicas.map(|container| (container.id.clone(), container)).collect(),
            networks: networks.collect(),
            volumes: volumes.collect(),
            images: images.collect(),
            unobtainable: Default::default(),
            taken_ports: Vec::new(),
            missing_mounts: Vec::new(),
            foreign_names: Default::default(),
            dismissed: Default::default(),
            finished: Default::default(),
        }
    }
}

fn settled(replica: &DesiredReplica, state: State) -> ObservedContainer {
    let runs = matches!(state, State::Running { .. });
    let checked = replica
        .spec
        .healthcheck
        .as_ref()
        .is_some_and(|check| check.test.first().is_some_and(|word| word != "NONE"));
    ObservedContainer {
        id: replica.container_name.clone(),
        name: replica.container_name.clone(),
        service: replica.service.clone(),
        number: replica.number,
        oneoff: false,
        hash: replica.hash.clone(),
        spec: replica.spec.clone(),
        image_id: image_of(replica),
        state,
        health: (runs && checked).then_some(Health::Healthy),
        stopped_by_user: false,
        drifted: Vec::new(),
        restart_not_before: None,
        broken: None,
        networks: match replica.spec.network_mode {
            NetworkMode::Networks(_) => replica.spec.networks.keys().cloned().collect(),
            _ => Vec::new(),
        },
    }
}

/// An image that was never here is the same one as long as its name is.
fn image_of(replica: &DesiredReplica) -> String {
    replica.image_id.clone().unwrap_or_else(|| replica.spec.image.clone())
}

/// Whether somebody waits for its end.
fn is_job(desired: &Desired, service: &DesiredService) -> bool {
    desired.services.values().any(|other| {
        other.depends_on.get(&service.name).is_some_and(|dependency| {
            dependency.condition == Condition::ServiceCompletedSuccessfully
        })
    })
}
