//! What a container uses now, in the same units for both versions.

use super::{Cgroup, CgroupError, files};

/// A reading of the counters; a controller that the host lacks leaves zero or `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes in use, page cache included.
    pub memory_usage: u64,
    /// Bytes of page cache that are reclaimed first; docker shows usage without them.
    pub memory_inactive_file: u64,
    /// `None` is unlimited.
    pub memory_limit: Option<u64>,
    pub cpu_total_ns: u64,
    pub cpu_user_ns: u64,
    pub cpu_system_ns: u64,
    pub cpu_periods: u64,
    pub cpu_throttled_periods: u64,
    pub cpu_throttled_ns: u64,
    pub pids: u64,
    pub pids_limit: Option<u64>,
    pub io_read_bytes: u64,
    pub io_write_bytes: u64,
    pub oom_kills: u64,
}

/// Version 1 writes "no limit" as the largest number of pages; anything near it is none.
const V1_UNLIMITED: u64 = 1 << 62;
/// `cpuacct.stat` counts in USER_HZ, which is 100 on every platform of ours (proc(5)).
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// Reads all counters.
pub(super) fn read(cgroup: &Cgroup) -> Result<Stats, CgroupError> {
    let mut stats = Stats { oom_kills: oom_count(cgroup)?, ..Stats::default() };
    read_memory(cgroup, &mut stats)?;
    read_cpu(cgroup, &mut stats)?;
    if let Some(dir) = cgroup.v1_dir("pids").or_else(|| cgroup.v2_dir().map(Into::into)) {
        stats.pids = files::read_number(&dir.join("pids.current"))?.unwrap_or(0);
        stats.pids_limit = files::read_number(&dir.join("pids.max"))?;
    }
    read_io(cgroup, &mut stats)?;
    Ok(stats)
}

/// Returns how many processes of the cgroup the OOM killer took.
pub(super) fn oom_count(cgroup: &Cgroup) -> Result<u64, CgroupError> {
    let file = match (cgroup.v1_dir("memory"), cgroup.v2_dir()) {
        // The line `oom_kill` is there since Linux 4.13.
        (Some(dir), _) => dir.join("memory.oom_control"),
        (None, Some(dir)) => dir.join("memory.events"),
        (None, None) => return Ok(0),
    };
    let text = files::read_optional(&file)?;
    Ok(text.and_then(|text| files::keyed(&text, "oom_kill")).unwrap_or(0))
}

fn read_memory(cgroup: &Cgroup, stats: &mut Stats) -> Result<(), CgroupError> {
    let (dir, usage, limit, inactive) = match (cgroup.v1_dir("memory"), cgroup.v2_dir()) {
        (Some(dir), _) => {
            (dir, "memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file")
        }
        (None, Some(dir)) => (dir.to_owned(), "memory.current", "memory.max", "inactive_file"),
        (None, None) => return Ok(()),
    };
    stats.memory_usage = files::read_number(&dir.join(usage))?.unwrap_or(0);
    stats.memory_limit =
        files::read_number(&dir.join(limit))?.filter(|limit| *limit < V1_UNLIMITED);
    if let Some(text) = files::read_optional(&dir.join("memory.stat"))? {
        stats.memory_inactive_file = files::keyed(&text, inactive).unwrap_or(0);
    }
    Ok(())
}

fn read_cpu(cgroup: &Cgroup, stats: &mut Stats) -> Result<(), CgroupError> {
    let v1_time = cgroup.v1_dir("cpuacct");
    if let Some(dir) = &v1_time {
        stats.cpu_total_ns = files::read_number(&dir.join("cpuacct.usage"))?.unwrap_or(0);
        if let Some(text) = files::read_optional(&dir.join("cpuacct.stat"))? {
            let ticks = |key| files::keyed(&text, key).unwrap_or(0) * NANOSECONDS_PER_TICK;
            stats.cpu_user_ns = ticks("user");
            stats.cpu_system_ns = ticks("system");
        }
    }
    if let Some(dir) = cgroup.v1_dir("cpu")
        && let Some(text) = files::read_optional(&dir.join("cpu.stat"))?
    {
        read_throttling(&text, stats);
        stats.cpu_throttled_ns = files::keyed(&text, "throttled_time").unwrap_or(0);
        return Ok(());
    }
    let Some(dir) = cgroup.v2_dir() else { return Ok(()) };
    let Some(text) = files::read_optional(&dir.join("cpu.stat"))? else { return Ok(()) };
    let microseconds = |key| files::keyed(&text, key).unwrap_or(0) * 1000;
    if v1_time.is_none() {
        stats.cpu_total_ns = microseconds("usage_usec");
        stats.cpu_user_ns = microseconds("user_usec");
        stats.cpu_system_ns = microseconds("system_usec");
    }
    read_throttling(&text, stats);
    stats.cpu_throttled_ns = microseconds("throttled_usec");
    Ok(())
}

fn read_throttling(text: &str, stats: &mut Stats) {
    stats.cpu_periods = files::keyed(text, "nr_periods").unwrap_or(0);
    stats.cpu_throttled_periods = files::keyed(text, "nr_throttled").unwrap_or(0);
}

fn read_io(cgroup: &Cgroup, stats: &mut Stats) -> Result<(), CgroupError> {
    if let Some(dir) = cgroup.v1_dir("blkio") {
        let text = files::read_optional(&dir.join("blkio.throttle.io_service_bytes_recursive"))?;
        // Lines are `8:0 Read 4096`, the last one is `Total 4096`.
        for line in text.unwrap_or_default().lines() {
            let mut words = line.split_whitespace().skip(1);
            let (Some(kind), Some(Ok(bytes))) = (words.next(), words.next().map(str::parse::<u64>))
            else {
                continue;
            };
            match kind {
                "Read" => stats.io_read_bytes += bytes,
                "Write" => stats.io_write_bytes += bytes,
                _ => {}
            }
        }
        return Ok(());
    }
    let Some(dir) = cgroup.v2_dir() else { return Ok(()) };
    let text = files::read_optional(&dir.join("io.stat"))?.unwrap_or_default();
    for word in text.split_whitespace() {
        let Some((key, value)) = word.split_once('=') else { continue };
        let bytes: u64 = value.parse().unwrap_or(0);
        match key {
            "rbytes" => stats.io_read_bytes += bytes,
            "wbytes" => stats.io_write_bytes += bytes,
            _ => {}
        }
    }
    Ok(())
}
