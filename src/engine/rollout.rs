//! Whether the containers that an update makes are good.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::host::{exited, find, host_error};
use crate::engine::state::containers::{Container, Phase};
use crate::reconcile::host::{HostError, NewContainer};
use crate::reconcile::observed::Health;
use crate::spec::container::RestartPolicy;

/// Watches a container for `duration`.
///
/// # Errors
/// It ended, was restarted, or is unhealthy.
pub(super) async fn monitor(
    engine: &Arc<Engine>,
    name: &str,
    duration: Duration,
) -> Result<(), HostError> {
    let Some(handle) = find(engine, name) else {
        return Err(host_error(EngineError::NoContainer { word: name.to_owned() }));
    };
    let mut changes = handle.watch();
    let end = tokio::time::sleep(duration);
    tokio::pin!(end);
    loop {
        let fault = {
            let snapshot = changes.borrow_and_update();
            match snapshot.removed {
                true => Some("was removed".to_owned()),
                false => fault(&snapshot.row),
            }
        };
        if let Some(fault) = fault {
            return Err(failed(format!("container {name} {fault}"), name));
        }
        tokio::select! {
            // Cancel-safe: a change that is missed is seen by the next look.
            changed = changes.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            },
            () = &mut end => return Ok(()),
        }
    }
}

/// Looks at once.
///
/// # Errors
/// More than `tolerated` of the containers are faulty, or still those of before.
pub(super) fn check_failures(
    engine: &Arc<Engine>,
    containers: &[NewContainer],
    tolerated: usize,
) -> Result<(), HostError> {
    let faults: Vec<String> = containers
        .iter()
        .filter_map(|new| {
            let fault = match find(engine, &new.name) {
                None => Some("is not there".to_owned()),
                Some(handle) => {
                    let row = handle.row();
                    let other_image =
                        new.image_id.as_ref().is_some_and(|image| *image != row.image_id);
                    match row.hash != new.hash || other_image {
                        true => Some("was not replaced".to_owned()),
                        false => fault(&row),
                    }
                }
            };
            fault.map(|fault| format!("container {} {fault}", new.name))
        })
        .collect();
    match (faults.len() > tolerated, containers.first()) {
        (true, Some(first)) => Err(failed(faults.join(", "), &first.name)),
        _ => Ok(()),
    }
}

fn failed(message: String, name: &str) -> HostError {
    let hint = Some(format!("see its output: bargee logs {name}"));
    HostError { message, permanent: true, hint }
}

/// Returns what is wrong with a container that was started, as a phrase.
fn fault(row: &Container) -> Option<String> {
    if row.restart_count > 0 {
        return Some(match &row.exit {
            Some(_) => format!("was restarted: it {}", exited(row)),
            None => "was restarted".to_owned(),
        });
    }
    let ends_for_good =
        matches!(row.spec.restart, RestartPolicy::No | RestartPolicy::OnFailure { .. });
    let well = row.exit.as_ref().is_some_and(|exit| exit.code == 0);
    match row.phase {
        Phase::Creating | Phase::Created => Some(
            row.error
                .as_ref()
                .map_or("did not start".to_owned(), |error| format!("could not start: {error}")),
        ),
        Phase::Removing => Some("is being removed".to_owned()),
        Phase::Exited if well && ends_for_good => None,
        Phase::Exited => Some(exited(row)),
        Phase::Running | Phase::Starting | Phase::Stopping | Phase::Paused => {
            let health = row.health.as_ref().map(|monitor| monitor.status());
            (health == Some(Health::Unhealthy)).then(|| "is unhealthy".to_owned())
        }
        _ => None,
    }
}
