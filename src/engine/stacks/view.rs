//! Stacks as clients see them: services, replicas, and how they do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use super::StackError;
use super::revision::Stored;
use super::status::{More, status};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::merge;
use crate::engine::state::containers::{Container, Phase};
use crate::engine::state::stacks;
use crate::protocol::{ReplicaView, ServiceView, StackView};
use crate::reconcile::observed::{Health, Observed, ObservedContainer, State};
use crate::spec::container::{PortSpec, Protocol};

impl Engine {
    pub fn stack_views(self: &Arc<Self>) -> Result<Vec<StackView>, EngineError> {
        let mut names: BTreeSet<String> =
            self.read(stacks::list)?.into_iter().map(|row| row.name).collect();
        let rows = self.handles().into_iter().map(|handle| handle.row());
        names.extend(rows.filter_map(|row| row.replica.as_ref().map(|r| r.stack.clone())));
        names.iter().map(|name| self.stack_view(name)).collect()
    }

    pub fn stack_view(self: &Arc<Self>, name: &str) -> Result<StackView, EngineError> {
        let observed = self.observe_stack(name, None)?;
        let row = self.stack_row(name)?;
        if row.is_none() && observed.containers.is_empty() && observed.networks.is_empty() {
            return Err(StackError::NoStack { name: name.to_owned() }.into());
        }
        // A revision of a newer engine may be unreadable; what runs is shown all the same.
        let stored = self.stored_stack(name).ok().flatten();
        let mut services = wanted_services(stored.as_ref());
        for container in observed.containers.values() {
            // One that was removed while we looked is not shown.
            let Some(handle) = self.handle(&container.id) else { continue };
            let replica = self.replica_view(container, &handle.row(), observed.now);
            let service = container.service.as_str().to_owned();
            let view = services.entry(service.clone()).or_insert_with(|| ServiceView {
                name: service,
                image: container.spec.image.clone(),
                attach: true,
                ..ServiceView::default()
            });
            view.replicas.push(replica);
        }
        let mut services: Vec<ServiceView> = services.into_values().collect();
        for service in &mut services {
            service.replicas.sort_by_key(|replica| (replica.oneoff, replica.number));
        }
        let done = match &stored {
            Some(stored) => self.finished_jobs(&stored.desired())?.len(),
            None => 0,
        };
        let frozen = row.as_ref().and_then(|row| row.frozen.clone());
        let going = row.as_ref().is_some_and(|row| !row.wanted);
        Ok(StackView {
            name: name.to_owned(),
            source: row.map(|row| row.source).unwrap_or_default(),
            config_files: stored.as_ref().map_or_else(Vec::new, |s| s.stack().config_files.clone()),
            status: match (going, &frozen) {
                (true, _) => "removing".to_owned(),
                (false, Some(_)) => "frozen".to_owned(),
                (false, None) => overall(&observed, &services, done),
            },
            frozen,
            revision: stored.as_ref().map_or(0, |stored| stored.number),
            networks: observed.networks.into_keys().collect(),
            volumes: observed.volumes.into_keys().collect(),
            services,
        })
    }

    fn replica_view(
        &self,
        container: &ObservedContainer,
        row: &Container,
        now: SystemTime,
    ) -> ReplicaView {
        let starting = row.phase == Phase::Starting;
        let runs = matches!(container.state, State::Running { .. } | State::Paused);
        let health = container.health.filter(|_| runs);
        let started = row.runtime.as_ref().map(|runtime| runtime.started_at);
        let since = started.and_then(|at| u64::try_from(at).ok());
        let since = since.map(|at| SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(at));
        let oom = row.restart_count > 0 && row.exit.as_ref().is_some_and(|exit| exit.oom);
        let more = More { health, failures: row.restart_count, oom, now: Some(now) };
        let exit = row.exit.as_ref().filter(|_| !runs);
        ReplicaView {
            number: container.number,
            oneoff: container.oneoff,
            id: row.id.clone(),
            container: row.name.clone(),
            command: self.command(row),
            state: if starting { "starting" } else { word(&container.state) }.to_owned(),
            status: match starting {
                true => "Starting".to_owned(),
                false => status(&container.state, since, more),
            },
            health: health.map(|health| health_word(health).to_owned()),
            exit_code: exit.map(|exit| exit.code),
            oom: exit.is_some_and(|exit| exit.oom),
            restarts: row.restart_count,
            ports: if runs {
                row.bound_ports.iter().flat_map(port_texts).collect()
            } else {
                Vec::new()
            },
            created_at: row.created_at,
            started_at: started,
        }
    }

    /// Returns program and arguments; what the container itself asks for when its image is gone.
    fn command(&self, row: &Container) -> String {
        let arguments = match self.view_container(&row.id) {
            Ok(view) => view.arguments,
            Err(_) => merge::arguments(&row.spec, &merge::ImageFacts::default()),
        };
        arguments.join(" ")
    }
}

fn wanted_services(stored: Option<&Stored>) -> BTreeMap<String, ServiceView> {
    let services = stored.into_iter().flat_map(|stored| stored.stack().services.values());
    let views = services.map(|service| {
        let view = ServiceView {
            name: service.name.as_str().to_owned(),
            image: service.container.image.clone(),
            wanted: service.replicas,
            replicas: Vec::new(),
            attach: service.attach,
        };
        (view.name.clone(), view)
    });
    views.collect()
}

/// Returns how the stack does: `running(3)`, `degraded`, `stopped`, `exited(1)`; `done` jobs have no container any more.
fn overall(observed: &Observed, services: &[ServiceView], done: usize) -> String {
    let replicas = || observed.containers.values().filter(|container| !container.oneoff);
    let running = replicas().filter(|c| matches!(c.state, State::Running { .. })).count();
    let wanted: usize = services.iter().map(|s| usize::try_from(s.wanted).unwrap_or(0)).sum();
    let fine = |container: &&ObservedContainer| match &container.state {
        State::Running { .. } => container.health != Some(Health::Unhealthy),
        // A job that is done, or what the user stopped.
        State::Exited { code, .. } => *code == 0 || container.stopped_by_user,
        State::Created => container.stopped_by_user,
        State::Paused | State::Restarting { .. } | State::Removing => false,
    };
    let good = replicas().filter(fine).count() + observed.dismissed.len() + done;
    let exited = replicas().filter(|c| matches!(c.state, State::Exited { .. })).count();
    match (good >= wanted && good >= replicas().count(), running) {
        (true, 0) if replicas().any(|c| c.stopped_by_user) || exited == 0 => "stopped".to_owned(),
        (true, 0) => format!("exited({exited})"),
        (true, _) => format!("running({running})"),
        (false, _) => "degraded".to_owned(),
    }
}

fn word(state: &State) -> &'static str {
    match state {
        State::Created => "created",
        State::Running { .. } => "running",
        State::Paused => "paused",
        State::Restarting { .. } => "restarting",
        State::Exited { .. } => "exited",
        State::Removing => "removing",
    }
}

fn health_word(health: Health) -> &'static str {
    match health {
        Health::Starting => "starting",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}

/// Returns a published port as docker prints it; without an address it is open on both families.
fn port_texts(port: &PortSpec) -> Vec<String> {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    let (host, container) = (port.host.0, port.container);
    let hosts = match port.host_ip {
        Some(std::net::IpAddr::V6(ip)) => vec![format!("[{ip}]")],
        Some(ip) => vec![ip.to_string()],
        None => vec!["0.0.0.0".to_owned(), "[::]".to_owned()],
    };
    hosts.into_iter().map(|ip| format!("{ip}:{host}->{container}/{protocol}")).collect()
}
