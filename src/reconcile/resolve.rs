//! From a stack to what is wanted of this machine: names, labels, and the hash that forces a re-creation.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::desired::{Desired, DesiredNetwork, DesiredReplica, DesiredService, DesiredVolume};
use crate::spec::container::{
    ContainerSpec, MountKind, NetworkMode, PortSpec, Resources, RestartPolicy,
};
use crate::spec::digest::Digest;
use crate::spec::name::ServiceName;
use crate::spec::parallel;
use crate::spec::stack::{Condition, Dependency, Network, Service, Stack, Volume};

/// Labels that compose and its tools read.
const LABELS: &str = "com.docker.compose.";
/// Compose's label for the id of the image that a container was made of. The host sets it, as a plan may be made
/// before the image is there.
pub const IMAGE_LABEL: &str = "com.docker.compose.image";
/// Compose's label for its hash of a service. The host sets it, as the hash may name containers by their ids.
pub const CONFIG_HASH_LABEL: &str = "com.docker.compose.config-hash";
/// Where compose tells its version, we tell ours.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Desired {
    /// Settles every name of `stack`. `images` maps references to the config digests that they mean now.
    pub fn resolve(stack: &Stack, images: &BTreeMap<String, String>) -> Self {
        let services: Vec<_> = stack.services.iter().collect();
        let services = parallel::map(&services, |(name, service)| {
            (ServiceName::clone(name), resolve_service(stack, service, images))
        });
        let networks = stack.networks.iter().map(|(key, network)| {
            let network = resolve_network(stack, key, network);
            (network.name.clone(), network)
        });
        let volumes = stack.volumes.iter().map(|(key, volume)| {
            let volume = resolve_volume(stack, key, volume);
            (volume.name.clone(), volume)
        });
        Self {
            name: stack.name.clone(),
            services: services.into_iter().collect(),
            networks: networks.collect(),
            volumes: volumes.collect(),
            unselected: stack.disabled.clone(),
            oneoff: None,
        }
    }

    /// Adds a container of `service` beside its replicas, with the networks and volumes that it uses; `stack` is the
    /// one that defines them. Its aliases are those of the service when `aliases` says so.
    pub fn add_oneoff(
        &mut self,
        stack: &Stack,
        service: &Service,
        images: &BTreeMap<String, String>,
        aliases: OneoffAliases,
    ) {
        let mut oneoff = resolve_service(stack, service, images);
        for replica in oneoff.replicas.iter_mut().map(Arc::make_mut) {
            replica.oneoff = true;
            replica.spec.labels.insert(format!("{LABELS}oneoff"), "True".to_owned());
            if aliases == OneoffAliases::None {
                replica.spec.networks.values_mut().for_each(|endpoint| endpoint.aliases.clear());
            }
            replica.hash = spec_hash(&mut replica.spec);
        }
        let all = Self::resolve(stack, images);
        let spec = &service.container;
        let used = |key: &str| spec.networks.contains_key(key);
        self.networks.extend(all.networks.into_iter().filter(|(_, network)| used(&network.key)));
        let used = |key: &str| {
            let mut mounts = spec.mounts.iter();
            mounts.any(|mount| matches!(&mount.kind, MountKind::Volume { name: Some(name), .. } if name == key))
        };
        self.volumes.extend(all.volumes.into_iter().filter(|(_, volume)| used(&volume.key)));
        self.oneoff = Some(oneoff);
    }
}

/// Whether other containers reach a one-off one by the names of its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OneoffAliases {
    None,
    OfService,
}

fn resolve_service(
    stack: &Stack,
    service: &Service,
    images: &BTreeMap<String, String>,
) -> DesiredService {
    let mut depends_on = service.depends_on.clone();
    let shared = [
        match &service.container.network_mode {
            NetworkMode::Container(other) => other.as_str(),
            _ => "",
        },
        &service.container.pid_mode,
        &service.container.ipc_mode,
    ];
    // Whoever lives in another service's namespaces starts after it, and again when it is replaced.
    for other in shared.iter().filter_map(|mode| mode.strip_prefix("service:")) {
        if let Ok(other) = ServiceName::try_from(other) {
            let started =
                Dependency { condition: Condition::ServiceStarted, restart: true, required: true };
            depends_on.entry(other).or_insert(started).restart = true;
        }
    }
    let replicas = (1..=service.replicas).map(|number| {
        let mut spec = resolve_container(stack, service, number);
        let hash = spec_hash(&mut spec);
        // Compose counts a container to a project only if it has one. The host puts compose's own in its place,
        // where there is one.
        spec.labels.insert(CONFIG_HASH_LABEL.to_owned(), hash.clone());
        Arc::new(DesiredReplica {
            service: service.name.clone(),
            number,
            oneoff: false,
            container_name: container_name(stack, service, number),
            hash,
            image_id: images.get(&spec.image).cloned(),
            spec,
            compose_hash: service.compose_hash.as_ref().map(|hash| {
                hash.renamed(|other| shared_container(stack, &format!("service:{other}")))
            }),
        })
    });
    DesiredService {
        name: service.name.clone(),
        replicas: replicas.collect(),
        depends_on,
        pull_policy: service.pull_policy,
        update: service.update,
        rollback: service.rollback,
        on_unhealthy: service.on_unhealthy,
        restart_limits: service.restart_limits,
        origins: service.origins.clone(),
    }
}

fn container_name(stack: &Stack, service: &Service, number: u32) -> String {
    match &service.container_name {
        Some(name) => name.clone(),
        None => format!("{}-{}-{number}", stack.name, service.name),
    }
}

fn resolve_container(stack: &Stack, service: &Service, number: u32) -> ContainerSpec {
    let mut spec = ContainerSpec::clone(&service.container);
    let name_of =
        |key: &str| stack.networks.get(key).map_or(key.to_owned(), |n| network_name(stack, key, n));
    spec.networks = std::mem::take(&mut spec.networks)
        .into_iter()
        .map(|(key, mut endpoint)| {
            // Compose gives every endpoint the service's name, which is what siblings look up.
            if !endpoint.aliases.iter().any(|alias| alias == service.name.as_str()) {
                endpoint.aliases.push(service.name.as_str().to_owned());
            }
            (name_of(&key), endpoint)
        })
        .collect();
    match &mut spec.network_mode {
        NetworkMode::Networks(first) => *first = name_of(first),
        NetworkMode::Container(other) => *other = shared_container(stack, other),
        NetworkMode::Default | NetworkMode::Host | NetworkMode::None => {}
    }
    for mode in [&mut spec.pid_mode, &mut spec.ipc_mode] {
        if mode.starts_with("service:") {
            *mode = format!("container:{}", shared_container(stack, mode));
        }
    }
    for link in &mut spec.links {
        if let Some(text) = link.strip_prefix("service:") {
            let (service, alias) = text.split_once(':').unwrap_or((text, text));
            *link = format!("{}:{alias}", shared_container(stack, &format!("service:{service}")));
        }
    }
    for from in &mut spec.volumes_from {
        *from = shared_volumes(stack, from);
    }
    for mount in &mut spec.mounts {
        if let MountKind::Volume { name: Some(name), .. } = &mut mount.kind
            && let Some(volume) = stack.volumes.get(name)
        {
            *name = volume_name(stack, name, volume);
        }
    }
    spec.labels.extend(container_labels(stack, service, number));
    spec
}

/// Returns the container name that `service:NAME` means: the service's first replica.
fn shared_container(stack: &Stack, mode: &str) -> String {
    let Some(service) = mode.strip_prefix("service:") else { return mode.to_owned() };
    ServiceName::try_from(service).ok().and_then(|name| stack.services.get(&name)).map_or_else(
        || format!("{}-{service}-1", stack.name),
        |other| container_name(stack, other, 1),
    )
}

/// Returns the names of the containers in whose namespaces `spec` lives.
pub(super) fn shared_namespaces(spec: &ContainerSpec) -> impl Iterator<Item = &str> {
    let network = match &spec.network_mode {
        NetworkMode::Container(name) => Some(name.as_str()),
        _ => None,
    };
    let modes = [&spec.pid_mode, &spec.ipc_mode];
    network.into_iter().chain(modes.into_iter().filter_map(|mode| mode.strip_prefix("container:")))
}

/// Returns the names of the containers that must be there when `spec` is made.
pub(super) fn needed_containers(spec: &ContainerSpec) -> impl Iterator<Item = &str> {
    let others = spec.volumes_from.iter().chain(&spec.links);
    shared_namespaces(spec).chain(others.map(|word| word.split(':').next().unwrap_or(word)))
}

/// Resolves `service:NAME[:ro]` of `volumes_from`; all else is a container's name.
fn shared_volumes(stack: &Stack, from: &str) -> String {
    let Some(named) = from.strip_prefix("service:") else { return from.to_owned() };
    let (service, mode) = named.split_once(':').map_or((named, None), |(s, m)| (s, Some(m)));
    let container = shared_container(stack, &format!("service:{service}"));
    match mode {
        Some(mode) => format!("{container}:{mode}"),
        None => container,
    }
}

fn container_labels(stack: &Stack, service: &Service, number: u32) -> BTreeMap<String, String> {
    let depends_on: Vec<String> = service
        .depends_on
        .iter()
        .map(|(name, dependency)| {
            let condition = match dependency.condition {
                Condition::ServiceStarted => "service_started",
                Condition::ServiceHealthy => "service_healthy",
                Condition::ServiceCompletedSuccessfully => "service_completed_successfully",
            };
            format!("{name}:{condition}:{}", dependency.restart)
        })
        .collect();
    let labels = [
        ("project", stack.name.as_str().to_owned()),
        ("service", service.name.as_str().to_owned()),
        ("container-number", number.to_string()),
        ("oneoff", "False".to_owned()),
        ("version", VERSION.to_owned()),
        ("project.working_dir", stack.working_dir.clone()),
        ("project.config_files", stack.config_files.join(",")),
        ("depends_on", depends_on.join(",")),
    ];
    labels.into_iter().map(|(key, value)| (format!("{LABELS}{key}"), value)).collect()
}

fn network_name(stack: &Stack, key: &str, network: &Network) -> String {
    match &network.name {
        Some(name) => name.clone(),
        None if network.external => key.to_owned(),
        None => format!("{}_{key}", stack.name),
    }
}

fn volume_name(stack: &Stack, key: &str, volume: &Volume) -> String {
    match &volume.name {
        Some(name) => name.clone(),
        None if volume.external => key.to_owned(),
        None => format!("{}_{key}", stack.name),
    }
}

fn resolve_network(stack: &Stack, key: &str, network: &Network) -> DesiredNetwork {
    DesiredNetwork {
        name: network_name(stack, key, network),
        key: key.to_owned(),
        external: network.external,
        internal: network.internal,
        enable_ipv6: network.enable_ipv6,
        attachable: network.attachable,
        driver: network.driver.clone().unwrap_or_else(|| "bridge".to_owned()),
        driver_opts: network.driver_opts.clone(),
        subnets: network.subnets.clone(),
        labels: object_labels(stack, "network", key, &network.labels),
    }
}

fn resolve_volume(stack: &Stack, key: &str, volume: &Volume) -> DesiredVolume {
    DesiredVolume {
        name: volume_name(stack, key, volume),
        key: key.to_owned(),
        external: volume.external,
        driver: volume.driver.clone().unwrap_or_else(|| "local".to_owned()),
        driver_opts: volume.driver_opts.clone(),
        labels: object_labels(stack, "volume", key, &volume.labels),
    }
}

fn object_labels(
    stack: &Stack,
    kind: &str,
    key: &str,
    own: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut labels = own.clone();
    labels.insert(format!("{LABELS}project"), stack.name.as_str().to_owned());
    labels.insert(format!("{LABELS}{kind}"), key.to_owned());
    labels.insert(format!("{LABELS}version"), VERSION.to_owned());
    labels
}

/// Returns the digest of what forces a re-creation. The image's id is compared by itself, so that a
/// container made before its image was pinned keeps its hash.
///
/// Fields count in the order of their declaration and only when they are set: one that is added at any place changes no
/// hash, one that moves changes all, and an upgrade would replace every container.
fn spec_hash(spec: &mut ContainerSpec) -> String {
    // Taken out and put back: a copy for each replica would be most of a plan's work.
    let live = LiveFields::take(spec);
    let text = serde_json::to_vec(spec).expect("a spec has only string keys");
    live.put_back(spec);
    Digest::from_bytes(&Sha256::digest(&text).into()).hex().to_owned()
}

/// Returns `spec` without its [`LiveFields`].
pub(super) fn without_live_fields(spec: &ContainerSpec) -> ContainerSpec {
    let mut fixed = spec.clone();
    drop(LiveFields::take(&mut fixed));
    fixed
}

/// What can change while the container runs, and the labels that only tell tools where it came from: moving the
/// stack's folder replaces nothing.
struct LiveFields {
    resources: Resources,
    restart: RestartPolicy,
    ports: Vec<PortSpec>,
    labels: BTreeMap<String, String>,
}

impl LiveFields {
    fn take(spec: &mut ContainerSpec) -> Self {
        let all = std::mem::take(&mut spec.labels);
        let (labels, own) = all.into_iter().partition(|(key, _)| key.starts_with(LABELS));
        spec.labels = own;
        Self {
            resources: std::mem::take(&mut spec.resources),
            restart: std::mem::replace(&mut spec.restart, RestartPolicy::No),
            ports: std::mem::take(&mut spec.ports),
            labels,
        }
    }

    fn put_back(self, spec: &mut ContainerSpec) {
        (spec.resources, spec.restart, spec.ports) = (self.resources, self.restart, self.ports);
        spec.labels.extend(self.labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_whose_volumes_are_shared_is_its_first_container() {
        let stack = Stack {
            name: crate::spec::name::StackName::try_from("shop".to_owned()).expect("it is a name"),
            services: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            working_dir: String::new(),
            config_files: Vec::new(),
            disabled: Vec::new(),
        };
        assert_eq!(shared_volumes(&stack, "service:db:ro"), "shop-db-1:ro");
        assert_eq!(shared_volumes(&stack, "service:db"), "shop-db-1");
        assert_eq!(shared_volumes(&stack, "other:ro"), "other:ro");
    }

    #[test]
    fn the_hash_is_that_of_every_version_and_counts_no_live_field() {
        let mut spec = ContainerSpec {
            image: "nginx:alpine".to_owned(),
            command: Some(vec!["nginx".to_owned()]),
            hostname: Some("web".to_owned()),
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            network_mode: NetworkMode::Networks("front".to_owned()),
            auto_remove: true,
            ..ContainerSpec::default()
        };
        let golden = "fd2151775b24e2eb4bb0805c5da34c6de9caad37385dc756176799eb087a340d";
        assert_eq!(spec_hash(&mut spec), golden);
        spec.resources.pids_limit = Some(5);
        spec.restart = RestartPolicy::Always;
        spec.labels.insert(format!("{LABELS}version"), "9".to_owned());
        let before = spec.clone();
        assert_eq!(spec_hash(&mut spec), golden);
        assert_eq!(spec, before, "all is put back");
        spec.hostname = None;
        assert_ne!(spec_hash(&mut spec), golden);
    }
}
