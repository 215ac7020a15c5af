//! The words of `ps`: what a container is doing, and for how long, as docker says it. Pure.

use std::time::{Duration, SystemTime};

use crate::reconcile::observed::{Health, State};

/// Returns a time as docker prints it (go-units `HumanDuration`).
pub(super) fn ago(time: Duration) -> String {
    let (seconds, minutes, hours) =
        (time.as_secs(), time.as_secs() / 60, (time.as_secs() + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// What the state alone does not say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct More {
    pub(super) health: Option<Health>,
    /// Restarts in a row.
    pub(super) failures: u32,
    /// The last run ended for want of memory.
    pub(super) oom: bool,
    /// An exit that its restart policy gave up on, or none follows.
    pub(super) now: Option<SystemTime>,
}

/// Returns the status column.
pub(super) fn status(state: &State, since: Option<SystemTime>, more: More) -> String {
    let now = more.now.unwrap_or(SystemTime::UNIX_EPOCH);
    let since_text = |time: SystemTime| ago(now.duration_since(time).unwrap_or_default());
    match state {
        State::Created => "Created".to_owned(),
        State::Running { since } => {
            let health = match more.health {
                None => "",
                Some(Health::Starting) => " (health: starting)",
                Some(Health::Healthy) => " (healthy)",
                Some(Health::Unhealthy) => " (unhealthy)",
            };
            let after = if more.oom { ", restarted after OOM" } else { "" };
            format!("Up {}{health}{after}", since_text(*since))
        }
        State::Paused => {
            format!("Up {} (Paused)", since.map_or_else(|| since_text(now), since_text))
        }
        State::Restarting { until, code } => {
            let failures = match more.failures {
                1 => "1 failure".to_owned(),
                many => format!("{many} failures"),
            };
            let oom = if more.oom { ", OOM" } else { "" };
            let left = until.and_then(|until| until.duration_since(now).ok()).unwrap_or_default();
            match left.is_zero() {
                true => format!("Restarting now (exit {code}{oom}, {failures})"),
                // Rounded up: it is not before the time told.
                false => format!(
                    "Restarting in {}s (exit {code}{oom}, {failures})",
                    left.as_millis().div_ceil(1000)
                ),
            }
        }
        State::Exited { code, oom, at } => {
            let oom = if *oom { ", OOM" } else { "" };
            format!("Exited ({code}) {} ago{oom}", since_text(*at))
        }
        State::Removing => "Removal in progress".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_dockers_words() {
        let told = |seconds| ago(Duration::from_secs(seconds));
        assert_eq!(told(0), "Less than a second");
        assert_eq!(told(1), "1 second");
        assert_eq!(told(59), "59 seconds");
        assert_eq!(told(60), "About a minute");
        assert_eq!(told(180), "3 minutes");
        assert_eq!(told(3600), "About an hour");
        assert_eq!(told(7200), "2 hours");
        assert_eq!(told(3600 * 48), "2 days");
        assert_eq!(told(3600 * 24 * 14), "2 weeks");
        assert_eq!(told(3600 * 24 * 60), "2 months");
        assert_eq!(told(3600 * 24 * 365 * 2), "2 years");
    }

    #[test]
    fn a_status_says_what_happens_next() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let before = |seconds| now - Duration::from_secs(seconds);
        let more = |health, failures| More { health, failures, oom: false, now: Some(now) };
        let told = |state, more| status(&state, None, more);
        assert_eq!(
            told(State::Running { since: before(180) }, more(Some(Health::Healthy), 0)),
            "Up 3 minutes (healthy)"
        );
        let until = Some(now + Duration::from_millis(3200));
        assert_eq!(
            told(State::Restarting { until, code: 1 }, more(None, 3)),
            "Restarting in 4s (exit 1, 3 failures)"
        );
        let starved = |state| status(&state, None, More { oom: true, ..more(None, 1) });
        assert_eq!(
            starved(State::Restarting { until, code: 137 }),
            "Restarting in 4s (exit 137, OOM, 1 failure)"
        );
        assert_eq!(
            starved(State::Running { since: before(5) }),
            "Up 5 seconds, restarted after OOM"
        );
        let exited = State::Exited { code: 137, oom: true, at: before(120) };
        assert_eq!(told(exited, more(None, 0)), "Exited (137) 2 minutes ago, OOM");
    }
}
