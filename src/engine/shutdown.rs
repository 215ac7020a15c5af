//! Stopping everything of this root, for the machine's own shutdown and for `system shutdown`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::engine::containers::Handle;
use crate::engine::containers::lifecycle::{By, StopOptions};
use crate::engine::core::Engine;
use crate::engine::error::{EngineError, Kind};
use crate::engine::state::containers::{Container, Phase};
use crate::runtime::cgroup::Cgroup;

impl Engine {
    /// Stops all containers with their grace. Stacks go beside each other; within one, services go in the reverse
    /// order of their start. What is wanted stays as it is, so that the next start brings everything back.
    ///
    /// # Errors
    /// The first container that can't be stopped; the others are stopped all the same.
    pub async fn stop_everything(self: &Arc<Self>) -> Result<(), EngineError> {
        self.stacks.rest();
        let rows: Vec<_> = self.handles().iter().map(|handle| handle.row()).collect();
        let groups = groups(rows.iter().map(AsRef::as_ref));
        let results = join_all(groups.into_iter().map(|waves| self.stop_waves(waves))).await;
        let stopped: Result<(), EngineError> = results.into_iter().collect();
        let left = join_all(self.handles().iter().map(|handle| self.let_shim_go(handle))).await;
        let left: Result<(), EngineError> = left.into_iter().collect();
        stopped.and(left).and(self.leave_machine().await)
    }

    /// Leaves nothing of this root in the kernel once nothing of it runs: cgroup, bridges, rules and netd; the next
    /// engine makes them again. While a container runs, all stays for it.
    ///
    /// # Errors
    /// The kernel keeps a bridge or the rules.
    pub async fn leave_machine(self: &Arc<Self>) -> Result<(), EngineError> {
        if self.handles().iter().any(|handle| runs(handle.row().phase)) {
            return Ok(());
        }
        if let Ok(parent) = Cgroup::open(&self.machine.cgroups, &self.paths.cgroup_parent()) {
            parent.remove_if_empty();
        }
        let closed = self.close_networks().await;
        let left = tokio::task::block_in_place(|| self.leave_cgroup_of_helpers());
        closed.and(left).and(self.leave_home())
    }

    /// Gives the cgroup that was given to us back as it came. A unit whose parked process was killed starts anew only so:
    /// systemd puts the next one into the unit's own cgroup.
    fn leave_home(&self) -> Result<(), EngineError> {
        let home = self.paths.home();
        if home.is_empty() {
            return Ok(());
        }
        match Cgroup::open(&self.machine.cgroups, home) {
            Ok(cgroup) => cgroup.take_controllers_back().map_err(|error| {
                EngineError::io(format!("give the cgroup {home} back"))(io::Error::other(error))
            }),
            // It went with the last of its containers.
            Err(_) => Ok(()),
        }
    }

    /// An exit lets the shim go behind its event; here that is waited for.
    async fn let_shim_go(self: &Arc<Self>, handle: &Arc<Handle>) -> Result<(), EngineError> {
        let _verb = handle.verb.lock().await;
        if runs(handle.row().phase) {
            // Its stop failed, which is told already.
            return Ok(());
        }
        self.shut_shim(handle).await
    }

    async fn stop_waves(self: &Arc<Self>, waves: Vec<Vec<String>>) -> Result<(), EngineError> {
        let mut result = Ok(());
        let options = StopOptions::default();
        for wave in waves {
            let stops = wave.iter().map(|id| self.stop_container(id, &options, By::Plan));
            for stopped in join_all(stops).await {
                match stopped {
                    // It ended or went by itself meanwhile.
                    Err(error) if matches!(error.kind(), Kind::NotModified | Kind::NotFound) => {}
                    other => result = result.and(other),
                }
            }
        }
        result
    }
}

/// Returns the running containers: a group for each stack and one for those of none, each in waves that stop one
/// after the other.
fn groups<'a>(rows: impl Iterator<Item = &'a Container>) -> Vec<Vec<Vec<String>>> {
    let mut groups: BTreeMap<Option<&str>, Vec<&Container>> = BTreeMap::new();
    for row in rows.filter(|row| runs(row.phase)) {
        groups
            .entry(row.replica.as_ref().map(|replica| replica.stack.as_str()))
            .or_default()
            .push(row);
    }
    groups
        .into_iter()
        .map(|(stack, rows)| if stack.is_some() { waves(rows) } else { vec![ids(&rows)] })
        .collect()
}

fn runs(phase: Phase) -> bool {
    !matches!(phase, Phase::Creating | Phase::Created | Phase::Exited | Phase::Removing)
}

/// Replicas of one service stop together; a service waits for those that were first started after it, as what it
/// needs was started before it.
fn waves(rows: Vec<&Container>) -> Vec<Vec<String>> {
    let mut services: BTreeMap<&str, Vec<&Container>> = BTreeMap::new();
    for row in rows {
        let service = row.replica.as_ref().map_or("", |replica| replica.service.as_str());
        services.entry(service).or_default().push(row);
    }
    let mut services: Vec<_> = services.into_values().collect();
    let first_start = |service: &Vec<&Container>| {
        service.iter().filter_map(|row| row.runtime.as_ref()).map(|run| run.started_at).min()
    };
    services.sort_by_key(|service| std::cmp::Reverse(first_start(service)));
    services.iter().map(|service| ids(service)).collect()
}

fn ids(rows: &[&Container]) -> Vec<String> {
    rows.iter().map(|row| row.id.clone()).collect()
}
