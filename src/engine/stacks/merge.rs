//! What is wanted after an `up` of some services: the selected ones as the file has them now, the others as
//! they were. What was not selected is never an orphan. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::StackError;
use crate::protocol::{ApplyOptions, RecreatePolicy};
use crate::reconcile::desired::Desired;
use crate::reconcile::diff::Resume;
use crate::reconcile::graph::Dependencies;
use crate::spec::container::MountKind;
use crate::spec::name::ServiceName;
use crate::spec::stack::{Service, Stack};

/// The stack that is wanted, and which of its services were asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Merged {
    pub(super) stack: Stack,
    pub(super) resume: Resume,
    /// The services that `resume` means.
    pub(super) resumed: Vec<ServiceName>,
}

/// Merges what is submitted into what is stored. `present` are the services that have containers.
pub(super) fn merge(
    stored: Option<&Stack>,
    submitted: Stack,
    options: &ApplyOptions,
    present: &BTreeSet<ServiceName>,
) -> Result<Merged, StackError> {
    let selected = selection(&submitted, &options.services)?;
    let scope = match (selected.is_empty(), options.no_deps) {
        (true, _) => submitted.services.keys().cloned().collect(),
        (false, true) => selected.clone(),
        (false, false) => {
            let desired = Desired::resolve(&submitted, &BTreeMap::new());
            let all = Dependencies::of(&desired).with_dependencies(&selected);
            all.into_iter().cloned().collect()
        }
    };
    let partial = !selected.is_empty();
    let empty = BTreeMap::new();
    let before = stored.map_or(&empty, |stack| &stack.services);
    let mut known: BTreeSet<ServiceName> =
        submitted.services.keys().chain(&submitted.disabled).cloned().collect();
    let mut stack = submitted;
    for (name, old) in before {
        let gone = !stack.services.contains_key(name);
        if gone && (partial || stack.disabled.contains(name)) {
            stack.services.insert(name.clone(), old.clone());
        }
    }
    stack.services.retain(|name, service| {
        match before.get(name) {
            Some(old) if !scope.contains(name) => *service = old.clone(),
            Some(old) if options.recreate == RecreatePolicy::Never && present.contains(name) => {
                // What runs stays as it is, also when the loop looks again later.
                *service = Service { replicas: service.replicas, ..old.clone() };
            }
            None if !scope.contains(name) => return false,
            _ => {}
        }
        true
    });
    if partial || options.keep_orphans {
        known.extend(present.iter().chain(before.keys()).cloned());
        known.extend(stored.into_iter().flat_map(|stack| &stack.disabled).cloned());
    }
    known.retain(|name| !stack.services.contains_key(name));
    stack.disabled = known.into_iter().collect();
    if let Some(stored) = stored {
        for (key, network) in &stored.networks {
            stack.networks.entry(key.clone()).or_insert_with(|| network.clone());
        }
        for (key, volume) in &stored.volumes {
            stack.volumes.entry(key.clone()).or_insert_with(|| volume.clone());
        }
    }
    drop_unused(&mut stack);
    let resume = match (partial, options.no_deps) {
        (false, _) => Resume::All,
        (true, false) => Resume::Services(selected),
        (true, true) => Resume::Only(selected),
    };
    Ok(Merged { stack, resume, resumed: scope.into_iter().collect() })
}

/// Returns the services that `words` name.
pub(super) fn selection(
    stack: &Stack,
    words: &[String],
) -> Result<BTreeSet<ServiceName>, StackError> {
    let named = words.iter().map(|word| {
        let name = ServiceName::try_from(word.as_str()).ok();
        name.filter(|name| stack.services.contains_key(name)).ok_or_else(|| StackError::NoService {
            stack: stack.name.as_str().to_owned(),
            word: word.clone(),
            known: stack.services.keys().map(|name| name.as_str().to_owned()).collect(),
        })
    });
    named.collect()
}

/// Only what a service uses is made.
fn drop_unused(stack: &mut Stack) {
    let services = || stack.services.values().map(|service| &service.container);
    let networks: BTreeSet<String> =
        services().flat_map(|container| container.networks.keys().cloned()).collect();
    let volumes: BTreeSet<String> = services()
        .flat_map(|container| &container.mounts)
        .filter_map(|mount| match &mount.kind {
            MountKind::Volume { name, .. } => name.clone(),
            _ => None,
        })
        .collect();
    stack.networks.retain(|key, _| networks.contains(key));
    stack.volumes.retain(|key, _| volumes.contains(key));
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;
    use crate::spec::container::{ContainerSpec, Endpoint, NetworkMode};
    use crate::spec::name::StackName;
    use crate::spec::stack::{Condition, Dependency, Network};

    fn name(text: &str) -> ServiceName {
        ServiceName::try_from(text).unwrap()
    }

    fn service(text: &str, image: &str, needs: &[&str]) -> Service {
        let dependency =
            Dependency { condition: Condition::ServiceStarted, restart: false, required: true };
        Service {
            name: name(text),
            container: Box::new(ContainerSpec {
                image: image.to_owned(),
                network_mode: NetworkMode::Networks(format!("net-{text}")),
                networks: BTreeMap::from([(format!("net-{text}"), Endpoint::default())]),
                ..ContainerSpec::default()
            }),
            container_name: None,
            replicas: 1,
            pull_policy: Default::default(),
            depends_on: needs.iter().map(|need| (name(need), dependency)).collect(),
            update: Default::default(),
            rollback: None,
            restart_limits: Default::default(),
            on_unhealthy: Default::default(),
            reversible: false,
            attach: true,
            compose_hash: None,
            origins: Default::default(),
        }
    }

    fn stack(services: Vec<Service>, disabled: &[&str]) -> Stack {
        let networks = services
            .iter()
            .map(|service| (format!("net-{}", service.name), Network::default()))
            .collect();
        Stack {
            name: StackName::try_from("shop").unwrap(),
            services: services.into_iter().map(|service| (service.name.clone(), service)).collect(),
            networks,
            volumes: BTreeMap::new(),
            working_dir: "/srv".to_owned(),
            config_files: vec!["/srv/stack.yaml".to_owned()],
            disabled: disabled.iter().map(|text| name(text)).collect(),
        }
    }

    fn shown(merged: &Merged) -> String {
        let services = merged.stack.services.values();
        let services: Vec<String> = services
            .map(|service| format!("{}={}", service.name, service.container.image))
            .collect();
        let disabled: Vec<&str> = merged.stack.disabled.iter().map(ServiceName::as_str).collect();
        format!("{} / {}", services.join(" "), disabled.join(" "))
    }

    fn merged(stored: Option<&Stack>, submitted: &Stack, options: &ApplyOptions) -> String {
        let present = stored.map(|stack| stack.services.keys().cloned().collect());
        shown(&merge(stored, submitted.clone(), options, &present.unwrap_or_default()).unwrap())
    }

    fn options(services: &[&str]) -> ApplyOptions {
        let services = services.iter().map(|text| (*text).to_owned()).collect();
        ApplyOptions { services, ..ApplyOptions::default() }
    }

    #[test]
    fn a_selection_brings_its_dependencies_and_makes_no_orphan() {
        let file = stack(
            vec![
                service("db", "v2", &[]),
                service("mail", "v2", &[]),
                service("web", "v2", &["db"]),
            ],
            &["debug"],
        );
        assert_eq!(merged(None, &file, &options(&["web"])), "db=v2 web=v2 / debug mail");
        let alone = ApplyOptions { no_deps: true, ..options(&["web"]) };
        assert_eq!(merged(None, &file, &alone), "web=v2 / db debug mail");
        let stored = stack(vec![service("mail", "v1", &[]), service("old", "v1", &[])], &[]);
        assert_eq!(
            merged(Some(&stored), &file, &options(&["web"])),
            "db=v2 mail=v1 old=v1 web=v2 / debug"
        );
        let error = merge(None, file, &options(&["wbe"]), &BTreeSet::new()).unwrap_err();
        assert_eq!(error.to_string(), "stack shop has no service wbe; it has db, mail, web");
    }

    #[test]
    fn a_whole_up_orphans_what_left_the_file_but_not_what_a_profile_leaves_out() {
        let stored = stack(vec![service("debug", "v1", &[]), service("old", "v1", &[])], &[]);
        let file = stack(vec![service("web", "v2", &[])], &["debug"]);
        assert_eq!(merged(Some(&stored), &file, &options(&[])), "debug=v1 web=v2 / ");
        let keeping = ApplyOptions { keep_orphans: true, ..options(&[]) };
        assert_eq!(merged(Some(&stored), &file, &keeping), "debug=v1 web=v2 / old");
    }

    #[test]
    fn without_recreation_what_runs_keeps_its_old_definition() {
        let stored = stack(vec![service("web", "v1", &[])], &[]);
        let file = stack(vec![service("db", "v2", &[]), service("web", "v2", &[])], &[]);
        let never = ApplyOptions { recreate: RecreatePolicy::Never, ..options(&[]) };
        assert_eq!(merged(Some(&stored), &file, &never), "db=v2 web=v1 / ");
    }

    #[test]
    fn only_networks_that_a_service_uses_are_wanted() {
        let file = stack(vec![service("db", "v", &[]), service("web", "v", &[])], &[]);
        let merged = merge(None, file, &options(&["web"]), &BTreeSet::new()).unwrap();
        assert_eq!(merged.stack.networks.keys().collect::<Vec<_>>(), ["net-web"]);
    }
}
