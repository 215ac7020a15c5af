//! `/version` and `/info`, with the fields that docker's clients read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::api::answer;
use crate::api::error::ApiError;
use crate::api::route::{MIN_VERSION, VERSION};
use crate::api::server::DOCKER_VERSION;
use crate::api::wire::time;
use crate::engine::{Engine, status};

const OURS: &str = env!("CARGO_PKG_VERSION");

/// The docker version whose API this is, with ours behind it: clients compare it as a semantic version.
fn server_version() -> String {
    format!("{DOCKER_VERSION}+bargee.{OURS}")
}

pub(super) async fn version() -> Response {
    let kernel = rustix::system::uname();
    let kernel = kernel.release().to_string_lossy();
    let versions = json!({
        "Version": server_version(),
        "ApiVersion": VERSION.to_string(),
        "MinAPIVersion": MIN_VERSION.to_string(),
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": kernel,
    });
    answer::json(&json!({
        "Platform": { "Name": format!("Bargee {OURS}") },
        "Components": [
            { "Name": "Engine", "Version": server_version(), "Details": details(&versions) },
            { "Name": "bargee", "Version": OURS, "Details": {} },
        ],
        "Version": versions["Version"],
        "ApiVersion": versions["ApiVersion"],
        "MinAPIVersion": versions["MinAPIVersion"],
        "GitCommit": "",
        "GoVersion": "",
        "Os": versions["Os"],
        "Arch": versions["Arch"],
        "KernelVersion": versions["KernelVersion"],
        "BuildTime": "",
    }))
}

/// What the command line prints below a component.
fn details(versions: &Value) -> Value {
    json!({
        "ApiVersion": versions["ApiVersion"],
        "MinAPIVersion": versions["MinAPIVersion"],
        "Os": versions["Os"],
        "Arch": versions["Arch"],
        "KernelVersion": versions["KernelVersion"],
        "Experimental": "false",
        "GitCommit": "",
        "GoVersion": "",
        "BuildTime": "",
    })
}

/// Go's word for this processor.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(super) async fn info(State(engine): State<Arc<Engine>>) -> Result<Response, ApiError> {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for handle in engine.handles() {
        *states.entry(status::state(handle.row().phase)).or_default() += 1;
    }
    let count = |words: &[&str]| words.iter().filter_map(|word| states.get(word)).sum::<usize>();
    let images = engine.images()?.len();
    let uname = rustix::system::uname();
    let mut info = json!({
        "ID": engine.paths().id(),
        "Containers": states.values().sum::<usize>(),
        "ContainersRunning": count(&["running", "restarting"]),
        "ContainersPaused": count(&["paused"]),
        "ContainersStopped": count(&["created", "exited", "removing"]),
        "Images": images,
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", "overlay"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": null,
            "Log": ["json-file", "none"],
        },
        "SystemTime": time::rfc3339(Some(time::now())),
        "LoggingDriver": "json-file",
        "KernelVersion": uname.release().to_string_lossy(),
        "OperatingSystem": operating_system(),
        "OSVersion": os_release("VERSION_ID").unwrap_or_default(),
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "NCPU": engine.machine.cpus,
        "MemTotal": engine.machine.memory,
        "Name": uname.nodename().to_string_lossy(),
        "ServerVersion": server_version(),
        "DockerRootDir": engine.paths().root(),
        "Warnings": engine.warnings(),
    });
    for (key, value) in abilities() {
        info[key] = value;
    }
    Ok(answer::json(&info))
}

/// What does not depend on this engine's state.
fn abilities() -> Vec<(&'static str, Value)> {
    let only_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let forwarding =
        |path: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1");
    vec![
        ("MemoryLimit", json!(true)),
        ("SwapLimit", json!(true)),
        ("CpuCfsPeriod", json!(true)),
        ("CpuCfsQuota", json!(true)),
        ("CPUShares", json!(true)),
        ("CPUSet", json!(true)),
        ("PidsLimit", json!(true)),
        ("OomKillDisable", json!(!only_v2)),
        ("IPv4Forwarding", json!(forwarding("/proc/sys/net/ipv4/ip_forward"))),
        ("Debug", json!(false)),
        ("NFd", json!(-1)),
        ("NGoroutines", json!(-1)),
        ("NEventsListener", json!(0)),
        ("CgroupDriver", json!("cgroupfs")),
        ("CgroupVersion", json!(if only_v2 { "2" } else { "1" })),
        ("IndexServerAddress", json!("https://index.docker.io/v1/")),
        (
            "RegistryConfig",
            json!({ "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"], "IndexConfigs": {}, "Mirrors": null }),
        ),
        ("HttpProxy", json!("")),
        ("HttpsProxy", json!("")),
        ("NoProxy", json!("")),
        ("Labels", json!([])),
        ("ExperimentalBuild", json!(false)),
        ("Runtimes", json!({ "bargee": { "path": "bargee" } })),
        ("DefaultRuntime", json!("bargee")),
        (
            "Swarm",
            json!({
                "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
                "RemoteManagers": null,
            }),
        ),
        ("LiveRestoreEnabled", json!(true)),
        ("Isolation", json!("")),
        ("InitBinary", json!("bargee")),
        ("ContainerdCommit", json!({ "ID": "" })),
        ("RuncCommit", json!({ "ID": "" })),
        ("InitCommit", json!({ "ID": "" })),
        ("SecurityOptions", json!(["name=seccomp,profile=builtin", "name=cgroupns"])),
        ("CDISpecDirs", json!([])),
    ]
}

fn operating_system() -> String {
    os_release("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned())
}

/// A field of os-release(5).
fn os_release(key: &str) -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value.trim_matches('"').to_owned())
}
