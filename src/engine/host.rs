//! The planner's steps on this machine: one short arm each. A step that is done already counts as done.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::containers::create::CreateRequest;
use crate::engine::containers::lifecycle::{By, StopOptions};
use crate::engine::containers::remove::RemoveOptions;
use crate::engine::containers::{Handle, Snapshot};
use crate::engine::core::Engine;
use crate::engine::error::{EngineError, Kind};
use crate::engine::networks::CreateNetwork;
use crate::engine::rollout;
use crate::engine::state::Durability;
use crate::engine::state::containers::{Container, Phase, Replica};
use crate::engine::volumes::CreateVolume;
use crate::reconcile::desired::{Desired, DesiredNetwork, DesiredReplica, DesiredVolume};
use crate::reconcile::host::{Host, HostError, LiveChange, Step};
use crate::reconcile::observed::{Health, Observed};
use crate::reconcile::resolve::{CONFIG_HASH_LABEL, IMAGE_LABEL};
use crate::spec::container::{Mount, MountKind};
use crate::spec::name::StackName;
use crate::spec::stack::{Condition, Network as NetworkSpec};

/// This machine as the reconciler's host, with what one run's asker wants of its steps.
#[derive(Debug, Clone)]
pub(crate) struct RealHost {
    pub(crate) engine: Arc<Engine>,
    /// On whose behalf containers start and stop.
    pub(crate) by: By,
    /// Seconds before SIGKILL, over the containers' own.
    pub(crate) grace: Option<i64>,
    /// What is made counts as stopped by the user, so that healing does not start it.
    pub(crate) stays_created: bool,
    /// Anonymous volumes go with their containers.
    pub(crate) anonymous_volumes: bool,
    /// Cancelled: what only waits is given up.
    pub(crate) way: CancellationToken,
}

impl RealHost {
    /// Returns the host of a run that nobody asked anything special of.
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        Self {
            engine: Arc::clone(engine),
            by: By::Plan,
            grace: None,
            stays_created: false,
            anonymous_volumes: false,
            way: CancellationToken::new(),
        }
    }
}

impl Host for RealHost {
    async fn observe(
        &self,
        stack: &StackName,
        desired: Option<&Desired>,
    ) -> Result<Observed, HostError> {
        // It reads files and the database.
        tokio::task::block_in_place(|| self.engine.observe_stack(stack.as_str(), desired))
            .map_err(host_error)
    }

    async fn execute(&self, stack: &StackName, step: &Step) -> Result<(), HostError> {
        let engine = &self.engine;
        let done = match step {
            Step::CreateNetwork { network } => self.create_network(stack, network).await,
            Step::RemoveNetwork { name } => engine.remove_network(name).await,
            Step::CreateVolume { volume } => self.create_volume(stack, volume),
            Step::RemoveVolume { name } => engine.remove_volume(name, false).await,
            Step::PullImage { reference } => engine.pull_image(reference).await,
            Step::CreateContainer { name, replica } => self.create(stack, name, replica).await,
            Step::StartContainer { id: word } | Step::StartNew { name: word } => {
                self.start(word).await
            }
            Step::StopContainer { id, grace, drain } => {
                let own = grace.map(|grace| i64::try_from(grace.as_secs()).unwrap_or(i64::MAX));
                let options =
                    StopOptions { grace: self.grace.or(own), signal: None, drain: *drain };
                engine.stop_container(id, &options, self.by).await
            }
            Step::RemoveContainer { id } => {
                let options = RemoveOptions { force: false, volumes: self.anonymous_volumes };
                engine.remove_container(id, options).await
            }
            Step::RenameContainer { from, to } => self.rename(from, to).await,
            Step::UpdateContainer { id, change } => self.update(id, change.clone()).await,
            Step::ConnectNetwork { id, network, endpoint } => {
                engine.connect_network(network, id, endpoint.clone()).await
            }
            Step::DisconnectNetwork { id, network } => {
                engine.disconnect_network(network, id, false).await
            }
            Step::WaitFor { condition, containers, .. } => {
                return self.unless_given_up(wait_for(engine, *condition, containers)).await;
            }
            Step::Monitor { container, duration } => {
                return self.unless_given_up(rollout::monitor(engine, container, *duration)).await;
            }
            Step::CheckFailures { containers, tolerated } => {
                return rollout::check_failures(engine, containers, *tolerated);
            }
            Step::Pause { duration } => {
                let pause = async {
                    tokio::time::sleep(*duration).await;
                    Ok(())
                };
                return self.unless_given_up(pause).await;
            }
        };
        match done {
            Err(error) if is_done(step, &error) => Ok(()),
            other => other.map_err(host_error),
        }
    }
}

/// Returns whether `error` says that the step was done before.
fn is_done(step: &Step, error: &EngineError) -> bool {
    match step {
        Step::StartContainer { .. } | Step::StartNew { .. } => error.kind() == Kind::NotModified,
        Step::StopContainer { .. } => {
            matches!(error.kind(), Kind::NotModified | Kind::NotFound)
        }
        Step::RemoveContainer { .. }
        | Step::RemoveNetwork { .. }
        | Step::RemoveVolume { .. }
        | Step::DisconnectNetwork { .. } => error.kind() == Kind::NotFound,
        _ => false,
    }
}

pub(crate) fn host_error(error: EngineError) -> HostError {
    let hint = error.hint();
    // The rest may be a lost race, or pass with time.
    let permanent = matches!(error.kind(), Kind::Invalid | Kind::NotImplemented)
        || matches!(error, EngineError::NoImage { .. });
    HostError { message: error.full(), permanent, hint }
}

impl RealHost {
    /// Waits, until somebody comes for whom waits are given up.
    async fn unless_given_up(
        &self,
        wait: impl Future<Output = Result<(), HostError>>,
    ) -> Result<(), HostError> {
        tokio::select! {
            ended = wait => ended,
            () = self.way.cancelled() => Err(HostError {
                message: "given up: another request for the stack came".to_owned(),
                permanent: true,
                hint: None,
            }),
        }
    }

    async fn create_network(
        &self,
        stack: &StackName,
        network: &DesiredNetwork,
    ) -> Result<(), EngineError> {
        let owner = stack.as_str();
        let there = self
            .engine
            .networks()?
            .into_iter()
            .any(|there| there.name == network.name && there.stack.as_deref() == Some(owner));
        if there {
            return Ok(());
        }
        let spec = NetworkSpec {
            name: Some(network.name.clone()),
            external: false,
            internal: network.internal,
            attachable: network.attachable,
            enable_ipv6: network.enable_ipv6,
            driver: Some(network.driver.clone()),
            driver_opts: network.driver_opts.clone(),
            subnets: network.subnets.clone(),
            labels: network.labels.clone(),
        };
        let request =
            CreateNetwork { name: network.name.clone(), spec, stack: Some(owner.to_owned()) };
        self.engine.create_network(request).await.map(drop)
    }

    fn create_volume(&self, stack: &StackName, volume: &DesiredVolume) -> Result<(), EngineError> {
        let request = CreateVolume {
            name: Some(volume.name.clone()),
            driver: volume.driver.clone(),
            options: volume.driver_opts.clone(),
            labels: volume.labels.clone(),
            stack: Some(stack.as_str().to_owned()),
        };
        self.engine.create_volume(request).map(drop)
    }

    async fn create(
        &self,
        stack: &StackName,
        name: &str,
        replica: &DesiredReplica,
    ) -> Result<(), EngineError> {
        if self.is_created(stack, name, replica) {
            return Ok(());
        }
        let mut spec = replica.spec.clone();
        // The tag may mean another image by now; the plan was made for this one.
        if let Some(pinned) = &replica.image_id
            && self.engine.image_id(&spec.image).as_ref() != Some(pinned)
        {
            spec.image.clone_from(pinned);
        }
        if let Some(id) = self.engine.image_id(&spec.image) {
            spec.labels.insert(IMAGE_LABEL.to_owned(), id);
        }
        if let Some(hash) = replica.compose_hash.as_ref().and_then(|hash| {
            hash.resolve(|name| find(&self.engine, name).map(|handle| handle.id().to_owned()))
        }) {
            spec.labels.insert(CONFIG_HASH_LABEL.to_owned(), hash);
        }
        if !replica.oneoff {
            self.inherit_volumes(stack, replica, &mut spec.mounts);
        }
        let request = CreateRequest {
            name: Some(name.to_owned()),
            spec,
            replica: Some(owner(stack, replica)),
            hash: replica.hash.clone(),
        };
        let created = self.engine.create_container(request).await?;
        if self.stays_created {
            let handle = self.engine.container(&created.id)?;
            self.engine.change(&handle, Durability::Process, |row| row.stopped_by_user = true)?;
        }
        Ok(())
    }

    /// Returns whether an earlier try of the same step made the container already.
    fn is_created(&self, stack: &StackName, name: &str, replica: &DesiredReplica) -> bool {
        let there = find(&self.engine, name);
        there.is_some_and(|there| {
            let row = there.row();
            row.phase == Phase::Created
                && row.hash == replica.hash
                && row.replica.as_ref() == Some(&owner(stack, replica))
        })
    }

    /// Gives the new container the anonymous volumes of the one that it replaces: what an image declares as
    /// a volume is data, which an update must not lose.
    fn inherit_volumes(
        &self,
        stack: &StackName,
        replica: &DesiredReplica,
        mounts: &mut Vec<Mount>,
    ) {
        let owner = owner(stack, replica);
        let handles = self.engine.handles();
        let old = handles
            .iter()
            .map(|handle| handle.row())
            .find(|row| row.replica.as_ref() == Some(&owner));
        let Some(old) = old else { return };
        for mount in &old.spec.mounts {
            let MountKind::Volume { name: Some(name), .. } = &mount.kind else { continue };
            if !self.engine.volume(name).is_ok_and(|volume| volume.anonymous) {
                continue;
            }
            let wanted = mounts.iter_mut().find(|wanted| wanted.target == mount.target);
            match wanted {
                None => mounts.push(mount.clone()),
                Some(Mount { kind: MountKind::Volume { name: wanted @ None, .. }, .. }) => {
                    *wanted = Some(name.clone());
                }
                Some(_) => {}
            }
        }
    }

    async fn start(&self, word: &str) -> Result<(), EngineError> {
        self.engine.start_container(word, self.by).await?;
        let handle = self.engine.container(word)?;
        if handle.row().stopped_by_user {
            self.engine.change(&handle, Durability::Process, |row| row.stopped_by_user = false)?;
        }
        self.engine.remember_limits(&handle)
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), EngineError> {
        match find(&self.engine, from) {
            Some(handle) => self.engine.rename_container(handle.id(), to).await,
            // It has its new name already.
            None if find(&self.engine, to).is_some() => Ok(()),
            None => Err(EngineError::NoContainer { word: from.to_owned() }),
        }
    }

    async fn update(&self, id: &str, change: LiveChange) -> Result<(), EngineError> {
        for warning in self.engine.update_container(id, change).await? {
            tracing::warn!(container = id, "{warning}");
        }
        let handle = self.engine.container(id)?;
        self.engine.remember_limits(&handle)
    }
}

fn owner(stack: &StackName, replica: &DesiredReplica) -> Replica {
    Replica {
        stack: stack.as_str().to_owned(),
        service: replica.service.as_str().to_owned(),
        number: replica.number,
        oneoff: replica.oneoff,
    }
}

/// Returns the container of exactly this name.
pub(super) fn find(engine: &Engine, name: &str) -> Option<Arc<Handle>> {
    engine.handles().into_iter().find(|handle| handle.row().name == name)
}

/// Waits until all `containers` meet `condition`; fails when one of them can no longer.
async fn wait_for(
    engine: &Arc<Engine>,
    condition: Condition,
    containers: &[String],
) -> Result<(), HostError> {
    for name in containers {
        let Some(handle) = find(engine, name) else {
            return Err(host_error(EngineError::NoContainer { word: name.clone() }));
        };
        wait_for_one(condition, name, handle.watch()).await?;
    }
    Ok(())
}

async fn wait_for_one(
    condition: Condition,
    name: &str,
    mut changes: watch::Receiver<Snapshot>,
) -> Result<(), HostError> {
    loop {
        let verdict = {
            let snapshot = changes.borrow_and_update();
            match snapshot.removed {
                true => Verdict::Never("was removed".to_owned()),
                false => judge(condition, &snapshot.row),
            }
        };
        match verdict {
            Verdict::Met => return Ok(()),
            Verdict::NotYet => {}
            Verdict::Never(why) => {
                let hint = Some(format!("see its output: bargee logs {name}"));
                let message = format!("container {name} {why}");
                return Err(HostError { message, permanent: true, hint });
            }
        }
        // The engine drops a handle's sender only when it ends.
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// How a container stands to what is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    NotYet,
    /// Not without a further change; a phrase such as `exited with 1`.
    Never(String),
}

/// Judges a container by its row.
pub(crate) fn judge(condition: Condition, row: &Container) -> Verdict {
    let code = row.exit.as_ref().map_or(0, |exit| exit.code);
    if row.phase == Phase::Removing {
        return Verdict::Never("is being removed".to_owned());
    }
    if matches!(row.phase, Phase::Creating | Phase::Created) {
        return match &row.error {
            Some(error) => Verdict::Never(format!("could not start: {error}")),
            None => Verdict::NotYet,
        };
    }
    match condition {
        Condition::ServiceStarted => match row.phase {
            Phase::Starting => Verdict::NotYet,
            _ => Verdict::Met,
        },
        Condition::ServiceCompletedSuccessfully => match row.phase {
            Phase::Exited if code == 0 => Verdict::Met,
            Phase::Exited => Verdict::Never(exited(row)),
            _ => Verdict::NotYet,
        },
        Condition::ServiceHealthy => match (row.phase, &row.health) {
            (Phase::Exited, _) => Verdict::Never(exited(row)),
            (Phase::Running, None) => Verdict::Never("has no health check".to_owned()),
            (Phase::Running, Some(monitor)) => match monitor.status() {
                Health::Healthy => Verdict::Met,
                Health::Starting => Verdict::NotYet,
                Health::Unhealthy => Verdict::Never("is unhealthy".to_owned()),
            },
            _ => Verdict::NotYet,
        },
    }
}

pub(crate) fn exited(row: &Container) -> String {
    match &row.exit {
        Some(exit) if exit.oom => format!("exited with {} (out of memory)", exit.code),
        Some(exit) => format!("exited with {}", exit.code),
        None => "exited".to_owned(),
    }
}

/// Seconds of a request as the engine takes them.
pub(crate) fn seconds(timeout: Option<u64>) -> Option<i64> {
    timeout.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX))
}
