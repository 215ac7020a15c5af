//! Changing a container that exists: name, limits, restart policy, published ports.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Handle;
use super::create::{check, name_conflict};
use super::lifecycle::is_up;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::Durability;
use crate::engine::state::containers::{Container, Phase};
use crate::reconcile::host::LiveChange;
use crate::runtime::shim::protocol::Request;
use crate::spec::container::{Resources, RestartPolicy};

impl Engine {
    /// Renames a container; its names on networks follow.
    pub async fn rename_container(
        self: &Arc<Self>,
        word: &str,
        to: &str,
    ) -> Result<(), EngineError> {
        let to = to.strip_prefix('/').unwrap_or(to);
        let handle = self.container(word)?;
        check::name(to)?;
        let _verb = handle.verb.lock().await;
        let row = living(&handle, word)?;
        if row.name == to {
            let message = "Renaming a container with the same name as its current name".to_owned();
            return Err(EngineError::Invalid { message });
        }
        let renamed = self
            .change(&handle, Durability::Power, |row| to.clone_into(&mut row.name))
            .map_err(|error| name_conflict(error.into(), to))?;
        if is_up(renamed.phase) {
            self.publish_container(&handle).await?;
        }
        self.announce(&renamed, "rename", &[("oldName", format!("/{}", row.name))]);
        Ok(())
    }

    /// Changes limits, restart policy and ports without a restart; returns warnings.
    pub async fn update_container(
        self: &Arc<Self>,
        word: &str,
        change: LiveChange,
    ) -> Result<Vec<String>, EngineError> {
        let handle = self.container(word)?;
        let _verb = handle.verb.lock().await;
        let row = living(&handle, word)?;
        if row.spec.auto_remove && change.restart.is_some_and(|policy| policy != RestartPolicy::No)
        {
            let message =
                "Restart policy cannot be updated because AutoRemove is enabled for the container";
            return Err(EngineError::Invalid { message: message.to_owned() });
        }
        if let Some(resources) = change.resources {
            self.change_limits(&handle, &row, resources).await?;
        }
        if let Some(policy) = change.restart {
            self.change(&handle, Durability::Process, |row| row.spec.restart = policy)?;
        }
        if let Some(ports) = change.ports {
            self.change_ports(&handle, ports).await?;
        }
        // One wait for the disk makes all of it last.
        let row = self.change(&handle, Durability::Power, |_| {})?;
        self.announce(&row, "update", &[]);
        Ok(Vec::new())
    }

    async fn change_limits(
        self: &Arc<Self>,
        handle: &Handle,
        row: &Container,
        resources: Resources,
    ) -> Result<(), EngineError> {
        let mut changed = row.clone();
        changed.spec.resources = resources;
        check::memory(&changed.spec)?;
        if is_up(row.phase) {
            let config = self.config_of(&changed)?;
            let limits = config.linux().as_ref().and_then(|linux| linux.resources().as_ref());
            let limits = serde_json::to_value(limits).expect("limits are always JSON");
            let resources = with_resets(limits, &row.spec.resources, &changed.spec.resources);
            let shim = self.running_shim(handle)?;
            self.obey(handle, &shim, Request::Update { resources }).await?;
        }
        let row = self.change(handle, Durability::Process, |row| {
            row.spec.resources = changed.spec.resources;
        })?;
        if is_up(row.phase) {
            // What is there is compared with this file later.
            self.write_config(&row)?;
        }
        Ok(())
    }
}

/// Returns the row of a container that nobody is removing.
fn living(handle: &Handle, word: &str) -> Result<Arc<Container>, EngineError> {
    let row = handle.row();
    if handle.watch().borrow().removed || row.phase == Phase::Removing {
        return Err(EngineError::NoContainer { word: word.to_owned() });
    }
    Ok(row)
}

/// Says in the limits what is no longer limited: what they leave out stays as it is. Devices don't change.
fn with_resets(mut limits: Value, old: &Resources, new: &Resources) -> Value {
    if let Some(all) = limits.as_object_mut() {
        all.remove("devices");
    }
    let set = |asked: Option<u64>| asked.is_some_and(|value| value > 0);
    let mut reset = |was: bool, is: bool, path: [&str; 2], value: Value| {
        if was && !is {
            limits[path[0]][path[1]] = value;
        }
    };
    reset(set(old.memory), set(new.memory), ["memory", "limit"], json!(-1));
    let swap = |resources: &Resources| {
        set(resources.memory) || resources.memory_swap.is_some_and(|swap| swap != 0)
    };
    reset(swap(old), swap(new), ["memory", "swap"], json!(-1));
    let soft = |resources: &Resources| set(resources.memory_reservation);
    reset(soft(old), soft(new), ["memory", "reservation"], json!(-1));
    let quota = |resources: &Resources| {
        set(resources.nano_cpus) || resources.cpu_quota.is_some_and(|quota| quota != 0)
    };
    reset(quota(old), quota(new), ["cpu", "quota"], json!(-1));
    // The kernel's default, cgroups(7).
    reset(set(old.cpu_shares), set(new.cpu_shares), ["cpu", "shares"], json!(1024));
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_goes_is_said_to_be_none() {
        let old = Resources {
            memory: Some(1 << 30),
            nano_cpus: Some(5),
            cpu_shares: Some(2),
            ..Resources::default()
        };
        let limits = json!({ "memory": {}, "cpu": {}, "devices": [1], "pids": { "limit": 5 } });
        let changed = with_resets(limits.clone(), &old, &Resources::default());
        assert_eq!(changed["memory"], json!({ "limit": -1, "swap": -1 }));
        assert_eq!(changed["cpu"], json!({ "quota": -1, "shares": 1024 }));
        assert!(changed.get("devices").is_none());
        let kept = with_resets(limits, &Resources::default(), &Resources::default());
        assert_eq!(kept["memory"], json!({}));
    }
}
