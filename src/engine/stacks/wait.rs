//! `--wait`: until every service runs and is healthy, or one can't become so. A job that ended well counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::time::Instant;

use super::report::{Failure, Teller};
use crate::engine::core::{Engine, now};
use crate::engine::events::Query;
use crate::engine::host::{Verdict, exited};
use crate::engine::state::containers::{Container, Phase};
use crate::protocol::Progress;
use crate::reconcile::observed::Health;
use crate::spec::container::RestartPolicy;
use crate::spec::name::ServiceName;
use crate::spec::stack::Service;

/// A program without a health check counts once it has run for so long: most that fail do so at once.
const SETTLING: Duration = Duration::from_millis(250);

impl Engine {
    /// Waits for the services of `scope`; the client's going away ends it.
    pub(super) async fn await_stack(
        self: &Arc<Self>,
        stack: &str,
        scope: &[ServiceName],
        timeout: Option<u64>,
        teller: &Teller,
    ) -> Result<Option<String>, Failure> {
        let deadline = timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut told = Vec::new();
        // Subscribed before the first look, so that nothing falls between.
        let (_, mut events) = self.bus.subscribe(&Query::default());
        while teller.is_heard() {
            let handles: Vec<_> = self
                .handles()
                .into_iter()
                .filter(|handle| is_of(&handle.row(), stack, scope))
                .collect();
            let mut watches: Vec<_> = handles.iter().map(|handle| handle.watch()).collect();
            let rows: Vec<_> =
                watches.iter_mut().map(|w| Arc::clone(&w.borrow_and_update().row)).collect();
            let waiting = waiting(&self.wanted(stack, scope)?, &rows)?;
            let settling = rows.iter().map(|row| settling(row)).max().unwrap_or_default();
            if waiting.is_empty() && settling.is_zero() {
                return Ok(None);
            }
            let waiting_for_nobody = waiting.is_empty();
            if !waiting_for_nobody && waiting != told {
                teller.say(Progress::Waiting { services: waiting.clone() });
                told = waiting;
            }
            let changed = async {
                match watches.is_empty() {
                    true => std::future::pending().await,
                    false => {
                        _ = select_all(watches.iter_mut().map(|w| Box::pin(w.changed()))).await
                    }
                }
            };
            let late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let settled = async {
                match waiting_for_nobody {
                    true => tokio::time::sleep(settling).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                // Cancel-safe: everything is looked at anew after each of them.
                () = changed => {}
                () = settled => {}
                _ = events.recv() => {}
                () = teller.unheard() => {}
                () = late => {
                    let message = format!("timed out waiting for {}", told.join(", "));
                    return Err(Failure::new(message, None));
                }
            }
        }
        Ok(None)
    }

    /// Returns how many replicas of each service of `scope` are wanted now, without jobs that are done and gone.
    fn wanted(&self, stack: &str, scope: &[ServiceName]) -> Result<BTreeMap<String, u32>, Failure> {
        let stored = self.stored_stack(stack)?.filter(|stored| stored.row.wanted);
        let Some(stored) = stored else {
            let message = format!("stack {stack} was taken down meanwhile");
            return Err(Failure::new(message, None));
        };
        let done = self.finished_jobs(&stored.desired())?;
        let left = |service: &Service| {
            let done = done.iter().filter(|(name, _)| *name == service.name).count();
            service.replicas.saturating_sub(u32::try_from(done).unwrap_or(u32::MAX))
        };
        let services = stored.stack().services.values().filter(|s| scope.contains(&s.name));
        Ok(services.map(|s| (s.name.as_str().to_owned(), left(s))).collect())
    }
}

fn is_of(row: &Container, stack: &str, scope: &[ServiceName]) -> bool {
    row.replica.as_ref().is_some_and(|replica| {
        replica.stack == stack
            && !replica.oneoff
            && scope.iter().any(|service| service.as_str() == replica.service)
    })
}

/// Returns the services that are not ready yet, or why one can't become so.
fn waiting(
    wanted: &BTreeMap<String, u32>,
    rows: &[Arc<Container>],
) -> Result<Vec<String>, Failure> {
    let mut waiting = Vec::new();
    for (service, count) in wanted {
        let mut ready = 0;
        for row in
            rows.iter().filter(|row| row.replica.as_ref().is_some_and(|r| r.service == *service))
        {
            match settled(row) {
                Verdict::Met => ready += 1,
                Verdict::NotYet => {}
                Verdict::Never(why) => {
                    let message = format!("container {} {why}", row.name);
                    let hint = Some(format!("see its output: bargee logs {}", row.name));
                    return Err(Failure::new(message, hint));
                }
            }
        }
        if ready < *count {
            waiting.push(service.clone());
        }
    }
    Ok(waiting)
}

/// Judges one container as compose's `--wait` does, with a job's good end as good.
fn settled(row: &Container) -> Verdict {
    let code = row.exit.as_ref().map_or(0, |exit| exit.code);
    let gives_up = match row.spec.restart {
        RestartPolicy::No => true,
        RestartPolicy::OnFailure { max } => code == 0 || (max > 0 && row.restart_count >= max),
        RestartPolicy::Always | RestartPolicy::UnlessStopped => row.stopped_by_user,
    };
    match (row.phase, &row.health) {
        (Phase::Exited, _) if code == 0 && gives_up => Verdict::Met,
        (Phase::Exited, _) if gives_up => Verdict::Never(exited(row)),
        (Phase::Running, None) => Verdict::Met,
        (Phase::Running, Some(monitor)) => match monitor.status() {
            Health::Healthy => Verdict::Met,
            Health::Starting => Verdict::NotYet,
            Health::Unhealthy => Verdict::Never("is unhealthy".to_owned()),
        },
        _ => Verdict::NotYet,
    }
}

/// Returns how long a container still has to run until it counts.
fn settling(row: &Container) -> Duration {
    let started = row.runtime.as_ref().filter(|_| row.phase == Phase::Running);
    let Some(started) = started.filter(|_| row.health.is_none()) else { return Duration::ZERO };
    let up = u64::try_from(now() - started.started_at).unwrap_or(0);
    SETTLING.saturating_sub(Duration::from_nanos(up))
}
