//! One snapshot of this machine for the planner: rows, kernel limits, host ports, mount sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::engine::containers::Handle;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::{Container, Phase};
use crate::engine::state::limits::{self, Limits};
use crate::engine::state::networks::Network;
use crate::engine::state::volumes::Volume;
use crate::engine::state::{Durability, StateError, restarts, stacks};
use crate::reconcile::cause::Change;
use crate::reconcile::desired::{Desired, DesiredNetwork, DesiredVolume};
use crate::reconcile::observed::{
    Observed, ObservedContainer, ObservedNetwork, ObservedVolume, State,
};
use crate::spec::container::{ContainerSpec, MountKind, NetworkMode, PortSpec};
use crate::spec::name::ServiceName;

impl Engine {
    /// Returns all that belongs to the stack `name`, or that `desired` names.
    pub(crate) fn observe_stack(
        &self,
        name: &str,
        desired: Option<&Desired>,
    ) -> Result<Observed, EngineError> {
        let rows: Vec<_> = self.handles().iter().map(|handle| handle.row()).collect();
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for row in &rows {
            let is_ours = row.replica.as_ref().is_some_and(|replica| replica.stack == name);
            if is_ours { ours.push(&**row) } else { others.push(&**row) }
        }
        let networks = self.networks()?;
        let volumes = self.volumes()?;
        let mut observed = Observed {
            now: SystemTime::now(),
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            images: BTreeMap::new(),
            unobtainable: BTreeMap::new(),
            taken_ports: Vec::new(),
            missing_mounts: Vec::new(),
            foreign_names: BTreeMap::new(),
            dismissed: self.dismissed_replicas(name)?,
            finished: desired.map_or_else(|| Ok(BTreeSet::new()), |d| self.finished_jobs(d))?,
        };
        for row in &ours {
            if let Some(container) = self.observe_container(name, row)? {
                observed.containers.insert(row.id.clone(), container);
            }
        }
        // A removal that is under way leaves its mark at its end only.
        let going = ours.iter().filter(|row| row.phase == Phase::Removing && row.stopped_by_user);
        for replica in going.filter_map(|row| row.replica.as_ref()).filter(|r| !r.oneoff) {
            if let Ok(service) = ServiceName::try_from(replica.service.as_str()) {
                observed.dismissed.insert((service, replica.number));
            }
        }
        for network in &networks {
            observe_network(name, network, &others, desired, &mut observed);
        }
        for volume in &volumes {
            observe_volume(name, volume, desired, &mut observed);
        }
        if let Some(desired) = desired {
            self.observe_wishes(desired, &ours, &others, &mut observed);
        }
        Ok(observed)
    }

    fn dismissed_replicas(&self, stack: &str) -> Result<BTreeSet<(ServiceName, u32)>, EngineError> {
        let found = self.read(|connection| stacks::dismissed(connection, stack))?;
        let named = found.into_iter().filter_map(|(service, number)| {
            ServiceName::try_from(service).ok().map(|service| (service, number))
        });
        Ok(named.collect())
    }

    fn observe_container(
        &self,
        stack: &str,
        row: &Container,
    ) -> Result<Option<ObservedContainer>, EngineError> {
        let Some(replica) = &row.replica else { return Ok(None) };
        let Ok(service) = ServiceName::try_from(replica.service.as_str()) else { return Ok(None) };
        let backoff = subject(stack, service.as_str(), replica.number);
        let (restart, unhealthy) = self.read(|connection| {
            Ok::<_, StateError>((
                restarts::get(connection, &row.id)?,
                restarts::get(connection, &backoff)?,
            ))
        })?;
        let due = |backoff: Option<restarts::Backoff>| {
            backoff.and_then(|backoff| backoff.next_at).map(time)
        };
        Ok(Some(ObservedContainer {
            id: row.id.clone(),
            name: row.name.clone(),
            service,
            number: replica.number,
            oneoff: replica.oneoff,
            hash: row.hash.clone(),
            spec: row.spec.clone(),
            image_id: row.image_id.clone(),
            state: state(row, due(restart)),
            health: row.health.as_ref().map(crate::engine::health::Monitor::status),
            stopped_by_user: row.stopped_by_user,
            drifted: self.drift(row)?,
            restart_not_before: due(unhealthy),
            broken: self.broken(row),
            networks: networks_of(&row.spec),
        }))
    }

    /// A container that was removed behind our back. A process or shim that is gone is an exit, which the
    /// engine's own recovery and restart policy deal with.
    fn broken(&self, row: &Container) -> Option<String> {
        let folder = self.paths.container(&row.id);
        if matches!(row.phase, Phase::Creating | Phase::Removing) {
            return None;
        }
        if !folder.is_dir() {
            return Some(format!("its folder {} is gone", folder.display()));
        }
        let network = match &row.spec.network_mode {
            NetworkMode::Container(id) => Some(id.as_str()),
            _ => None,
        };
        let modes = [&row.spec.pid_mode, &row.spec.ipc_mode];
        let modes = modes.into_iter().filter_map(|mode| mode.strip_prefix("container:"));
        let gone = network.into_iter().chain(modes).find(|id| self.container(id).is_err());
        gone.map(|id| format!("container {}, whose namespaces it shares, is gone", short(id)))
    }

    /// Compares the limits of a running container with what the kernel told right after our own write.
    fn drift(&self, row: &Container) -> Result<Vec<Change>, EngineError> {
        let Some(told) = self.kernel_limits(row) else { return Ok(Vec::new()) };
        let known = self.read(|connection| limits::get(connection, &row.id))?;
        let known = known.filter(|known| {
            known.incarnation == told.incarnation && known.resources == told.resources
        });
        let Some(known) = known else {
            self.write(Durability::Process, |tx| limits::put(tx, &row.id, &told))?;
            return Ok(Vec::new());
        };
        Ok(differences(&known.told, &told.told))
    }

    /// Remembers what the kernel says now, right after a start or an update, unless it is remembered already.
    pub(crate) fn remember_limits(&self, handle: &Handle) -> Result<(), EngineError> {
        self.drift(&handle.row()).map(drop)
    }

    fn kernel_limits(&self, row: &Container) -> Option<Limits> {
        let runtime = row.runtime.as_ref().filter(|_| row.phase == Phase::Running)?;
        // A container that ends while we look has no cgroup any more.
        let cgroup = self.cgroup(row)?;
        if row.replica.is_some() {
            // Before they are read: a change after that is noticed.
            self.limit_watch.watch(&row.id, runtime.incarnation, &cgroup.limit_folders());
        }
        let told = cgroup.limits().ok()?;
        Some(Limits {
            incarnation: runtime.incarnation,
            resources: row.spec.resources.clone(),
            told,
        })
    }

    /// What else the planner must know of the machine for what is wanted.
    fn observe_wishes(
        &self,
        desired: &Desired,
        ours: &[&Container],
        others: &[&Container],
        observed: &mut Observed,
    ) {
        let ids: Vec<String> = ours.iter().map(|row| row.id.clone()).collect();
        let services = || desired.services.values().chain(&desired.oneoff);
        let replicas = || services().flat_map(|service| &service.replicas);
        let images: BTreeSet<&str> =
            replicas().map(|replica| replica.spec.image.as_str()).collect();
        for image in images {
            if let Some(id) = self.image_id(image) {
                observed.images.insert(image.to_owned(), id);
            } else if let Some(reason) = self.obstacle_to_pull(image) {
                observed.unobtainable.insert(image.to_owned(), reason.to_owned());
            }
        }
        let ports: BTreeSet<&PortSpec> =
            replicas().flat_map(|replica| &replica.spec.ports).collect();
        for port in ports {
            if let Some(holder) = self.port_holder(port, &ids) {
                observed.taken_ports.push((port.clone(), holder));
            }
        }
        observed.missing_mounts = missing_mounts(replicas().map(|replica| &replica.spec));
        let names: BTreeSet<&str> =
            replicas().map(|replica| replica.container_name.as_str()).collect();
        for row in others.iter().filter(|row| names.contains(row.name.as_str())) {
            let owner = match &row.replica {
                Some(replica) => format!("stack {}", replica.stack),
                None => maker(&format!("container {}", short(&row.id)), &row.spec.labels),
            };
            observed.foreign_names.insert(row.name.clone(), owner);
        }
    }

    /// Returns the digest of the config of the image that `reference` means, if it is here.
    pub(crate) fn image_id(&self, reference: &str) -> Option<String> {
        self.image(reference).ok().map(|image| image.id)
    }
}

/// Says of an object that no stack owns whose it is: docker compose's own are only observed.
fn maker(object: &str, labels: &BTreeMap<String, String>) -> String {
    match labels.get("com.docker.compose.project") {
        Some(project) => {
            format!(
                "docker compose's project {project}; `docker compose -p {project} down` removes it"
            )
        }
        None => object.to_owned(),
    }
}

/// Names the backoff of a replica in the database.
pub(crate) fn subject(stack: &str, service: &str, number: u32) -> String {
    format!("{stack}/{service}.{number}")
}

fn state(row: &Container, due: Option<SystemTime>) -> State {
    let exit = row.exit.as_ref();
    match row.phase {
        Phase::Creating | Phase::Created => State::Created,
        // A half-done start or stop is finished by its own verb, or by the engine's recovery.
        Phase::Starting | Phase::Running | Phase::Stopping => State::Running {
            since: row
                .runtime
                .as_ref()
                .map_or(SystemTime::UNIX_EPOCH, |runtime| time(runtime.started_at)),
        },
        Phase::Paused => State::Paused,
        Phase::Restarting => {
            State::Restarting { until: due, code: exit.map_or(0, |exit| exit.code) }
        }
        Phase::Exited => State::Exited {
            code: exit.map_or(0, |exit| exit.code),
            oom: exit.is_some_and(|exit| exit.oom),
            at: exit.map_or(SystemTime::UNIX_EPOCH, |exit| time(exit.at)),
        },
        Phase::Removing => State::Removing,
    }
}

fn time(nanoseconds: i64) -> SystemTime {
    let since = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or_default());
    SystemTime::UNIX_EPOCH + since
}

fn networks_of(spec: &ContainerSpec) -> Vec<String> {
    match &spec.network_mode {
        NetworkMode::Networks(_) => spec.networks.keys().cloned().collect(),
        NetworkMode::Default => vec!["bridge".to_owned()],
        NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_) => Vec::new(),
    }
}

fn differences(from: &BTreeMap<String, String>, to: &BTreeMap<String, String>) -> Vec<Change> {
    let keys: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let value = |map: &BTreeMap<String, String>, key: &String| {
        map.get(key).map(|text| serde_json::Value::String(text.clone()))
    };
    let changes = keys.into_iter().map(|key| Change {
        field: key.clone(),
        from: value(from, key),
        to: value(to, key),
        origin: None,
    });
    changes.filter(|change| change.from != change.to).collect()
}

fn observe_network(
    stack: &str,
    network: &Network,
    others: &[&Container],
    desired: Option<&Desired>,
    observed: &mut Observed,
) {
    let ours = network.stack.as_deref() == Some(stack);
    let wanted = desired.and_then(|desired| desired.networks.get(&network.name));
    if !ours && wanted.is_none() {
        return;
    }
    if !ours && wanted.is_some_and(|wanted| !wanted.external) {
        let owner = match &network.stack {
            Some(other) => format!("stack {other}"),
            None => {
                let object = format!("network {}, which no stack made", short(&network.id));
                maker(&object, &network.spec.labels)
            }
        };
        observed.foreign_names.insert(network.name.clone(), owner);
        return;
    }
    let spec = &network.spec;
    let label = spec.labels.get("com.docker.compose.network").cloned();
    let there = DesiredNetwork {
        name: network.name.clone(),
        key: label.unwrap_or_else(|| network.name.clone()),
        external: !ours,
        internal: spec.internal,
        enable_ipv6: spec.enable_ipv6,
        attachable: spec.attachable,
        driver: spec.driver.clone().unwrap_or_else(|| "bridge".to_owned()),
        driver_opts: spec.driver_opts.clone(),
        subnets: spec.subnets.clone(),
        labels: spec.labels.clone(),
    };
    let users = others.iter().filter(|row| {
        row.spec.networks.contains_key(&network.name) || row.spec.networks.contains_key(&network.id)
    });
    let foreign_users = users.map(|row| row.name.clone()).collect();
    let there = ObservedNetwork { network: there, ours, foreign_users };
    observed.networks.insert(network.name.clone(), there);
}

fn observe_volume(
    stack: &str,
    volume: &Volume,
    desired: Option<&Desired>,
    observed: &mut Observed,
) {
    let ours = volume.stack.as_deref() == Some(stack);
    let wanted = desired.and_then(|desired| desired.volumes.get(&volume.name));
    if (!ours && wanted.is_none()) || volume.anonymous {
        return;
    }
    let foreign = volume.stack.as_ref().filter(|_| !ours);
    if let (Some(other), Some(false)) = (foreign, wanted.map(|wanted| wanted.external)) {
        observed.foreign_names.insert(volume.name.clone(), format!("stack {other}"));
        return;
    }
    let label = volume.labels.get("com.docker.compose.volume").cloned();
    let there = DesiredVolume {
        name: volume.name.clone(),
        key: label.unwrap_or_else(|| volume.name.clone()),
        external: !ours,
        driver: if volume.driver.is_empty() { "local".to_owned() } else { volume.driver.clone() },
        driver_opts: volume.options.clone(),
        labels: volume.labels.clone(),
    };
    observed.volumes.insert(volume.name.clone(), ObservedVolume { volume: there, ours });
}

/// Returns the bind sources that are missing and that the file does not let us make.
fn missing_mounts<'a>(specs: impl Iterator<Item = &'a ContainerSpec>) -> Vec<String> {
    let sources: BTreeSet<&str> = specs
        .flat_map(|spec| &spec.mounts)
        .filter_map(|mount| match &mount.kind {
            MountKind::Bind { source, create_host_path: false, .. } => Some(source.as_str()),
            _ => None,
        })
        .collect();
    sources.into_iter().filter(|source| !Path::new(source).exists()).map(str::to_owned).collect()
}

pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    #[test]
    fn only_limits_that_the_kernel_tells_otherwise_than_before_are_drift() {
        let limits = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let before = limits(&[("memory.max", "67108864"), ("cpu.max", "max 100000")]);
        assert!(differences(&before, &before).is_empty());
        let after = limits(&[("memory.max", "33554432"), ("cpu.max", "max 100000")]);
        let found = differences(&before, &after);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "memory.max 67108864 → 33554432");
    }

    #[test]
    fn a_bind_source_is_missing_only_when_it_may_not_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let bind = |source: &str, create| crate::spec::container::Mount {
            target: "/x".to_owned(),
            read_only: false,
            kind: MountKind::Bind {
                source: source.to_owned(),
                create_host_path: create,
                recursive: true,
                propagation: String::new(),
            },
        };
        let there = folder.path().to_str().unwrap();
        let mounts = vec![bind(there, false), bind("/nonexistent/a", true), bind("/none/b", false)];
        let spec = ContainerSpec { mounts, ..ContainerSpec::default() };
        assert_eq!(missing_mounts([&spec].into_iter()), ["/none/b"]);
    }
}
