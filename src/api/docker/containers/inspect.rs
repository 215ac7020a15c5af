//! `GET /containers/{id}/json`: everything about one container, keys in docker's order.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::{list, network_settings};
use crate::api::answer;
use crate::api::error::ApiError;
use crate::api::query::Parameters;
use crate::api::wire::host_config_out::{self, or_null};
use crate::api::wire::time;
use crate::engine::containers::view::View;
use crate::engine::health::Monitor;
use crate::engine::state::containers::Container;
use crate::engine::{Engine, merge, status};
use crate::spec::container::{Healthcheck, MountKind};

pub(super) async fn inspect(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let view = engine.view_container(&id)?;
    let mut value = write(&engine, &view);
    if parameters.flag("size") {
        let row = Arc::clone(&view.row);
        let (own, all) = tokio::task::block_in_place(|| list::sizes(&engine, &row));
        value["SizeRw"] = json!(own);
        value["SizeRootFs"] = json!(all);
    }
    Ok(answer::json(&value))
}

fn write(engine: &Engine, view: &View) -> Value {
    let row = &view.row;
    let (path, arguments) = match view.arguments.split_first() {
        Some((path, arguments)) => (path.as_str(), arguments),
        None => ("", &[][..]),
    };
    let folder = engine.paths().container(&row.id);
    let file = |name: &str| folder.join(name).display().to_string();
    let driver = row.spec.logging.driver.as_str();
    let log = if driver == "none" { String::new() } else { view.log_path.display().to_string() };
    let sandbox = engine.paths().sandbox(&row.id).display().to_string();
    json!({
        "Id": row.id,
        "Created": time::rfc3339(Some(row.created_at)),
        "Path": path,
        "Args": arguments,
        "State": state(row),
        "Image": row.image_id,
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": log,
        "Name": format!("/{}", row.name),
        "RestartCount": row.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": or_null(engine.execs.running_in(&row.id)),
        "HostConfig": host_config(view),
        "GraphDriver": {
            "Data": { "UpperDir": file("upper"), "WorkDir": file("work") },
            "Name": "overlay2",
        },
        "Mounts": mounts(view),
        "Config": config(view),
        "NetworkSettings": network_settings::write(view, &sandbox),
    })
}

/// Docker shows the paths that are closed, whoever chose them.
fn host_config(view: &View) -> Value {
    let mut host = host_config_out::write(&view.row.spec);
    if let Some(paths) = &view.system_paths {
        host["MaskedPaths"] = json!(paths.masked);
        host["ReadonlyPaths"] = json!(paths.read_only);
    }
    host
}

fn state(row: &Container) -> Value {
    let word = status::state(row.phase);
    let up = matches!(word, "running" | "paused");
    let runtime = row.runtime.as_ref();
    let exit = row.exit.as_ref();
    let mut state = json!({
        "Status": word,
        // Docker calls a container that waits for its restart running, too.
        "Running": up || word == "restarting",
        "Paused": word == "paused",
        "Restarting": word == "restarting",
        "OOMKilled": !up && exit.is_some_and(|exit| exit.oom),
        "Dead": false,
        "Pid": runtime.filter(|_| up).map_or(0, |runtime| runtime.pid),
        "ExitCode": exit.filter(|_| !up).map_or(0, |exit| exit.code),
        "Error": row.error.as_deref().unwrap_or(""),
        "StartedAt": time::rfc3339(runtime.map(|runtime| runtime.started_at)),
        "FinishedAt": time::rfc3339(exit.map(|exit| exit.at)),
    });
    if let Some(monitor) = &row.health {
        state["Health"] = health(monitor);
    }
    state
}

fn health(monitor: &Monitor) -> Value {
    let moment = |at: std::time::SystemTime| {
        jiff::Timestamp::try_from(at).map_or_else(|_| time::ZERO.to_owned(), |at| at.to_string())
    };
    let log: Vec<Value> = monitor
        .probes()
        .map(|probe| {
            json!({
                "Start": moment(probe.start),
                "End": moment(probe.end),
                "ExitCode": probe.exit_code,
                "Output": probe.output,
            })
        })
        .collect();
    json!({
        "Status": status::health(monitor),
        "FailingStreak": monitor.failing_streak(),
        "Log": log,
    })
}

/// `Mounts` of `inspect` and of a list's entry.
pub(super) fn mounts(view: &View) -> Vec<Value> {
    view.mounts
        .iter()
        .map(|mount| {
            let mut value = Map::new();
            value.insert("Type".to_owned(), json!(mount.kind));
            if let Some(name) = &mount.name {
                value.insert("Name".to_owned(), json!(name));
            }
            value.insert("Source".to_owned(), json!(mount.source));
            value.insert("Destination".to_owned(), json!(mount.target));
            if mount.kind == "volume" {
                value.insert("Driver".to_owned(), json!("local"));
            }
            let mode = if mount.read_only { "ro" } else { "" };
            value.insert("Mode".to_owned(), json!(mode));
            value.insert("RW".to_owned(), json!(!mount.read_only));
            value.insert("Propagation".to_owned(), json!(mount.propagation));
            Value::Object(value)
        })
        .collect()
}

fn config(view: &View) -> Value {
    let (spec, facts) = (&view.row.spec, &view.facts);
    let [stdin, stdout, stderr] = spec.attach;
    let mut config = json!({
        "Hostname": view.hostname,
        "Domainname": spec.domainname.as_deref().unwrap_or(""),
        "User": merge::user(spec, facts),
        "AttachStdin": stdin,
        "AttachStdout": stdout,
        "AttachStderr": stderr,
    });
    let exposed = set(facts.exposed.iter().chain(&spec.exposed));
    if exposed.as_object().is_some_and(|ports| !ports.is_empty()) {
        config["ExposedPorts"] = exposed;
    }
    let (entrypoint, command) = merge::program(spec, facts);
    for (key, value) in [
        ("Tty", json!(spec.tty)),
        ("OpenStdin", json!(spec.open_stdin)),
        ("StdinOnce", json!(spec.stdin_once)),
        ("Env", json!(merge::own_environment(spec, facts))),
        ("Cmd", or_null(command)),
    ] {
        config[key] = value;
    }
    if let Some(check) = spec.healthcheck.as_ref().or(facts.healthcheck.as_ref()) {
        config["Healthcheck"] = healthcheck(check);
    }
    config["Image"] = json!(spec.image);
    config["Volumes"] = volumes(view);
    config["WorkingDir"] = json!(spec.working_dir.as_deref().unwrap_or(&facts.workdir));
    config["Entrypoint"] = or_null(entrypoint);
    config["OnBuild"] = Value::Null;
    config["Labels"] = json!(merge::labels(spec, facts));
    if let Some(signal) = spec.stop_signal.as_ref().or(facts.stop_signal.as_ref()) {
        config["StopSignal"] = json!(signal);
    }
    if let Some(timeout) = spec.stop_timeout {
        config["StopTimeout"] = json!(timeout);
    }
    config
}

/// Anonymous volumes: those of the image and those that were asked for without a name.
fn volumes(view: &View) -> Value {
    let asked = view.row.spec.mounts.iter().filter_map(|mount| match mount.kind {
        MountKind::Volume { name: None, .. } => Some(&mount.target),
        _ => None,
    });
    let volumes = set(view.facts.volumes.iter().chain(asked));
    if volumes.as_object().is_some_and(Map::is_empty) { Value::Null } else { volumes }
}

fn set<'a>(keys: impl Iterator<Item = &'a String>) -> Value {
    Value::Object(keys.map(|key| (key.clone(), json!({}))).collect())
}

fn healthcheck(check: &Healthcheck) -> Value {
    let mut value = Map::new();
    if !check.test.is_empty() {
        value.insert("Test".to_owned(), json!(check.test));
    }
    for (key, number) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
        ("Retries", check.retries.into()),
    ] {
        if number != 0 {
            value.insert(key.to_owned(), json!(number));
        }
    }
    Value::Object(value)
}
