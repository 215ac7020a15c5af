//! The OCI process of an exec: the container's own, with what the asker changed.

use std::path::Path;

use serde_json::{Value, json};

use super::execs::ExecSpec;
use super::users;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::merge;
use crate::engine::profile;
use crate::engine::state::containers::Container;
use crate::engine::translate::Identity;

/// Returns the process object, made from the one that the container was started with.
pub(super) fn process(
    engine: &Engine,
    row: &Container,
    spec: &ExecSpec,
) -> Result<Value, EngineError> {
    let mut process = started_process(&engine.paths.container(&row.id).join("config.json"))?;
    process["args"] = json!(spec.command);
    process["terminal"] = json!(spec.tty);
    if let Some(folder) = spec.working_dir.as_ref().filter(|folder| !folder.is_empty()) {
        process["cwd"] = json!(folder);
    }
    let mut env = strings(&process["env"]);
    if let Some(user) = spec.user.as_ref().filter(|user| !user.is_empty()) {
        let pid = row.runtime.as_ref().map_or(0, |runtime| runtime.pid);
        let identity = users::identify_inside(pid, user, &row.spec.group_add)?;
        let Identity { uid, gid, groups, home } = identity;
        process["user"] = json!({ "uid": uid, "gid": gid, "additionalGids": groups });
        let facts = engine.image_facts(row);
        let named = merge::environment(&row.spec, &facts, "");
        if !named.iter().any(|line| key(line) == "HOME") {
            env = with(env, &format!("HOME={home}"));
        }
    }
    if spec.tty && !env.iter().any(|line| key(line) == "TERM") {
        env.push("TERM=xterm".to_owned());
    }
    for line in &spec.env {
        env = with(env, line);
    }
    process["env"] = json!(env);
    if spec.privileged {
        let all = profile::privileged(&engine.machine.bounding);
        process["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    }
    Ok(process)
}

fn started_process(config: &Path) -> Result<Value, EngineError> {
    let doing = || format!("read the process of {}", config.display());
    let text = std::fs::read(config).map_err(EngineError::io(doing()))?;
    let mut config: Value =
        serde_json::from_slice(&text).map_err(|error| EngineError::io(doing())(error.into()))?;
    Ok(config["process"].take())
}

/// Sets a variable, or removes it when the line has no `=`.
fn with(mut env: Vec<String>, line: &str) -> Vec<String> {
    env.retain(|known| key(known) != key(line));
    if line.contains('=') {
        env.push(line.to_owned());
    }
    env
}

fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn key(line: &str) -> &str {
    line.split('=').next().unwrap_or(line)
}
