//! Limits of the version 2 tree (kernel: `Documentation/admin-guide/cgroup-v2.rst`).
//!
//! Device rules are a BPF program there (section "Device controller").

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxResources, LinuxThrottleDevice,
};

use super::v1::max_or;
use super::{Cgroup, CgroupError, Unenforced, device_program, files, sys};

/// The controllers that limits need, as `cgroup.subtree_control` names them.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

/// Sets every limit whose controller is not mounted as version 1.
pub(super) fn apply(
    cgroup: &Cgroup,
    resources: &LinuxResources,
) -> Result<Vec<Unenforced>, CgroupError> {
    let mut unenforced = Vec::new();
    let dir = cgroup.v2_dir();
    let mut controller = |v1: &str, v2: &str, key: &'static str, wanted: bool| {
        if !wanted || cgroup.v1_dir(v1).is_some() {
            return None;
        }
        let available = dir.filter(|dir| has_controller(dir, v2));
        if available.is_none() {
            let reason = "this host has no such controller, or did not delegate it";
            unenforced.push(Unenforced { key, reason });
        }
        available
    };
    let memory_dir = controller("memory", "memory", "memory", resources.memory().is_some());
    let cpu = resources.cpu().as_ref();
    let cpu_dir = controller("cpu", "cpu", "cpu", cpu.is_some_and(wants_time));
    let cpuset_dir = controller("cpuset", "cpuset", "cpu.cpus", cpu.is_some_and(wants_cpuset));
    let pids_dir = controller("pids", "pids", "pids", resources.pids().is_some());
    let io_dir = controller("blkio", "io", "blockIO", resources.block_io().is_some());
    let huge_pages = resources.hugepage_limits().as_ref().is_some_and(|limits| !limits.is_empty());
    let huge_dir = controller("hugetlb", "hugetlb", "hugepageLimits", huge_pages);
    if let (Some(dir), Some(rules), None) = (dir, resources.devices(), cgroup.v1_dir("devices")) {
        set_devices(dir, rules)?;
    }
    if let (Some(dir), Some(memory)) = (memory_dir, resources.memory()) {
        limit_memory(dir, memory, &mut unenforced)?;
    }
    if let (Some(dir), Some(cpu)) = (cpu_dir, cpu) {
        limit_cpu(dir, cpu)?;
    }
    if let (Some(dir), Some(cpu)) = (cpuset_dir, cpu) {
        limit_cpuset(dir, cpu)?;
    }
    if let (Some(dir), Some(pids)) = (pids_dir, resources.pids()) {
        files::write(&dir.join("pids.max"), &max_or(pids.limit()))?;
    }
    if let (Some(dir), Some(block_io)) = (io_dir, resources.block_io()) {
        limit_io(dir, block_io, &mut unenforced)?;
    }
    if let (Some(dir), Some(limits)) = (huge_dir, resources.hugepage_limits()) {
        for limit in limits {
            let file = dir.join(format!("hugetlb.{}.max", limit.page_size()));
            files::write(&file, &limit.limit().to_string())?;
        }
    }
    report_the_rest(resources, &mut unenforced);
    write_unified(dir, resources)?;
    Ok(unenforced)
}

/// Lets children of `parent` use the controllers that it has.
///
/// One with processes of its own gives none ("no internal processes"); what is missing then shows when a limit is set.
/// The kernel would refuse some (`EBUSY`), but take `cpuset`, `cpu` and `pids`: `parent` would become the root of a
/// threaded subtree, which no process can be moved out of to a domain below (section "Threads").
pub(super) fn delegate_controllers(parent: &Path) -> Result<(), CgroupError> {
    let available = files::read(&parent.join("cgroup.controllers"))?;
    let control = parent.join("cgroup.subtree_control");
    let enabled = files::read(&control)?;
    let is_missing = |name: &&str| {
        CONTROLLERS.contains(name) && !enabled.split_whitespace().any(|on| on == *name)
    };
    let missing: Vec<&str> = available.split_whitespace().filter(is_missing).collect();
    if missing.is_empty() || holds_processes(parent)? {
        return Ok(());
    }
    for name in missing {
        let value = format!("+{name}");
        match files::write_raw(&control, &value) {
            Ok(()) => {}
            // A process came in between.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(source) => return Err(CgroupError::Write { file: control, value, source }),
        }
    }
    Ok(())
}

/// Whether the rule of no internal processes meets `dir`. The root, which has no type, is free of it.
fn holds_processes(dir: &Path) -> Result<bool, CgroupError> {
    if files::read_optional(&dir.join("cgroup.type"))?.is_none() {
        return Ok(false);
    }
    let processes = files::read_optional(&dir.join("cgroup.procs"))?;
    Ok(processes.is_some_and(|processes| !processes.trim().is_empty()))
}

/// Takes all controllers back from those below `dir`, so that it may hold processes again: all of them or, while one
/// below passes them on (`EBUSY`), none.
pub(super) fn take_controllers_back(dir: &Path) -> Result<(), CgroupError> {
    let control = dir.join("cgroup.subtree_control");
    let enabled = files::read(&control)?;
    let value = enabled.split_whitespace().map(|name| format!("-{name}")).collect::<Vec<_>>();
    if value.is_empty() {
        return Ok(());
    }
    let value = value.join(" ");
    match files::write_raw(&control, &value) {
        Err(error) if error.raw_os_error() != Some(libc::EBUSY) => {
            Err(CgroupError::Write { file: control, value, source: error })
        }
        _ => Ok(()),
    }
}

/// Converts `cpu.shares` (2 to 262144) to `cpu.weight` (1 to 10000) with runc's formula since 1.4: a curve
/// through both ends that maps the default 1024 to the default 100.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    #[expect(clippy::cast_precision_loss, reason = "shares are below 2^18 here")]
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the curve stays between 1 and 10000 for these shares"
    )]
    let weight = 10f64.powf(exponent).ceil() as u64;
    weight
}

fn has_controller(dir: &Path, name: &str) -> bool {
    files::read_optional(&dir.join("cgroup.controllers"))
        .ok()
        .flatten()
        .is_some_and(|list| list.split_whitespace().any(|entry| entry == name))
}

fn wants_time(cpu: &LinuxCpu) -> bool {
    cpu.shares().is_some_and(|value| value != 0)
        || cpu.quota().is_some()
        || cpu.period().is_some()
        || cpu.idle().is_some()
        || cpu.burst().is_some()
}

fn wants_cpuset(cpu: &LinuxCpu) -> bool {
    let named = |list: &Option<String>| list.as_ref().is_some_and(|list| !list.is_empty());
    named(cpu.cpus()) || named(cpu.mems())
}

/// Sets memory limits. OCI's `swap` is memory plus swap; version 2 wants the swap alone.
fn limit_memory(
    dir: &Path,
    memory: &LinuxMemory,
    unenforced: &mut Vec<Unenforced>,
) -> Result<(), CgroupError> {
    let limit = memory.limit().filter(|limit| *limit != 0);
    let swap = match (limit, memory.swap()) {
        (Some(-1), None) => Some("max".to_owned()),
        (_, None | Some(0)) => None,
        (_, Some(-1)) => Some("max".to_owned()),
        (Some(limit), Some(swap)) if limit > 0 => Some((swap - limit).max(0).to_string()),
        // The sum means nothing without its part: use the limit that stands.
        (_, Some(swap)) => {
            let limit = files::read_number(&dir.join("memory.max"))?.unwrap_or(0);
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            Some((swap - limit).max(0).to_string())
        }
    };
    let swap_file = dir.join("memory.swap.max");
    match swap {
        Some(swap) if swap_file.exists() => files::write(&swap_file, &swap)?,
        Some(swap) if swap != "max" => {
            let reason = "this kernel does not account swap (swapaccount=1)";
            unenforced.push(Unenforced { key: "memory.swap", reason });
        }
        _ => {}
    }
    if let Some(limit) = limit {
        files::write(&dir.join("memory.max"), &max_or(limit))?;
    }
    if let Some(reservation) = memory.reservation().filter(|bytes| *bytes != 0) {
        files::write(&dir.join("memory.low"), &max_or(reservation))?;
    }
    if memory.disable_oom_killer() == Some(true) {
        let reason = "cgroup v2 cannot switch the OOM killer off";
        unenforced.push(Unenforced { key: "memory.disableOOMKiller", reason });
    }
    if memory.swappiness().is_some() {
        let reason = "cgroup v2 has no swappiness of its own";
        unenforced.push(Unenforced { key: "memory.swappiness", reason });
    }
    Ok(())
}

fn limit_cpu(dir: &Path, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    if let Some(idle) = cpu.idle() {
        files::write(&dir.join("cpu.idle"), &idle.to_string())?;
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        files::write(&dir.join("cpu.weight"), &weight_of_shares(shares).to_string())?;
    }
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    let file = dir.join("cpu.max");
    match (quota, period) {
        (None, None) => {}
        (Some(quota), None) => files::write(&file, &max_or(quota))?,
        (Some(quota), Some(period)) => {
            files::write(&file, &format!("{} {period}", max_or(quota)))?;
        }
        (None, Some(period)) => {
            let current = files::read(&file)?;
            let quota = current.split_whitespace().next().unwrap_or("max");
            files::write(&file, &format!("{quota} {period}"))?;
        }
    }
    if let Some(burst) = cpu.burst() {
        files::write(&dir.join("cpu.max.burst"), &burst.to_string())?;
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

fn limit_io(
    dir: &Path,
    block_io: &LinuxBlockIo,
    unenforced: &mut Vec<Unenforced>,
) -> Result<(), CgroupError> {
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        let bfq = dir.join("io.bfq.weight");
        let plain = dir.join("io.weight");
        if bfq.exists() {
            files::write(&bfq, &weight.to_string())?;
        } else if plain.exists() {
            // blkio's 10 to 1000 becomes 1 to 10000 (as runc does).
            let weight = 1 + (u64::from(weight).max(10) - 10) * 9999 / 990;
            files::write(&plain, &weight.to_string())?;
        } else {
            let reason = "no I/O scheduler of this kernel knows weights";
            unenforced.push(Unenforced { key: "blockIO.weight", reason });
        }
    }
    if block_io.weight_device().as_ref().is_some_and(|devices| !devices.is_empty()) {
        let reason = "weights per device are not set on cgroup v2";
        unenforced.push(Unenforced { key: "blockIO.weightDevice", reason });
    }
    throttle(dir, "rbps", block_io.throttle_read_bps_device())?;
    throttle(dir, "wbps", block_io.throttle_write_bps_device())?;
    throttle(dir, "riops", block_io.throttle_read_iops_device())?;
    throttle(dir, "wiops", block_io.throttle_write_iops_device())
}

fn throttle(
    dir: &Path,
    key: &str,
    devices: &Option<Vec<LinuxThrottleDevice>>,
) -> Result<(), CgroupError> {
    for device in devices.iter().flatten() {
        let line = format!("{}:{} {key}={}", device.major(), device.minor(), device.rate());
        files::write(&dir.join("io.max"), &line)?;
    }
    Ok(())
}

/// Puts the device rules on the cgroup. Without them a process with CAP_MKNOD reads the host's disks, so a failure is
/// an error, not a limit that is missing.
fn set_devices(dir: &Path, rules: &[LinuxDeviceCgroup]) -> Result<(), CgroupError> {
    let Some(program) = device_program::compile(rules)? else { return Ok(()) };
    File::open(dir)
        .and_then(|cgroup| sys::set_device_program(cgroup.as_fd(), &program))
        .map_err(|source| CgroupError::DeviceRules { dir: dir.to_owned(), source })
}

fn report_the_rest(resources: &LinuxResources, unenforced: &mut Vec<Unenforced>) {
    if resources.rdma().as_ref().is_some_and(|limits| !limits.is_empty()) {
        let reason = "the rdma controller is not supported";
        unenforced.push(Unenforced { key: "rdma", reason });
    }
}

/// Writes OCI's `unified` keys as they are; a key may name a file of the cgroup only.
fn write_unified(dir: Option<&Path>, resources: &LinuxResources) -> Result<(), CgroupError> {
    let Some(unified) = resources.unified() else { return Ok(()) };
    let mut entries: Vec<_> = unified.iter().collect();
    entries.sort_unstable();
    for (key, value) in entries {
        if key.contains('/') || !key.contains('.') || key.starts_with('.') {
            return Err(CgroupError::BadUnifiedKey { key: key.clone() });
        }
        let file = dir.map(|dir| dir.join(key)).filter(|file| file.exists());
        let Some(file) = file else { return Err(CgroupError::NoUnified { key: key.clone() }) };
        for line in value.lines() {
            files::write(&file, line)?;
        }
    }
    Ok(())
}
