//! At the engine's start: what belongs to nothing goes. A crash may have left it, however far a verb was.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::things::Thing;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::{Durability, StateError, addresses, ports};
use crate::runtime::cgroup::Cgroup;

impl Engine {
    /// Removes every leak. One that can't be removed keeps no other from it, and `system check` still tells it.
    ///
    /// For the start of the engine, after recovery and before anything is created.
    pub(crate) async fn collect_leaks(self: &Arc<Self>) -> Result<(), EngineError> {
        let before = self.wanted_things()?;
        let found = self.found_things(&before).await?;
        // What was begun while we looked belongs to something by now.
        let after = self.wanted_things()?;
        let leaks = found.into_iter().filter(|thing| !before.allows(thing) && !after.allows(thing));
        // Processes first: they hold all else.
        let (processes, others): (Vec<_>, Vec<_>) =
            leaks.partition(|thing| matches!(thing, Thing::Shim { .. } | Thing::Netd { .. }));
        for thing in processes.into_iter().chain(others) {
            match self.remove_leak(&thing).await {
                Ok(()) => tracing::info!(%thing, "removed what belonged to nothing"),
                Err(error) => {
                    tracing::warn!(%thing, error = error.full(), "what belongs to nothing stays");
                }
            }
        }
        Ok(())
    }

    async fn remove_leak(self: &Arc<Self>, thing: &Thing) -> Result<(), EngineError> {
        match thing {
            Thing::Mount(path) => unmount(path),
            Thing::Sandbox(container) => self.unpin_sandbox(container),
            Thing::Cgroup(path) => self.remove_cgroup(path).await,
            Thing::Shim { pid, .. } | Thing::Netd { pid } => kill(*pid),
            // It is emptied behind the start.
            Thing::File(path) if path.starts_with(self.paths.trash()) => Ok(()),
            Thing::File(path) if path.is_dir() => self.discard(path),
            Thing::File(path) => {
                fs::remove_file(path).map_err(EngineError::io(format!("remove {}", path.display())))
            }
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
            Thing::Content(_) => self.collect_content(),
            // The start of the networks removed them, or nobody but the kernel can.
            Thing::Link(_)
            | Thing::Rule(_)
            | Thing::Zombie { .. }
            | Thing::Image(_)
            | Thing::Port { .. }
            | Thing::Resolver(_) => Ok(()),
        }
    }

    fn collect_content(&self) -> Result<(), EngineError> {
        tokio::task::block_in_place(|| self.store.collect())?;
        Ok(())
    }

    async fn remove_cgroup(&self, path: &str) -> Result<(), EngineError> {
        let doing = format!("remove the cgroup {path}");
        // The parent goes with the last one below it.
        if path == self.paths.cgroup_parent() {
            self.leave_cgroups();
            return Ok(());
        }
        let Ok(cgroup) = Cgroup::open(&self.machine.cgroups, path) else { return Ok(()) };
        let removed = tokio::task::spawn_blocking(move || {
            cgroup.kill()?;
            // Tasks that version 1 froze die only once they are thawed.
            cgroup.thaw()?;
            cgroup.remove()
        });
        match removed.await {
            Ok(Ok(())) => {
                self.leave_cgroups();
                Ok(())
            }
            Ok(Err(error)) => Err(EngineError::io(doing)(std::io::Error::other(error))),
            Err(error) => Err(EngineError::io(doing)(std::io::Error::other(error))),
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
