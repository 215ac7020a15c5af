//! A host that is a simulated machine: a virtual clock, a seed, and faults. The same seed is the same history.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::desired::{Desired, DesiredReplica};
use super::host::{Host, HostError, NewContainer, Step};
use super::observed::{
    Health, Observed, ObservedContainer, ObservedNetwork, ObservedVolume, State,
};
use crate::spec::container::NetworkMode;
use crate::spec::name::StackName;
use crate::spec::stack::Condition;

/// A small generator of pseudo-random numbers (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }
}

#[derive(Debug)]
pub struct Machine {
    pub observed: Observed,
    pub random: Random,
    /// Of a hundred steps, so many fail; half of those were done all the same.
    pub failing: u64,
    made: u64,
}

/// A simulated machine behind the reconciler's door.
#[derive(Debug)]
pub struct Simulation {
    machine: Mutex<Machine>,
}

impl Simulation {
    pub fn new(seed: u64) -> Self {
        let observed = Observed {
            now: SystemTime::UNIX_EPOCH,
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            images: BTreeMap::new(),
            unobtainable: BTreeMap::new(),
            taken_ports: Vec::new(),
            missing_mounts: Vec::new(),
            foreign_names: BTreeMap::new(),
            dismissed: Default::default(),
            finished: Default::default(),
        };
        Self {
            machine: Mutex::new(Machine {
                observed,
                random: Random::new(seed),
                failing: 0,
                made: 0,
            }),
        }
    }

    pub fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().expect("no test panics while it holds the machine")
    }
}

impl Host for Simulation {
    async fn observe(&self, _: &StackName, _: Option<&Desired>) -> Result<Observed, HostError> {
        Ok(self.machine().observed.clone())
    }

    async fn execute(&self, _: &StackName, step: &Step) -> Result<(), HostError> {
        let mut machine = self.machine();
        let failing = machine.failing;
        let fails = machine.random.below(100) < failing;
        if fails && machine.random.below(2) == 0 {
            return Err(refused("injected, before".to_owned()));
        }
        machine.execute(step)?;
        if fails { Err(refused("injected, after".to_owned())) } else { Ok(()) }
    }
}

fn refused(message: String) -> HostError {
    HostError { message, permanent: false, hint: None }
}

impl Machine {
    /// Carries one step out, and refuses what a real machine would refuse.
    fn execute(&mut self, step: &Step) -> Result<(), HostError> {
        let observed = &mut self.observed;
        observed.now += Duration::from_millis(10);
        match step {
            Step::CreateNetwork { network } => {
                let made = ObservedNetwork {
                    network: network.clone(),
                    ours: true,
                    foreign_users: Vec::new(),
                };
                observed.networks.entry(network.name.clone()).or_insert(made);
            }
            Step::RemoveNetwork { name } => {
                if let Some(user) = observed.containers.values().find(|c| c.networks.contains(name))
                {
                    return Err(refused(format!("network {name} is used by {}", user.name)));
                }
                observed.networks.remove(name);
            }
            Step::CreateVolume { volume } => {
                let made = ObservedVolume { volume: volume.clone(), ours: true };
                observed.volumes.entry(volume.name.clone()).or_insert(made);
            }
            Step::RemoveVolume { name } => _ = observed.volumes.remove(name),
            Step::PullImage { reference } => {
                observed.images.insert(reference.clone(), format!("sha256:{reference}"));
            }
            Step::CreateContainer { name, replica } => return self.create(name, replica),
            Step::StartContainer { id } => return self.start(id),
            Step::StartNew { name } => {
                let id = self.id_of(name)?;
                return self.start(&id);
            }
            Step::StopContainer { id, .. } => {
                let at = observed.now;
                if let Some(container) = observed.containers.get_mut(id) {
                    container.state = State::Exited { code: 143, oom: false, at };
                    container.health = None;
                }
            }
            Step::RemoveContainer { id } => {
                let container = observed.containers.get(id);
                if container.is_some_and(|c| matches!(c.state, State::Running { .. })) {
                    return Err(refused(format!("{id} is running")));
                }
                observed.containers.remove(id);
            }
            Step::RenameContainer { from, to } => {
                let Ok(id) = self.id_of(from) else { return self.id_of(to).map(drop) };
                if self.id_of(to).is_ok() {
                    return Err(refused(format!("{to} exists")));
                }
                self.container(&id)?.name = to.clone();
            }
            Step::UpdateContainer { id, change } => {
                let container = self.container(id)?;
                if let Some(resources) = &change.resources {
                    container.spec.resources = resources.clone();
                    container.drifted = Vec::new();
                }
                container.spec.restart = change.restart.unwrap_or(container.spec.restart);
                if let Some(ports) = &change.ports {
                    container.spec.ports = ports.clone();
                }
            }
            Step::ConnectNetwork { id, network, .. } => {
                self.container(id)?.networks.push(network.clone())
            }
            Step::DisconnectNetwork { id, network } => {
                self.container(id)?.networks.retain(|n| n != network)
            }
            Step::WaitFor { condition, containers, .. } => {
                return self.wait(*condition, containers);
            }
            Step::Monitor { container, .. } => {
                return self.wait(Condition::ServiceStarted, std::slice::from_ref(container));
            }
            Step::CheckFailures { containers, tolerated } => {
                let good = |new: &&NewContainer| {
                    observed.containers.values().any(|container| {
                        container.name == new.name
                            && container.hash == new.hash
                            && matches!(container.state, State::Running { .. })
                            && container.health != Some(Health::Unhealthy)
                    })
                };
                let failed = containers.len() - containers.iter().filter(good).count();
                if failed > *tolerated {
                    return Err(refused(format!("{failed} failed")));
                }
            }
            // The virtual clock is advanced by the history, not by steps.
            Step::Pause { .. } => {}
        }
        Ok(())
    }

    fn create(&mut self, name: &str, replica: &DesiredReplica) -> Result<(), HostError> {
        if self.id_of(name).is_ok() {
            return Err(refused(format!("{name} exists")));
        }
        let networks: Vec<String> = match replica.spec.network_mode {
            NetworkMode::Networks(_) => replica.spec.networks.keys().cloned().collect(),
            _ => Vec::new(),
        };
        if let Some(missing) =
            networks.iter().find(|network| !self.observed.networks.contains_key(*network))
        {
            return Err(refused(format!("no network {missing}")));
        }
        let Some(image) = self.observed.images.get(&replica.spec.image) else {
            return Err(refused(format!("no image {}", replica.spec.image)));
        };
        self.made += 1;
        let id = format!("{:08}", self.made);
        let container = ObservedContainer {
            id: id.clone(),
            name: name.to_owned(),
            service: replica.service.clone(),
            number: replica.number,
            oneoff: false,
            hash: replica.hash.clone(),
            spec: replica.spec.clone(),
            image_id: replica.image_id.clone().unwrap_or_else(|| image.clone()),
            state: State::Created,
            health: None,
            stopped_by_user: false,
            drifted: Vec::new(),
            restart_not_before: None,
            broken: None,
            networks,
        };
        self.observed.containers.insert(id, container);
        Ok(())
    }

    /// Programs named `job…` finish at once; one time in eight they fail.
    fn start(&mut self, id: &str) -> Result<(), HostError> {
        let now = self.observed.now;
        let code = i32::from(self.random.below(8) == 0);
        let container = self.container(id)?;
        container.stopped_by_user = false;
        if container.service.as_str().starts_with("job") {
            container.state = State::Exited { code, oom: false, at: now };
            return Ok(());
        }
        container.state = State::Running { since: now };
        container.health = container.spec.healthcheck.is_some().then_some(Health::Starting);
        Ok(())
    }

    /// Lets time pass until the health is known.
    fn wait(&mut self, condition: Condition, containers: &[String]) -> Result<(), HostError> {
        for name in containers {
            let id = self.id_of(name)?;
            let container = self.container(&id)?;
            let met = match (condition, &container.state) {
                (Condition::ServiceStarted, State::Running { .. }) => true,
                (Condition::ServiceHealthy, State::Running { .. }) => {
                    container.health = container.health.map(|_| Health::Healthy);
                    true
                }
                (Condition::ServiceCompletedSuccessfully, State::Exited { code, .. }) => *code == 0,
                _ => false,
            };
            if !met {
                return Err(refused(format!("{name} can no longer be as waited for")));
            }
        }
        Ok(())
    }

    fn id_of(&self, name: &str) -> Result<String, HostError> {
        let mut containers = self.observed.containers.values();
        let found = containers.find(|container| container.name == name);
        found
            .map(|container| container.id.clone())
            .ok_or_else(|| refused(format!("no container {name}")))
    }

    fn container(&mut self, id: &str) -> Result<&mut ObservedContainer, HostError> {
        self.observed.containers.get_mut(id).ok_or_else(|| refused(format!("no container {id}")))
    }
}
