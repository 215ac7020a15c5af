//! `run`: a one-off container of a service, made when what it depends on is up. It is neither a replica nor an orphan,
//! is never healed, and goes with `down`. Whoever asked for it starts it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::StackError;
use super::apply::Wanted;
use super::keep::LIMIT;
use super::report::{Detail, Failure, Teller};
use super::revision::{Asked, Stored, check_owner};
use super::turns::{Claim, Held};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::host::RealHost;
use crate::engine::state::revisions::Outcome;
use crate::protocol::{ApplyOptions, OneoffChange, Progress, RunRequest, Submission};
use crate::reconcile::apply::apply;
use crate::reconcile::desired::Desired;
use crate::reconcile::diff::{Orphans, Policy, Problems, Resume, plan};
use crate::reconcile::plan::Plan;
use crate::reconcile::resolve::OneoffAliases;
use crate::spec::container::{ContainerSpec, RestartPolicy};
use crate::spec::name::{ServiceName, StackName};
use crate::spec::stack::Service;

/// What a `run` comes to on this machine now.
struct Prepared {
    /// The stack with what the container depends on; absent when it depends on nothing.
    needed: Option<Wanted>,
    desired: Desired,
    plan: Plan,
}

impl Engine {
    /// Brings up what the service depends on and makes the container; the stream ends with `Finished`.
    pub async fn run_in_stack(
        self: &Arc<Self>,
        name: &str,
        request: RunRequest,
    ) -> Result<mpsc::Receiver<Progress>, EngineError> {
        let name = StackName::try_from(name)
            .map_err(|error| StackError::BadName { name: name.to_owned(), rule: error.rule })?;
        let row = self.stack_row(name.as_str())?;
        match &request.submission {
            Some(submission) => {
                check_owner(row.as_ref(), name.as_str(), &submission.source, false)?;
            }
            None if row.is_none() => {
                return Err(StackError::NoStack { name: name.as_str().to_owned() }.into());
            }
            None => {}
        }
        let (mut teller, lines) = Teller::new(name.as_str(), Detail::Cause);
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = engine.make_oneoff(&name, &request, &mut teller).await;
            teller.finish(outcome.map(|()| None));
        });
        Ok(lines)
    }

    async fn make_oneoff(
        self: &Arc<Self>,
        name: &StackName,
        request: &RunRequest,
        teller: &mut Teller,
    ) -> Result<(), Failure> {
        let keeper = self.keeper(name.as_str());
        let Held { mut turn, way } = keeper.turns.claim(Claim::Begin).await;
        let _at_work = self.at_work(name.as_str());
        let Prepared { needed, desired, plan } =
            tokio::task::block_in_place(|| self.prepare_oneoff(name, request))?;
        teller.plan(&plan);
        if !plan.problems.is_empty() {
            return Err(Failure::of_problems(&plan));
        }
        let number = match &needed {
            Some(needed) => {
                Some(self.store_stack(&needed.content, &needed.resumed, Asked::default())?)
            }
            None => None,
        };
        let host = RealHost { way, ..RealHost::new(self) };
        let report = apply(&host, &desired.name, &plan, LIMIT, |event| teller.step(event)).await;
        let outcome = match report.is_success() {
            true => Ok(()),
            false => Err(Failure::of_report(&plan, &report)),
        };
        if let (Some(number), Some(needed)) = (number, needed) {
            let word = if outcome.is_ok() { Outcome::Good } else { Outcome::Bad };
            self.set_outcome(name.as_str(), number, word).map_err(EngineError::from)?;
            self.pin_missing(number, needed.content)?;
            turn.heals.forget();
            self.start_loop(name.as_str(), &mut turn);
        }
        outcome
    }

    /// Merges, resolves and plans; nothing is changed.
    fn prepare_oneoff(
        &self,
        name: &StackName,
        request: &RunRequest,
    ) -> Result<Prepared, EngineError> {
        let stored = self.stored_stack(name.as_str())?;
        let submission: &Submission = match (&request.submission, &stored) {
            (Some(submission), _) => submission,
            (None, Some(stored)) => &stored.content.submission,
            (None, None) => {
                return Err(StackError::NoStack { name: name.as_str().to_owned() }.into());
            }
        };
        let stack = &submission.stack;
        let service = ServiceName::try_from(request.service.as_str())
            .ok()
            .and_then(|service| stack.services.get(&service))
            .ok_or_else(|| StackError::NoService {
                stack: name.as_str().to_owned(),
                word: request.service.clone(),
                known: stack.services.keys().map(|name| name.as_str().to_owned()).collect(),
            })?;
        let oneoff = changed(service, request);
        let services: Vec<String> =
            oneoff.depends_on.keys().map(|name| name.as_str().to_owned()).collect();
        let needed = match services.is_empty() {
            true => None,
            false => {
                let options = ApplyOptions { services, ..ApplyOptions::default() };
                Some(self.want(submission.clone(), &options)?)
            }
        };
        let images = self.current_images(stack);
        let (mut desired, policy) = match &needed {
            Some(needed) => (needed.desired.clone(), needed.policy.clone()),
            None => alone(name, stored.as_ref().map(Stored::desired)),
        };
        let aliases = match request.change.use_aliases {
            true => OneoffAliases::OfService,
            false => OneoffAliases::None,
        };
        desired.add_oneoff(stack, &oneoff, &images, aliases);
        let observed = self.observe_stack(name.as_str(), Some(&desired))?;
        let plan = plan(&desired, &observed, &policy);
        Ok(Prepared { needed, desired, plan })
    }
}

/// What is wanted when nothing else of the stack is to be touched: it keeps all that it has.
fn alone(name: &StackName, stored: Option<Desired>) -> (Desired, Policy) {
    let desired = Desired {
        name: name.clone(),
        services: BTreeMap::new(),
        networks: stored.map(|stored| stored.networks).unwrap_or_default(),
        volumes: BTreeMap::new(),
        unselected: Vec::new(),
        oneoff: None,
    };
    let policy = Policy {
        resume: Resume::Nothing,
        orphans: Orphans::Keep,
        problems: Problems::Refuse,
        ..Policy::default()
    };
    (desired, policy)
}

/// Returns the service as the one-off container is to be. It is not restarted, and publishes only what was asked for.
fn changed(service: &Service, request: &RunRequest) -> Service {
    let mut service = service.clone();
    let change = &request.change;
    service.container_name = Some(request.container.clone());
    service.replicas = 1;
    if request.no_deps {
        service.depends_on.clear();
    }
    let container = &mut service.container;
    container.restart = RestartPolicy::No;
    container.auto_remove = change.auto_remove;
    container.tty = change.tty;
    (container.open_stdin, container.stdin_once) = (change.stdin, change.stdin);
    container.console_size = change.console_size;
    if let Some(entrypoint) = &change.entrypoint {
        // The command was written for the other program.
        (container.entrypoint, container.command) = (Some(entrypoint.clone()), None);
    }
    if !change.command.is_empty() {
        container.command = Some(change.command.clone());
    }
    if !change.service_ports {
        container.ports.clear();
    }
    container.ports.extend(change.ports.iter().cloned());
    container.user = change.user.clone().or_else(|| container.user.take());
    container.working_dir = change.working_dir.clone().or_else(|| container.working_dir.take());
    container.cap_add.extend(change.cap_add.iter().cloned());
    container.cap_drop.extend(change.cap_drop.iter().cloned());
    container.labels.extend(change.labels.clone());
    put_variables(container, change);
    put_mounts(container, change);
    service
}

fn put_variables(container: &mut ContainerSpec, change: &OneoffChange) {
    let name = |entry: &str| entry.split('=').next().unwrap_or(entry).to_owned();
    for entry in &change.env {
        container.env.retain(|known| name(known) != name(entry));
        container.env.push(entry.clone());
    }
}

fn put_mounts(container: &mut ContainerSpec, change: &OneoffChange) {
    for mount in &change.mounts {
        container.mounts.retain(|known| known.target != mount.target);
        container.mounts.push(mount.clone());
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;
    use crate::spec::container::{Mount, MountKind, PortSpec, Protocol};
    use crate::spec::stack::{Condition, Dependency};

    fn service() -> Service {
        let dependency =
            Dependency { condition: Condition::ServiceStarted, restart: false, required: true };
        let port =
            PortSpec { container: 80, protocol: Protocol::Tcp, host_ip: None, host: (80, 80) };
        Service {
            name: ServiceName::try_from("web").unwrap(),
            container: Box::new(ContainerSpec {
                image: "nginx".to_owned(),
                command: Some(vec!["serve".to_owned()]),
                env: vec!["A=1".to_owned(), "B=2".to_owned()],
                restart: RestartPolicy::Always,
                ports: vec![port],
                mounts: vec![mount("/data", "old")],
                user: Some("web".to_owned()),
                ..ContainerSpec::default()
            }),
            container_name: Some("web".to_owned()),
            replicas: 3,
            pull_policy: Default::default(),
            depends_on: BTreeMap::from([(ServiceName::try_from("db").unwrap(), dependency)]),
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

    fn mount(target: &str, volume: &str) -> Mount {
        let kind = MountKind::Volume {
            name: Some(volume.to_owned()),
            nocopy: false,
            subpath: String::new(),
        };
        Mount { target: target.to_owned(), read_only: false, kind }
    }

    #[test]
    fn a_run_without_flags_is_the_service_once_without_its_ports_and_restarts() {
        let request = RunRequest { container: "shop-web-run-1".into(), ..RunRequest::default() };
        let oneoff = changed(&service(), &request);
        assert_eq!(
            (oneoff.container_name.as_deref(), oneoff.replicas),
            (Some("shop-web-run-1"), 1)
        );
        assert_eq!(oneoff.depends_on.len(), 1);
        let container = oneoff.container;
        assert_eq!(container.command, service().container.command);
        assert_eq!((container.restart, container.ports), (RestartPolicy::No, Vec::new()));
        assert_eq!(container.user.as_deref(), Some("web"));
    }

    #[test]
    fn what_is_asked_for_wins_over_the_service() {
        let change = OneoffChange {
            entrypoint: Some(vec!["sh".into()]),
            env: vec!["B=3".into(), "C=4".into()],
            mounts: vec![mount("/data", "new")],
            user: Some("root".into()),
            service_ports: true,
            ..OneoffChange::default()
        };
        let request = RunRequest { no_deps: true, change, ..RunRequest::default() };
        let oneoff = changed(&service(), &request);
        assert!(oneoff.depends_on.is_empty());
        let container = oneoff.container;
        assert_eq!((container.entrypoint, container.command), (Some(vec!["sh".into()]), None));
        assert_eq!(container.env, ["A=1", "B=3", "C=4"]);
        assert_eq!(container.mounts, [mount("/data", "new")]);
        assert_eq!((container.user.as_deref(), container.ports.len()), (Some("root"), 1));
    }
}
