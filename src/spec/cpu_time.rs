//! How long a test's own work takes: the thread's time on a processor, which other programs don't lengthen.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A clock that stands while the thread does.
#[derive(Debug)]
pub(crate) struct CpuTime(Duration);

impl CpuTime {
    pub(crate) fn start() -> Self {
        Self(now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        now() - self.0
    }
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).expect("less than a second"),
    )
}
