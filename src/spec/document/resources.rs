//! A service's limits, ulimits and sysctls.

use super::{Fields, Place, Report};
use crate::spec::container::{ContainerSpec, Resources, Ulimit};
use crate::spec::keys;
use crate::spec::value::{InvalidValue, cpu, duration, size};

pub(super) fn read(fields: &mut Fields<'_>, container: &mut ContainerSpec, report: &mut Report) {
    memory(fields, &mut container.resources, report);
    processor(fields, &mut container.resources, report);
    let resources = &mut container.resources;
    resources.pids_limit = fields.get("pids_limit").and_then(|place| place.integer(report));
    if let Some(place) = fields.get("oom_score_adj")
        && let Some(score) = place.integer::<i32>(report)
    {
        if !(-1000..=1000).contains(&score) {
            report.push(place.error("invalid-value", "the score lies between -1000 and 1000"));
        }
        resources.oom_score_adj = Some(score);
    }
    resources.oom_kill_disable =
        fields.get("oom_kill_disable").and_then(|place| place.flag(report)).unwrap_or(false);
    if let Some(place) = fields.get("blkio_config") {
        blkio(&place, resources, report);
    }
    if let Some(place) = fields.get("shm_size") {
        container.shm_size = place.parsed(report, size::parse);
    }
    if let Some(place) = fields.get("sysctls") {
        container.sysctls = place.map(report);
    }
    if let Some(place) = fields.get("ulimits") {
        for (name, place) in place.entries(report) {
            if let Some(limit) = ulimit(&place, report) {
                container.ulimits.insert(name.to_owned(), limit);
            }
        }
    }
}

fn memory(fields: &mut Fields<'_>, resources: &mut Resources, report: &mut Report) {
    // Zero means without a limit in compose, and is as good as absent.
    let mut bytes = |key, report: &mut Report| {
        fields
            .get(key)
            .and_then(|place| place.parsed(report, size::parse))
            .filter(|bytes| *bytes > 0)
    };
    resources.memory = bytes("mem_limit", report);
    resources.memory_reservation = bytes("mem_reservation", report);
    if let Some(place) = fields.get("memswap_limit") {
        resources.memory_swap = place.parsed(report, signed_size);
    }
    if let Some(place) = fields.get("mem_swappiness") {
        resources.memory_swappiness = place.integer(report);
        if resources.memory_swappiness.is_some_and(|value| value > 100) {
            report.push(place.error("invalid-value", "swappiness lies between 0 and 100"));
        }
    }
    if let (Some(reserved), Some(limit)) = (resources.memory_reservation, resources.memory)
        && reserved > limit
    {
        let place = &fields.place;
        report.push(place.error("conflict", "mem_reservation is above mem_limit"));
    }
}

fn signed_size(text: &str) -> Result<i64, InvalidValue> {
    if text.trim() == "-1" {
        return Ok(-1);
    }
    let bytes = size::parse(text)?;
    i64::try_from(bytes).map_err(|_| InvalidValue::new(text, "size", "it is too large"))
}

fn processor(fields: &mut Fields<'_>, resources: &mut Resources, report: &mut Report) {
    let cpus = fields.get("cpus");
    resources.nano_cpus =
        cpus.as_ref().and_then(|place| place.parsed(report, cpu::parse)).filter(|cpus| *cpus > 0);
    resources.cpu_shares = fields.get("cpu_shares").and_then(|place| place.integer(report));
    resources.cpu_period =
        fields.get("cpu_period").and_then(|place| place.parsed(report, microseconds));
    let quota = fields.get("cpu_quota");
    resources.cpu_quota = quota.as_ref().and_then(|place| {
        if place.scalar() == Some("-1") {
            Some(-1)
        } else {
            i64::try_from(place.parsed(report, microseconds)?).ok()
        }
    });
    resources.cpuset_cpus = fields.get("cpuset").and_then(|place| place.string(report));
    fields.not_enforced(report, &[("cpu_rt_period", ""), ("cpu_rt_runtime", "")]);
    if let (Some(cpus), Some(_)) = (cpus, quota) {
        report.push(
            cpus.error("conflict", "cpus and cpu_quota exclude each other").with_hint("keep cpus"),
        );
    }
}

/// A plain number is microseconds; otherwise a duration.
fn microseconds(text: &str) -> Result<u64, InvalidValue> {
    if let Ok(number) = text.trim().parse() {
        return Ok(number);
    }
    let time = duration::parse(text)?;
    u64::try_from(time.as_micros())
        .map_err(|_| InvalidValue::new(text, "duration", "it is too long"))
}

fn blkio(place: &Place<'_>, resources: &mut Resources, report: &mut Report) {
    let Some(mut fields) = place.fields(&keys::BLKIO, report) else { return };
    if let Some(place) = fields.get("weight") {
        resources.blkio_weight = place.integer(report);
        if resources.blkio_weight.is_some_and(|weight| !(10..=1000).contains(&weight)) {
            report.push(place.error("invalid-value", "the weight lies between 10 and 1000"));
        }
    }
    let keys = [
        "weight_device",
        "device_read_bps",
        "device_read_iops",
        "device_write_bps",
        "device_write_iops",
    ];
    fields.not_enforced(report, &keys.map(|key| (key, "")));
    fields.finish(report);
}

fn ulimit(place: &Place<'_>, report: &mut Report) -> Option<Ulimit> {
    if !place.is_mapping() {
        let both = place.integer(report)?;
        return Some(Ulimit { soft: both, hard: both });
    }
    let mut fields = place.fields(&keys::ULIMIT, report)?;
    let soft = fields.get("soft").and_then(|place| place.integer(report));
    let hard = fields.get("hard").and_then(|place| place.integer(report));
    fields.finish(report);
    match (soft, hard) {
        (Some(soft), Some(hard)) if hard != -1 && (soft > hard || soft == -1) => {
            report.push(place.error("invalid-value", "the soft limit is above the hard one"));
            None
        }
        (Some(soft), Some(hard)) => Some(Ulimit { soft, hard }),
        _ => {
            report.push(
                place
                    .error("missing-key", "a ulimit needs soft and hard")
                    .with_hint("or write one number for both"),
            );
            None
        }
    }
}
