//! How long a test waits, and how fast something must be, on a machine slower than those the times were written for.

use std::sync::LazyLock;
use std::time::Duration;

/// How many times slower this machine is: a whole number in `BARGEE_TEST_SLOWNESS`.
static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
    let Ok(text) = std::env::var("BARGEE_TEST_SLOWNESS") else { return 1 };
    text.parse().expect("BARGEE_TEST_SLOWNESS is a whole number")
});

/// Returns `time` as it is on this machine. Every bar and every patience of a test goes through here.
pub(crate) fn slowed(time: Duration) -> Duration {
    time * *SLOWNESS
}
