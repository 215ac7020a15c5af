//! `POST /containers/{id}/update`: limits at the body's top, and the restart policy.

use serde_json::Value;

use super::host_config;
use super::lenient::{InvalidBody, Object};
use crate::reconcile::host::LiveChange;
use crate::spec::container::Resources;

/// Returns what changes over the limits that the container has, and what has no effect.
///
/// # Errors
/// A field is of the wrong kind.
pub fn read(body: &Value, now: &Resources) -> Result<(LiveChange, Vec<String>), InvalidBody> {
    let mut root = Object::open("", body)?;
    let asked = host_config::resources(&mut root)?;
    let restart = match root.value("RestartPolicy") {
        Some(policy) if policy.get("Name").is_some_and(|name| name != "") => {
            Some(host_config::restart(&mut root)?)
        }
        _ => None,
    };
    let resources = over(asked, now);
    let change =
        LiveChange { resources: (resources != *now).then_some(resources), restart, ports: None };
    let unread = root.unread();
    let warnings = unread
        .into_iter()
        .map(|path| format!("{path} can't be changed while the container exists"));
    Ok((change, warnings.collect()))
}

fn over(asked: Resources, now: &Resources) -> Resources {
    let now = now.clone();
    Resources {
        memory: asked.memory.or(now.memory),
        memory_swap: asked.memory_swap.or(now.memory_swap),
        memory_reservation: asked.memory_reservation.or(now.memory_reservation),
        memory_swappiness: asked.memory_swappiness.or(now.memory_swappiness),
        nano_cpus: asked.nano_cpus.or(now.nano_cpus),
        cpu_shares: asked.cpu_shares.or(now.cpu_shares),
        cpu_period: asked.cpu_period.or(now.cpu_period),
        cpu_quota: asked.cpu_quota.or(now.cpu_quota),
        cpuset_cpus: asked.cpuset_cpus.or(now.cpuset_cpus),
        cpuset_mems: asked.cpuset_mems.or(now.cpuset_mems),
        pids_limit: asked.pids_limit.or(now.pids_limit),
        oom_score_adj: asked.oom_score_adj.or(now.oom_score_adj),
        oom_kill_disable: asked.oom_kill_disable || now.oom_kill_disable,
        blkio_weight: asked.blkio_weight.or(now.blkio_weight),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::container::RestartPolicy;

    #[test]
    fn zero_leaves_a_limit_as_it_is() {
        let now = Resources { memory: Some(5), pids_limit: Some(9), ..Resources::default() };
        let body =
            json!({ "Memory": 7, "PidsLimit": 0, "RestartPolicy": { "Name": "" }, "Rest": 1 });
        let (change, warnings) = read(&body, &now).unwrap();
        assert_eq!(change.resources, Some(Resources { memory: Some(7), ..now.clone() }));
        assert_eq!((change.restart, warnings.len()), (None, 1));
        let (change, _) = read(&json!({ "RestartPolicy": { "Name": "always" } }), &now).unwrap();
        assert_eq!((change.resources, change.restart), (None, Some(RestartPolicy::Always)));
    }
}
