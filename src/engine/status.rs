//! How far a container is, in the words of `docker ps`. Pure; the clock is an argument.

use crate::engine::health::Monitor;
use crate::engine::state::containers::{Container, Phase};
use crate::reconcile::observed::Health;

const SECOND: i64 = 1_000_000_000;

/// Returns docker's word: `created`, `running`, `paused`, `restarting`, `removing`, `exited`.
pub fn state(phase: Phase) -> &'static str {
    match phase {
        Phase::Creating | Phase::Created => "created",
        Phase::Starting | Phase::Running | Phase::Stopping => "running",
        Phase::Paused => "paused",
        Phase::Restarting => "restarting",
        Phase::Exited => "exited",
        Phase::Removing => "removing",
    }
}

/// Returns the status column: `Up 3 minutes (healthy)`, `Exited (0) 2 seconds ago`. `now` is Unix time in nanoseconds.
pub fn status(row: &Container, now: i64) -> String {
    let ago = |at: i64| duration(now - at);
    let started = row.runtime.as_ref().map_or(now, |runtime| runtime.started_at);
    let exit = row.exit.as_ref();
    match row.phase {
        Phase::Creating | Phase::Created => "Created".to_owned(),
        Phase::Paused => format!("Up {} (Paused)", ago(started)),
        Phase::Starting | Phase::Running | Phase::Stopping => match row.health.as_ref().map(health)
        {
            Some("starting") => format!("Up {} (health: starting)", ago(started)),
            Some(health) => format!("Up {} ({health})", ago(started)),
            None => format!("Up {}", ago(started)),
        },
        Phase::Restarting => match exit {
            Some(exit) => format!("Restarting ({}) {} ago", exit.code, ago(exit.at)),
            None => "Restarting".to_owned(),
        },
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Exited => match exit {
            Some(exit) => format!("Exited ({}) {} ago", exit.code, ago(exit.at)),
            None => "Created".to_owned(),
        },
    }
}

/// Returns docker's word of a health.
pub fn health(monitor: &Monitor) -> &'static str {
    match monitor.status() {
        Health::Starting => "starting",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}

/// Words for a time, as docker rounds it (docker/go-units `duration.go`). Takes nanoseconds.
pub fn duration(nanoseconds: i64) -> String {
    let seconds = nanoseconds.max(0) / SECOND;
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, 0..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_as_docker_rounds_them() {
        let words = [
            0, 1, 59, 60, 119, 120, 3599, 3600, 5400, 169_200, 172_800, 1_209_600, 5_184_000,
            63_072_000,
        ]
        .map(|seconds| duration(seconds * SECOND));
        assert_eq!(
            words,
            [
                "Less than a second",
                "1 second",
                "59 seconds",
                "About a minute",
                "About a minute",
                "2 minutes",
                "59 minutes",
                "About an hour",
                "2 hours",
                "47 hours",
                "2 days",
                "2 weeks",
                "2 months",
                "2 years",
            ]
        );
    }
}
