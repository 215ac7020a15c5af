//! What stands against a plan, found before anything is touched: only what its own steps need counts.

use std::collections::BTreeSet;

use crate::reconcile::desired::{Desired, DesiredService};
use crate::reconcile::host::Step;
use crate::reconcile::observed::Observed;
use crate::reconcile::plan::{Draft, Problem};
use crate::spec::container::{MountKind, PortSpec, Protocol};
use crate::spec::name::ServiceName;

/// Adds the problems of `draft`'s steps to it.
pub(super) fn check(desired: &Desired, observed: &Observed, draft: &mut Draft) {
    let mut problems = Vec::new();
    let services = draft.services().into_iter().filter_map(|name| desired.services.get(name));
    for service in services.chain(&desired.oneoff) {
        check_ports(service, observed, &mut problems);
        check_mounts(service, observed, &mut problems);
    }
    let names: BTreeSet<&str> =
        draft.steps().filter_map(|planned| new_name(&planned.step)).collect();
    for name in names {
        if let Some(owner) = observed.foreign_names.get(name) {
            problems.push(Problem::NameTaken { name: name.to_owned(), owner: owner.clone() });
        }
    }
    draft.problems.extend(problems);
}

/// Returns the services that can't be brought up because of the problems of `draft`.
pub(super) fn concerned(desired: &Desired, draft: &Draft) -> BTreeSet<ServiceName> {
    let mut services = BTreeSet::new();
    let using = |uses: &dyn Fn(&DesiredService) -> bool| {
        let users = desired.services.values().filter(|service| uses(service));
        users.map(|service| service.name.clone()).collect::<Vec<_>>()
    };
    for problem in &draft.problems {
        match problem {
            Problem::Cycle { services: all } => services.extend(all.iter().cloned()),
            Problem::PortTaken { service, .. }
            | Problem::ImageMissing { service, .. }
            | Problem::ImageUnobtainable { service, .. }
            | Problem::ImageNotBuilt { service, .. }
            | Problem::MountMissing { service, .. }
            | Problem::StartFirstImpossible { service, .. } => _ = services.insert(service.clone()),
            Problem::NetworkMissing { name } => services.extend(using(&|s| uses_network(s, name))),
            Problem::VolumeMissing { name } => services.extend(using(&|s| uses_volume(s, name))),
            Problem::NameTaken { name, .. } => {
                let named = |service: &DesiredService| {
                    service.replicas.iter().any(|replica| replica.container_name == *name)
                        || uses_network(service, name)
                        || uses_volume(service, name)
                };
                services.extend(using(&named));
            }
        }
    }
    services
}

fn uses_network(service: &DesiredService, name: &str) -> bool {
    service.replicas.iter().any(|replica| replica.spec.networks.contains_key(name))
}

fn uses_volume(service: &DesiredService, name: &str) -> bool {
    let mut mounts = service.replicas.iter().flat_map(|replica| &replica.spec.mounts);
    mounts.any(|mount| matches!(&mount.kind, MountKind::Volume { name: Some(volume), .. } if volume == name))
}

fn new_name(step: &Step) -> Option<&str> {
    match step {
        Step::CreateNetwork { network } => Some(&network.name),
        Step::CreateVolume { volume } => Some(&volume.name),
        Step::CreateContainer { replica, .. } => Some(&replica.container_name),
        Step::RenameContainer { to, .. } => Some(to),
        _ => None,
    }
}

fn check_ports(service: &DesiredService, observed: &Observed, problems: &mut Vec<Problem>) {
    let wanted: BTreeSet<&PortSpec> =
        service.replicas.iter().flat_map(|replica| &replica.spec.ports).collect();
    for (port, holder) in observed.taken_ports.iter().filter(|(port, _)| wanted.contains(port)) {
        let problem = Problem::PortTaken {
            service: service.name.clone(),
            port: shown(port),
            holder: holder.clone(),
        };
        problems.push(problem);
    }
}

fn check_mounts(service: &DesiredService, observed: &Observed, problems: &mut Vec<Problem>) {
    let mounts = service.replicas.iter().flat_map(|replica| &replica.spec.mounts);
    let sources: BTreeSet<&String> = mounts
        .filter_map(|mount| match &mount.kind {
            MountKind::Bind { source, .. } => Some(source),
            MountKind::Volume { .. } | MountKind::Tmpfs { .. } => None,
        })
        .collect();
    for path in observed.missing_mounts.iter().filter(|path| sources.contains(path)) {
        problems.push(Problem::MountMissing { service: service.name.clone(), path: path.clone() });
    }
}

fn shown(port: &PortSpec) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    let host = match port.host {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    match port.host_ip {
        Some(ip) => format!("{}/{protocol}", std::net::SocketAddr::new(ip, port.host.0)),
        None => format!("{host}/{protocol}"),
    }
}
