//! When a container that exited is started again: first at once, then 100 ms doubled up to 60 s with
//! jitter; ten seconds up forgive all that was before. Pure: time and randomness come in.

use std::time::Duration;

use crate::spec::container::RestartPolicy;
use crate::spec::stack::RestartLimits;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// How a container's last run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    pub code: i32,
    pub up_for: Duration,
    pub stopped_by_user: bool,
}

/// What follows an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It stays exited.
    Stay,
    /// It starts again; `restarts` is the count to remember.
    Start { after: Duration, restarts: u32 },
}

/// Returns what follows `exit` after `restarts` restarts in a row; `jitter` is a random number in 0..1.
pub fn after_exit(
    policy: RestartPolicy,
    limits: RestartLimits,
    exit: Exit,
    restarts: u32,
    jitter: f64,
) -> Next {
    let restarts =
        if exit.up_for >= limits.window.unwrap_or(FORGIVEN_AFTER) { 0 } else { restarts };
    let wanted = match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max } => exit.code != 0 && (max == 0 || restarts < max),
    };
    if !wanted || exit.stopped_by_user {
        return Next::Stay;
    }
    let after = limits.delay.unwrap_or_default().max(delay(restarts, jitter));
    Next::Start { after, restarts: restarts.saturating_add(1) }
}

/// Returns the pause before the next try after `failures` in a row: zero, then 100 ms × 2 up to 60 s, of
/// which `jitter` (0..1) takes up to a quarter away.
pub fn delay(failures: u32, jitter: f64) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    let full = FIRST_DELAY.saturating_mul(1_u32.checked_shl(doublings.min(31)).unwrap_or(u32::MAX));
    full.min(LONGEST_DELAY).mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32, seconds: u64) -> Exit {
        Exit { code, up_for: Duration::from_secs(seconds), stopped_by_user: false }
    }

    #[test]
    fn the_first_restart_is_at_once_and_the_pauses_double_up_to_a_minute() {
        let pauses: Vec<u128> =
            [0, 1, 2, 3, 10, 11, 40, u32::MAX].map(|n| delay(n, 0.0).as_millis()).to_vec();
        assert_eq!(pauses, [0, 100, 200, 400, 51_200, 60_000, 60_000, 60_000]);
        assert_eq!(delay(1, 1.0), Duration::from_millis(75));
    }

    #[test]
    fn ten_seconds_up_forgive_earlier_crashes() {
        let next =
            |up| after_exit(RestartPolicy::Always, RestartLimits::default(), exit(1, up), 5, 0.0);
        assert_eq!(next(1), Next::Start { after: Duration::from_millis(1600), restarts: 6 });
        assert_eq!(next(10), Next::Start { after: Duration::ZERO, restarts: 1 });
    }

    #[test]
    fn on_failure_counts_failures_only_and_ends_at_its_maximum() {
        let policy = RestartPolicy::OnFailure { max: 2 };
        let next = |code, restarts| {
            after_exit(policy, RestartLimits::default(), exit(code, 0), restarts, 0.0)
        };
        assert_eq!(next(0, 0), Next::Stay);
        assert_eq!(next(1, 1), Next::Start { after: Duration::from_millis(100), restarts: 2 });
        assert_eq!(next(1, 2), Next::Stay);
    }

    #[test]
    fn what_the_user_stopped_stays_stopped() {
        let stopped = Exit { stopped_by_user: true, ..exit(137, 60) };
        let next = after_exit(RestartPolicy::Always, RestartLimits::default(), stopped, 0, 0.0);
        assert_eq!(next, Next::Stay);
    }
}
