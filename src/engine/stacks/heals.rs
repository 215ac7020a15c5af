//! How often one thing may be healed before somebody should look at it. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use crate::reconcile::cause::Cause;
use crate::reconcile::plan::Planned;

/// More heals of one thing than this within [`WINDOW`] freeze its stack.
const BUDGET: usize = 10;
const WINDOW: Duration = Duration::from_secs(600);

/// The heals of one stack, by subject.
#[derive(Debug, Default)]
pub(super) struct Heals {
    times: BTreeMap<String, VecDeque<SystemTime>>,
}

impl Heals {
    /// Counts one heal of `subject`; returns why the loop should stop when it was one too many.
    pub(super) fn count(&mut self, subject: &str, cause: &str, now: SystemTime) -> Option<String> {
        let times = self.times.entry(subject.to_owned()).or_default();
        times.push_back(now);
        // A clock that was set back counts as within the window.
        times.retain(|time| now.duration_since(*time).unwrap_or_default() < WINDOW);
        (times.len() > BUDGET).then(|| {
            format!(
                "{subject} had to be healed {} times within {} minutes (last: {cause})",
                times.len(),
                WINDOW.as_secs() / 60
            )
        })
    }

    /// Forgets all, as an explicit request of the user wants.
    pub(super) fn forget(&mut self) {
        self.times.clear();
    }
}

/// Returns whether a step of a round that nobody asked for mends something that went wrong.
pub(super) fn is_heal(planned: &Planned) -> bool {
    matches!(
        planned.cause,
        Cause::Missing
            | Cause::Broken { .. }
            | Cause::Exited { .. }
            | Cause::Unhealthy
            | Cause::Drifted { .. }
            | Cause::NameChanged
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eleventh_heal_of_one_thing_within_ten_minutes_is_too_many() {
        let mut heals = Heals::default();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for second in 0..10 {
            let now = start + Duration::from_secs(second);
            assert_eq!(heals.count("web.1", "missing", now), None);
            assert_eq!(heals.count("db.1", "missing", now), None);
        }
        let frozen = heals.count("web.1", "missing", start + Duration::from_secs(10));
        assert_eq!(
            frozen.as_deref(),
            Some("web.1 had to be healed 11 times within 10 minutes (last: missing)")
        );
        assert_eq!(heals.count("db.1", "missing", start + Duration::from_secs(700)), None);
    }
}
