//! What belongs to nothing goes: at the engine's start, as a crash may have left it, and after a teardown that failed.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::Notify;

use super::things::Thing;
use crate::engine::background;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::Phase;
use crate::engine::state::{Durability, StateError, addresses, ports, volumes};
use crate::protocol::Fault;
use crate::runtime::cgroup::Cgroup;

/// How long a difference lasts before it is looked at: what is under way is none.
const PATIENCE: Duration = Duration::from_secs(1);
/// Until the first try after something failed; doubled each time up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Says that something may be left behind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leaks(Arc<Notify>);

impl Leaks {
    /// Has all leaks collected soon, and again until none is left.
    pub(crate) fn collect_soon(&self) {
        self.0.notify_one();
    }
}

impl Engine {
    /// Removes every leak. One that can't be removed keeps no other from it, and is tried again later.
    ///
    /// For the start of the engine, after recovery and before anything is created. A machine that can't be looked at
    /// now keeps no engine from its work.
    pub(crate) async fn collect_leaks(self: &Arc<Self>) {
        tokio::spawn(collect_when_asked(Arc::downgrade(self), self.leaks.clone()));
        if let Err(error) = self.collect_at_start().await {
            tracing::warn!(error = error.full(), "cannot look for what is left behind");
            self.leaks.collect_soon();
        }
    }

    async fn collect_at_start(self: &Arc<Self>) -> Result<(), EngineError> {
        let before = self.wanted_things()?;
        let found = self.found_things(&before).await?;
        // What was begun while we looked belongs to something by now.
        let after = self.wanted_things()?;
        let leaks = found.into_iter().filter(|thing| !before.allows(thing) && !after.allows(thing));
        self.remove_leaks(leaks.collect()).await;
        Ok(())
    }

    /// One try while the engine works; `false` when something is still left.
    async fn collect_lasting(self: &Arc<Self>) -> Result<bool, EngineError> {
        let (differences, _) = self.lasting_differences(PATIENCE).await?;
        let is_published = |thing: &Thing| {
            matches!(thing, Thing::Rule(_) | Thing::Port { .. } | Thing::Resolver(_))
        };
        let mut whole = true;
        if differences.iter().any(|(_, thing)| is_published(thing)) {
            whole = false;
            self.publish_anew().await?;
        }
        let leaks: Vec<Thing> = differences
            .into_iter()
            .filter(|(fault, thing)| *fault == Fault::Leak && !is_published(thing))
            .map(|(_, thing)| thing)
            .collect();
        whole &= leaks.is_empty();
        self.remove_leaks(leaks).await;
        Ok(whole)
    }

    async fn remove_leaks(self: &Arc<Self>, leaks: Vec<Thing>) {
        // Processes first: they hold all else.
        let (processes, others): (Vec<_>, Vec<_>) = leaks
            .into_iter()
            .partition(|thing| matches!(thing, Thing::Shim { .. } | Thing::Netd { .. }));
        for thing in processes.into_iter().chain(others) {
            match self.remove_leak(&thing).await {
                Ok(()) => tracing::info!(%thing, "removed what belonged to nothing"),
                Err(error) => {
                    let error = error.full();
                    tracing::warn!(%thing, error, "what belongs to nothing stays for now");
                }
            }
        }
    }

    /// Removes it, unless it is a container's that is about to need it.
    async fn remove_leak(self: &Arc<Self>, thing: &Thing) -> Result<(), EngineError> {
        let owner = self.owner_of(thing).and_then(|id| self.handle(&id));
        let Some(owner) = owner else { return self.remove_thing(thing).await };
        // A verb that works on it cleans up by itself.
        let Ok(_verb) = owner.verb.try_lock() else { return Ok(()) };
        let rests = matches!(owner.row().phase, Phase::Created | Phase::Exited);
        if rests && owner.shim().is_none() && !self.is_on_networks(owner.id()) {
            return self.remove_thing(thing).await;
        }
        Ok(())
    }

    /// Returns the id of the container that the thing is made for.
    fn owner_of(&self, thing: &Thing) -> Option<String> {
        match thing {
            Thing::Sandbox(container) | Thing::Shim { container, .. } => Some(container.clone()),
            Thing::Cgroup(path) => path.rsplit('/').next().map(str::to_owned),
            Thing::Link(name) => self.container_of_link(name),
            _ => None,
        }
    }

    async fn remove_thing(self: &Arc<Self>, thing: &Thing) -> Result<(), EngineError> {
        match thing {
            Thing::Mount(path) => unmount(path),
            Thing::Link(name) => self.delete_link(name).await,
            Thing::Sandbox(container) => self.unpin_sandbox(container),
            Thing::Cgroup(path) => self.remove_cgroup(path).await,
            Thing::Shim { pid, .. } | Thing::Netd { pid } => kill(*pid),
            Thing::File(path) => tokio::task::block_in_place(|| self.remove_file(path)),
            Thing::PromisedPort { owner, .. } => {
                self.write::<_, StateError>(Durability::Process, |tx| ports::release(tx, owner))?;
                Ok(())
            }
            Thing::PromisedAddress { container, .. } => {
                self.write::<_, StateError>(Durability::Process, |tx| {
                    addresses::release(tx, container).map(drop)
                })?;
                Ok(())
            }
            Thing::Content(_) => {
                tokio::task::block_in_place(|| self.store.collect())?;
                Ok(())
            }
            // Publishing makes them right, or nobody but the kernel can.
            Thing::Rule(_)
            | Thing::Zombie { .. }
            | Thing::Image(_)
            | Thing::Port { .. }
            | Thing::Resolver(_) => Ok(()),
        }
    }

    fn remove_file(&self, path: &Path) -> Result<(), EngineError> {
        let removed = || EngineError::io(format!("remove {}", path.display()));
        if path.starts_with(self.paths.trash()) {
            return match fs::remove_dir_all(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(removed()(error)),
                _ => Ok(()),
            };
        }
        if !path.is_dir() {
            return fs::remove_file(path).map_err(removed());
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_volume = path.parent().is_some_and(|parent| parent.ends_with("volumes"));
        if is_volume {
            // Within a transaction, so that nobody creates a volume of this name meanwhile.
            return self.write(Durability::Process, |tx| match volumes::get(tx, name)? {
                Some(_) => Ok(()),
                None => self.discard(path),
            });
        }
        self.discard(path)
    }

    async fn remove_cgroup(&self, path: &str) -> Result<(), EngineError> {
        let doing = format!("remove the cgroup {path}");
        // The parent goes with the last one below it.
        if path == self.paths.cgroup_parent() {
            self.leave_cgroups();
            return Ok(());
        }
        let Ok(cgroup) = Cgroup::open(&self.machine.cgroups, path) else { return Ok(()) };
        let removed = background::run(move || {
            cgroup.kill()?;
            // Tasks that version 1 froze die only once they are thawed.
            cgroup.thaw()?;
            cgroup.remove()
        });
        match removed.await {
            Ok(Ok(())) => {
                self.leave_cgroups();
                self.forget_cgroup(path.rsplit('/').next().unwrap_or_default())
            }
            Ok(Err(error)) => Err(EngineError::io(doing)(std::io::Error::other(error))),
            Err(error) => Err(error),
        }
    }
}

/// Holds no engine while it waits.
async fn collect_when_asked(engine: Weak<Engine>, leaks: Leaks) {
    loop {
        leaks.0.notified().await;
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            let Some(engine) = engine.upgrade() else { return };
            match engine.collect_lasting().await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(error = error.full(), "cannot look for what is left behind");
                }
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

fn unmount(path: &Path) -> Result<(), EngineError> {
    rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
        .map_err(|error| EngineError::io(format!("unmount {}", path.display()))(error.into()))
}

/// It was seen a moment ago, and its number is not given again so soon: pids go round (pid_max of proc(5)).
fn kill(pid: i32) -> Result<(), EngineError> {
    let doing = || EngineError::io(format!("kill process {pid}"));
    let Some(number) = Pid::from_raw(pid) else { return Ok(()) };
    let pidfd: OwnedFd = match pidfd_open(number, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        opened => opened.map_err(|error| doing()(error.into()))?,
    };
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        sent => sent.map_err(|error| doing()(error.into())),
    }
}
