//! Limits of version 1 controllers (kernel: `Documentation/admin-guide/cgroup-v1`).

use std::fs;
use std::io;
use std::path::Path;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxResources,
    LinuxThrottleDevice,
};

use super::{Cgroup, CgroupError, Unenforced, files};
use crate::runtime::devices;

/// Sets every limit whose controller is mounted as version 1.
pub(super) fn apply(
    cgroup: &Cgroup,
    resources: &LinuxResources,
) -> Result<Vec<Unenforced>, CgroupError> {
    let mut unenforced = Vec::new();
    if let (Some(memory), Some(dir)) = (resources.memory(), cgroup.v1_dir("memory")) {
        limit_memory(&dir, memory, &mut unenforced)?;
    }
    if let (Some(cpu), Some(dir)) = (resources.cpu(), cgroup.v1_dir("cpu")) {
        limit_cpu(&dir, cpu, &mut unenforced)?;
    }
    if let (Some(cpu), Some(dir)) = (resources.cpu(), cgroup.v1_dir("cpuset")) {
        limit_cpuset(&dir, cpu)?;
    }
    if let (Some(pids), Some(dir)) = (resources.pids(), cgroup.v1_dir("pids")) {
        files::write(&dir.join("pids.max"), &max_or(pids.limit()))?;
    }
    if let (Some(rules), Some(dir)) = (resources.devices(), cgroup.v1_dir("devices")) {
        for rule in rules {
            let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
            files::write(&dir.join(file), &devices::rule_line(rule))?;
        }
    }
    if let (Some(block_io), Some(dir)) = (resources.block_io(), cgroup.v1_dir("blkio")) {
        limit_block_io(&dir, block_io, &mut unenforced)?;
    }
    if let (Some(limits), Some(dir)) = (resources.hugepage_limits(), cgroup.v1_dir("hugetlb")) {
        limit_huge_pages(&dir, limits)?;
    }
    if let Some(network) = resources.network() {
        tag_network(cgroup, network, &mut unenforced)?;
    }
    Ok(unenforced)
}

/// Gives a cpuset that has no CPUs or memory nodes those of its parent; does nothing in other hierarchies.
pub(super) fn inherit_cpuset(dir: &Path) -> Result<(), CgroupError> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = dir.join(name);
        if files::read_optional(&file)?.is_some_and(|own| own.trim().is_empty()) {
            files::write(&file, files::read(&parent.join(name))?.trim())?;
        }
    }
    Ok(())
}

/// Sets memory and swap so that `limit <= memsw` holds at every moment, which the kernel demands.
fn limit_memory(
    dir: &Path,
    memory: &LinuxMemory,
    unenforced: &mut Vec<Unenforced>,
) -> Result<(), CgroupError> {
    let limit_file = dir.join("memory.limit_in_bytes");
    let swap_file = dir.join("memory.memsw.limit_in_bytes");
    let has_swap = swap_file.exists();
    // An unlimited memory with a limited sum would be refused, so the sum follows (as runc does).
    let swap = match (memory.limit(), memory.swap()) {
        (Some(-1), None) => Some(-1),
        (_, swap) => swap,
    };
    if swap.is_some_and(|swap| swap != -1) && !has_swap {
        let reason = "this kernel does not account swap (swapaccount=1)";
        unenforced.push(Unenforced { key: "memory.swap", reason });
    }
    let swap = swap.filter(|swap| has_swap && *swap != 0);
    let limit = memory.limit().filter(|limit| *limit != 0);
    match (limit, swap) {
        (Some(limit), Some(swap)) => {
            let current = files::read_number(&limit_file)?.unwrap_or(u64::MAX);
            // Raise the sum before the part; lower the part before the sum.
            let raises = u64::try_from(swap).map_or(true, |swap| current < swap);
            let mut writes = [(&limit_file, limit), (&swap_file, swap)];
            if raises {
                writes.reverse();
            }
            for (file, value) in writes {
                files::write(file, &value.to_string())?;
            }
        }
        (Some(limit), None) => files::write(&limit_file, &limit.to_string())?,
        (None, Some(swap)) => files::write(&swap_file, &swap.to_string())?,
        (None, None) => {}
    }
    if let Some(reservation) = memory.reservation().filter(|bytes| *bytes != 0) {
        files::write(&dir.join("memory.soft_limit_in_bytes"), &reservation.to_string())?;
    }
    if let Some(swappiness) = memory.swappiness() {
        files::write(&dir.join("memory.swappiness"), &swappiness.to_string())?;
    }
    if let Some(disable) = memory.disable_oom_killer() {
        files::write(&dir.join("memory.oom_control"), if disable { "1" } else { "0" })?;
    }
    if memory.kernel().is_some_and(|bytes| bytes > 0) {
        let reason = "kernel memory counts as memory since Linux 5.16";
        unenforced.push(Unenforced { key: "memory.kernel", reason });
    }
    if let Some(bytes) = memory.kernel_tcp().filter(|bytes| *bytes != 0) {
        files::write(&dir.join("memory.kmem.tcp.limit_in_bytes"), &bytes.to_string())?;
    }
    Ok(())
}

fn limit_cpu(
    dir: &Path,
    cpu: &LinuxCpu,
    unenforced: &mut Vec<Unenforced>,
) -> Result<(), CgroupError> {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        files::write(&dir.join("cpu.shares"), &shares.to_string())?;
    }
    limit_quota(dir, cpu)?;
    if let Some(burst) = cpu.burst() {
        files::write(&dir.join("cpu.cfs_burst_us"), &burst.to_string())?;
    }
    if let Some(idle) = cpu.idle() {
        files::write(&dir.join("cpu.idle"), &idle.to_string())?;
    }
    let realtime_period = cpu.realtime_period().filter(|value| *value != 0);
    let realtime_runtime = cpu.realtime_runtime().filter(|value| *value != 0);
    if realtime_period.is_some() || realtime_runtime.is_some() {
        if !dir.join("cpu.rt_runtime_us").exists() {
            let reason = "this kernel has no real-time group scheduling";
            unenforced.push(Unenforced { key: "cpu.realtimeRuntime", reason });
            return Ok(());
        }
        if let Some(period) = realtime_period {
            files::write(&dir.join("cpu.rt_period_us"), &period.to_string())?;
        }
        if let Some(runtime) = realtime_runtime {
            files::write(&dir.join("cpu.rt_runtime_us"), &runtime.to_string())?;
        }
    }
    Ok(())
}

/// Sets period and quota; the kernel refuses (`EINVAL`) an order that exceeds the parent's ratio in between.
fn limit_quota(dir: &Path, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let mut period_left = cpu.period().filter(|period| *period != 0);
    let period_file = dir.join("cpu.cfs_period_us");
    if let Some(period) = period_left {
        match files::write_raw(&period_file, &period.to_string()) {
            Ok(()) => period_left = None,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && quota.is_some() => {}
            Err(source) => {
                let value = period.to_string();
                return Err(CgroupError::Write { file: period_file, value, source });
            }
        }
    }
    if let Some(quota) = quota {
        files::write(&dir.join("cpu.cfs_quota_us"), &quota.to_string())?;
    }
    if let Some(period) = period_left {
        files::write(&period_file, &period.to_string())?;
    }
    Ok(())
}

fn limit_cpuset(dir: &Path, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    if let Some(cpus) = cpu.cpus().as_ref().filter(|cpus| !cpus.is_empty()) {
        files::write(&dir.join("cpuset.cpus"), cpus)?;
    }
    if let Some(mems) = cpu.mems().as_ref().filter(|mems| !mems.is_empty()) {
        files::write(&dir.join("cpuset.mems"), mems)?;
    }
    Ok(())
}

fn limit_block_io(
    dir: &Path,
    block_io: &LinuxBlockIo,
    unenforced: &mut Vec<Unenforced>,
) -> Result<(), CgroupError> {
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        let file = ["blkio.weight", "blkio.bfq.weight"].map(|name| dir.join(name));
        match file.iter().find(|file| file.exists()) {
            Some(file) => files::write(file, &weight.to_string())?,
            None => {
                let reason = "no I/O scheduler of this kernel knows weights";
                unenforced.push(Unenforced { key: "blockIO.weight", reason });
            }
        }
    }
    if block_io.weight_device().as_ref().is_some_and(|devices| !devices.is_empty()) {
        let reason = "weights per device are not set on cgroup v1";
        unenforced.push(Unenforced { key: "blockIO.weightDevice", reason });
    }
    throttle(dir, "blkio.throttle.read_bps_device", block_io.throttle_read_bps_device())?;
    throttle(dir, "blkio.throttle.write_bps_device", block_io.throttle_write_bps_device())?;
    throttle(dir, "blkio.throttle.read_iops_device", block_io.throttle_read_iops_device())?;
    throttle(dir, "blkio.throttle.write_iops_device", block_io.throttle_write_iops_device())
}

fn throttle(
    dir: &Path,
    name: &str,
    devices: &Option<Vec<LinuxThrottleDevice>>,
) -> Result<(), CgroupError> {
    for device in devices.iter().flatten() {
        let line = format!("{}:{} {}", device.major(), device.minor(), device.rate());
        files::write(&dir.join(name), &line)?;
    }
    Ok(())
}

fn limit_huge_pages(dir: &Path, limits: &[LinuxHugepageLimit]) -> Result<(), CgroupError> {
    for limit in limits {
        let file = dir.join(format!("hugetlb.{}.limit_in_bytes", limit.page_size()));
        files::write(&file, &limit.limit().to_string())?;
    }
    Ok(())
}

fn tag_network(
    cgroup: &Cgroup,
    network: &LinuxNetwork,
    unenforced: &mut Vec<Unenforced>,
) -> Result<(), CgroupError> {
    if let Some(class) = network.class_id().filter(|class| *class != 0) {
        match cgroup.v1_dir("net_cls") {
            Some(dir) => files::write(&dir.join("net_cls.classid"), &class.to_string())?,
            None => unenforced.push(Unenforced {
                key: "network.classID",
                reason: "the net_cls controller is not mounted",
            }),
        }
    }
    let Some(priorities) = network.priorities().as_ref().filter(|list| !list.is_empty()) else {
        return Ok(());
    };
    let Some(dir) = cgroup.v1_dir("net_prio") else {
        let reason = "the net_prio controller is not mounted";
        unenforced.push(Unenforced { key: "network.priorities", reason });
        return Ok(());
    };
    for priority in priorities {
        let line = format!("{} {}", priority.name(), priority.priority());
        files::write(&dir.join("net_prio.ifpriomap"), &line)?;
    }
    Ok(())
}

/// Writes a limit as the kernel spells it: zero and less mean none.
pub(super) fn max_or(limit: i64) -> String {
    if limit > 0 { limit.to_string() } else { "max".to_owned() }
}

/// Lists the directories below `dir` that are cgroups too, deepest first, `dir` itself last.
pub(super) fn tree(dir: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(tree(&entry.path())?);
        }
    }
    found.push(dir.to_owned());
    Ok(found)
}
