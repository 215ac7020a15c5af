//! Restarts by the container's own policy, with a backoff that outlives the engine.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::containers::Handle;
use crate::engine::core::{Engine, now};
use crate::engine::state::containers::{Container, Phase};
use crate::engine::state::restarts::{self, Backoff};
use crate::engine::state::{Durability, StateError};
use crate::reconcile::restart::{self, Next};

impl Engine {
    /// Returns after what time the container starts again, and remembers it; `None`: it stays exited.
    pub(super) fn decide_restart(
        &self,
        row: &Container,
        code: i32,
        up_for: Duration,
    ) -> Option<Duration> {
        if self.stacks.rests() {
            // Everything of this root is being stopped; the next engine starts it again.
            return None;
        }
        let stopped_by_user = row.stopped_by_user || row.phase == Phase::Stopping;
        let known = self.backoff(&row.id);
        let exit = restart::Exit { code, up_for, stopped_by_user };
        let next = restart::after_exit(
            row.spec.restart,
            self.restart_limits(row),
            exit,
            known.failures,
            jitter(),
        );
        let Next::Start { after, restarts } = next else { return None };
        let wait = i64::try_from(after.as_nanos()).unwrap_or(i64::MAX);
        let backoff =
            Backoff { failures: restarts, next_at: Some(now().saturating_add(wait)), ..known };
        if let Err(error) = self.write(Durability::Process, |tx| restarts::put(tx, &backoff)) {
            // The restart is worth more than its count.
            tracing::warn!(container = row.id, %error, "a backoff is not written down");
        }
        Some(after)
    }

    /// Returns what is known of the container's failures.
    fn backoff(&self, id: &str) -> Backoff {
        let fresh =
            || Backoff { subject: id.to_owned(), failures: 0, incarnation: 0, next_at: None };
        match self.read(|connection| restarts::get(connection, id)) {
            Ok(known) => known.unwrap_or_else(fresh),
            Err(error) => {
                tracing::warn!(container = id, %error, "a backoff starts anew");
                fresh()
            }
        }
    }

    /// Returns how long a container that waits for its restart has still to wait.
    pub(in crate::engine::containers) fn wait_of(&self, id: &str) -> Duration {
        let left = self.backoff(id).next_at.unwrap_or(0) - now();
        Duration::from_nanos(u64::try_from(left).unwrap_or(0))
    }

    /// Starts the container again after a time, unless somebody stops, starts or removes it first.
    pub(in crate::engine::containers) fn restart_later(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
        after: Duration,
    ) {
        let (engine, id) = (Arc::downgrade(self), handle.id().to_owned());
        let run = handle.row().runtime.as_ref().map(|runtime| runtime.incarnation);
        tokio::spawn(async move {
            let mut after = after;
            loop {
                tokio::time::sleep(after).await;
                let Some(engine) = engine.upgrade() else { return };
                let Some(handle) = engine.handle(&id) else { return };
                let _verb = handle.verb.lock().await;
                let row = handle.row();
                let same = row.runtime.as_ref().map(|runtime| runtime.incarnation) == run;
                if row.phase != Phase::Restarting || !same || engine.stacks.rests() {
                    return;
                }
                let Err(error) = engine.start_locked(&handle).await else { return };
                tracing::warn!(container = id, error = error.full(), "a restart failed");
                match engine.put_off(&handle) {
                    Ok(Some(more)) => after = more,
                    Ok(None) => return,
                    Err(error) => {
                        tracing::error!(container = id, %error, "a failed restart is not written down");
                        return;
                    }
                }
            }
        });
    }

    /// A restart that failed counts as an exit after no time at all.
    fn put_off(self: &Arc<Self>, handle: &Arc<Handle>) -> Result<Option<Duration>, StateError> {
        let row = handle.row();
        let code = row.exit.as_ref().map_or(0, |exit| exit.code);
        let Some(after) = self.decide_restart(&row, code, Duration::ZERO) else {
            return Ok(None);
        };
        self.change(handle, Durability::Process, |row| {
            row.phase = Phase::Restarting;
            row.restart_count += 1;
        })?;
        Ok(Some(after))
    }
}

/// Returns a random number in 0..1. Without randomness all wait the full time.
fn jitter() -> f64 {
    getrandom::u32().map_or(0.0, |random| f64::from(random) / f64::from(u32::MAX))
}
