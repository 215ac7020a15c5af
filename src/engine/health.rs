//! When is a container healthy: results of probes and the clock in, health out. Pure.
//!
//! The rules are docker's (moby `daemon/health.go`): failures within the start period don't count while
//! the container is `starting`; one success ends that; `retries` failures in a row are unhealthy.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::reconcile::observed::Health;
use crate::spec::container::Healthcheck;

/// Results that `inspect` shows.
const KEPT_PROBES: usize = 5;
/// Bytes of a probe's output that are kept.
const KEPT_OUTPUT: usize = 4096;

/// A health check with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub command: Vec<String>,
    pub interval: Duration,
    pub timeout: Duration,
    pub start_period: Duration,
    pub start_interval: Duration,
    pub retries: u32,
}

/// The result of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub start: SystemTime,
    pub end: SystemTime,
    /// 0 is healthy; -1 when it ran into its timeout or could not be started.
    pub exit_code: i32,
    pub output: String,
}

/// What is known about the health of one run of a container; stored, so that a new engine goes on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    started: SystemTime,
    status: Health,
    failing_streak: u32,
    probes: VecDeque<Probe>,
}

impl Check {
    /// Returns the check of a container, or `None` when it has none or `NONE`.
    ///
    /// Fields that `asked` leaves at zero are the image's, then docker's default.
    pub fn new(asked: Option<&Healthcheck>, image: Option<&Healthcheck>) -> Option<Self> {
        let empty = Healthcheck::default();
        let (asked, image) = (asked.unwrap_or(&empty), image.unwrap_or(&empty));
        let test = if asked.test.is_empty() { &image.test } else { &asked.test };
        let command = match test.split_first()? {
            (word, rest) if word == "CMD" => rest.to_vec(),
            (word, rest) if word == "CMD-SHELL" => ["/bin/sh".to_owned(), "-c".to_owned()]
                .into_iter()
                .chain(rest.iter().cloned())
                .collect(),
            _ => return None,
        };
        let time = |asked: u64, image: u64, default: u64| match (asked, image) {
            (0, 0) => Duration::from_secs(default),
            (0, image) => Duration::from_nanos(image),
            (asked, _) => Duration::from_nanos(asked),
        };
        let retries = [asked.retries, image.retries].into_iter().find(|retries| *retries != 0);
        Some(Self {
            command,
            interval: time(asked.interval, image.interval, 30),
            timeout: time(asked.timeout, image.timeout, 30),
            start_period: time(asked.start_period, image.start_period, 0),
            start_interval: time(asked.start_interval, image.start_interval, 5),
            retries: retries.unwrap_or(3),
        })
    }
}

impl Monitor {
    /// Begins the watch over a container that was started at `started`.
    pub fn new(started: SystemTime) -> Self {
        Self { started, status: Health::Starting, failing_streak: 0, probes: VecDeque::new() }
    }

    pub fn status(&self) -> Health {
        self.status
    }

    pub fn failing_streak(&self) -> u32 {
        self.failing_streak
    }

    /// Returns the last results, oldest first.
    pub fn probes(&self) -> impl Iterator<Item = &Probe> {
        self.probes.iter()
    }

    /// Returns how long to wait from `now` until the next probe.
    pub fn wait(&self, check: &Check, now: SystemTime) -> Duration {
        if self.status == Health::Starting && self.within_start_period(check, now) {
            return check.start_interval;
        }
        check.interval
    }

    /// Takes a result in and returns the new health if it changed.
    pub fn record(&mut self, check: &Check, mut probe: Probe) -> Option<Health> {
        let before = self.status;
        if probe.exit_code == 0 {
            self.failing_streak = 0;
            self.status = Health::Healthy;
        } else if self.status != Health::Starting || !self.within_start_period(check, probe.start) {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= check.retries {
                self.status = Health::Unhealthy;
            }
        }
        let cut = probe.output.floor_char_boundary(KEPT_OUTPUT);
        probe.output.truncate(cut);
        if self.probes.len() == KEPT_PROBES {
            self.probes.pop_front();
        }
        self.probes.push_back(probe);
        (self.status != before).then_some(self.status)
    }

    /// A clock that was set back counts as within.
    fn within_start_period(&self, check: &Check, now: SystemTime) -> bool {
        now.duration_since(self.started).unwrap_or_default() < check.start_period
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    fn check() -> Check {
        let asked = Healthcheck {
            test: vec!["CMD".into(), "true".into()],
            start_period: 10_000_000_000,
            retries: 2,
            ..Healthcheck::default()
        };
        Check::new(Some(&asked), None).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn probe(seconds: u64, exit_code: i32) -> Probe {
        Probe { start: at(seconds), end: at(seconds), exit_code, output: String::new() }
    }

    #[test]
    fn failures_in_the_start_period_do_not_count() {
        let (check, mut monitor) = (check(), Monitor::new(at(0)));
        for second in 1..9 {
            assert_eq!(monitor.record(&check, probe(second, 1)), None);
        }
        assert_eq!((monitor.status(), monitor.failing_streak()), (Health::Starting, 0));
        assert_eq!(monitor.record(&check, probe(11, 1)), None);
        assert_eq!(monitor.record(&check, probe(12, 1)), Some(Health::Unhealthy));
    }

    #[test]
    fn one_success_ends_the_start_period() {
        let (check, mut monitor) = (check(), Monitor::new(at(0)));
        assert_eq!(monitor.wait(&check, at(1)), Duration::from_secs(5));
        assert_eq!(monitor.record(&check, probe(1, 0)), Some(Health::Healthy));
        assert_eq!(monitor.wait(&check, at(2)), Duration::from_secs(30));
        assert_eq!(monitor.record(&check, probe(2, 1)), None);
        assert_eq!(monitor.record(&check, probe(3, -1)), Some(Health::Unhealthy));
        assert_eq!(monitor.record(&check, probe(4, 0)), Some(Health::Healthy));
        assert_eq!(monitor.failing_streak(), 0);
    }

    #[test]
    fn only_the_last_five_results_are_kept_and_their_output_is_cut_between_characters() {
        let (check, mut monitor) = (check(), Monitor::new(at(0)));
        for second in 0..9 {
            monitor.record(&check, Probe { output: "é".repeat(4000), ..probe(second, 0) });
        }
        assert_eq!(monitor.probes().count(), 5);
        assert!(monitor.probes().all(|probe| probe.output.len() == 4096));
    }

    #[test]
    fn the_container_overrides_the_image_field_by_field_and_none_turns_it_off() {
        let image = Healthcheck {
            test: vec!["CMD-SHELL".into(), "x".into()],
            retries: 7,
            ..Healthcheck::default()
        };
        let asked = Healthcheck { interval: 1_000_000_000, ..Healthcheck::default() };
        let check = Check::new(Some(&asked), Some(&image)).unwrap();
        assert_eq!(check.command, ["/bin/sh", "-c", "x"]);
        assert_eq!((check.retries, check.interval), (7, Duration::from_secs(1)));
        let none = Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() };
        assert_eq!(Check::new(Some(&none), Some(&image)), None);
        assert_eq!(Check::new(None, None), None);
    }
}
