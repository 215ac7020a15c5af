//! The health of running containers: one task each, which probes, remembers and tells.

use std::sync::Arc;
use std::time::SystemTime;

use super::execs::ExecSpec;
use super::lifecycle::is_up;
use super::{Handle, attach::Streams};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::health::{Check, Monitor, Probe};
use crate::engine::state::Durability;
use crate::engine::state::containers::Phase;
use crate::reconcile::observed::Health;

impl Engine {
    /// Probes the container's present run to its end, if it has a health check. Holds no engine while it waits.
    pub(super) fn watch_health(self: &Arc<Self>, handle: &Arc<Handle>) {
        let Some(check) = self.check_of(handle) else { return };
        let Some(run) = run_of(handle) else { return };
        let (engine, id) = (Arc::downgrade(self), handle.id().to_owned());
        let mut watch = handle.watch();
        tokio::spawn(async move {
            loop {
                let wait = match watch.borrow().row.health.as_ref() {
                    Some(monitor) => monitor.wait(&check, SystemTime::now()),
                    None => return,
                };
                let ended = watch.wait_for(|state| {
                    let same = state.row.runtime.as_ref().is_some_and(|now| now.incarnation == run);
                    state.removed || !is_up(state.row.phase) || !same
                });
                if tokio::time::timeout(wait, ended).await.is_ok() {
                    return;
                }
                let Some(engine) = engine.upgrade() else { return };
                let Some(handle) = engine.handle(&id) else { return };
                if handle.row().phase != Phase::Running {
                    continue;
                }
                let probe = engine.probe(&handle, &check).await;
                if run_of(&handle) != Some(run) || handle.row().phase != Phase::Running {
                    continue;
                }
                if let Err(error) = engine.note_probe(&handle, &check, probe) {
                    tracing::warn!(
                        container = id,
                        error = error.full(),
                        "a probe is not written down"
                    );
                }
            }
        });
    }

    pub(super) fn check_of(&self, handle: &Handle) -> Option<Check> {
        let row = handle.row();
        let image = self.image_facts(&row).healthcheck;
        Check::new(row.spec.healthcheck.as_ref(), image.as_ref())
    }

    async fn probe(self: &Arc<Self>, handle: &Handle, check: &Check) -> Probe {
        let spec = ExecSpec {
            command: check.command.clone(),
            streams: Streams { stdin: false, stdout: true, stderr: true },
            ..ExecSpec::default()
        };
        let start = SystemTime::now();
        let (exit_code, output) = match self.run_exec(handle.id(), spec, check.timeout).await {
            Ok(result) => result,
            Err(error) => (-1, error.full()),
        };
        Probe { start, end: SystemTime::now(), exit_code, output }
    }

    fn note_probe(
        self: &Arc<Self>,
        handle: &Handle,
        check: &Check,
        probe: Probe,
    ) -> Result<(), EngineError> {
        let mut changed = None;
        let row = self.change(handle, Durability::Process, |row| {
            let monitor = row.health.get_or_insert_with(|| Monitor::new(probe.start));
            changed = monitor.record(check, probe);
        })?;
        if let Some(health) = changed {
            let word = match health {
                Health::Starting => "starting",
                Health::Healthy => "healthy",
                Health::Unhealthy => "unhealthy",
            };
            self.announce(&row, &format!("health_status: {word}"), &[]);
            // Published ports and names lead to the healthy replicas.
            self.refresh_soon();
        }
        Ok(())
    }
}

fn run_of(handle: &Handle) -> Option<u64> {
    handle.row().runtime.as_ref().map(|runtime| runtime.incarnation)
}
