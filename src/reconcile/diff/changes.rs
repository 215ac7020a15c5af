//! What differs between two specifications, field by field, and which line of the file says so.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::reconcile::cause::Change;
use crate::reconcile::resolve::without_live_fields;
use crate::spec::container::ContainerSpec;
use crate::spec::origins::Origins;

/// Returns what forces a re-creation.
pub(super) fn of_specs(from: &ContainerSpec, to: &ContainerSpec, origins: &Origins) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", Some(&readable(from)), Some(&readable(to)), &mut changes);
    for change in &mut changes {
        change.origin = origin(&change.field, origins);
    }
    changes
}

/// Returns what differs between two values of the field called `field`.
pub(super) fn of_values<T: Serialize>(
    field: &str,
    from: &T,
    to: &T,
    origins: &Origins,
) -> Vec<Change> {
    let plain = |value: &T| serde_json::to_value(value).expect("plain data has only string keys");
    let mut changes = Vec::new();
    compare(field, Some(&plain(from)), Some(&plain(to)), &mut changes);
    for change in &mut changes {
        change.origin = origin(&change.field, origins);
    }
    changes
}

/// Returns `spec` as JSON in which lists with keys are maps, and contents of files are left out.
fn readable(spec: &ContainerSpec) -> Value {
    let spec = without_live_fields(spec);
    let env = spec.env.iter().map(|entry| match entry.split_once('=') {
        Some((key, value)) => (key.to_owned(), json!(value)),
        None => (entry.clone(), json!("(removed)")),
    });
    let mounts = spec.mounts.iter().map(|mount| (mount.target.clone(), json!(mount)));
    let files = spec.files.iter().map(|file| {
        // The content may be a secret: only its hash is compared, and shown.
        let content = hash(&file.content);
        let described =
            json!({"content": content, "uid": file.uid, "gid": file.gid, "mode": file.mode});
        (file.target.clone(), described)
    });
    let (env, mounts, files): (Map<_, _>, Map<_, _>, Map<_, _>) =
        (env.collect(), mounts.collect(), files.collect());
    let mut value = serde_json::to_value(&spec).expect("a spec has only string keys");
    if let Value::Object(fields) = &mut value {
        fields.remove("env");
        // What is empty is not written; a first entry is a change of that entry alone.
        for map in ["labels", "annotations", "ulimits", "sysctls", "networks", "logging"] {
            fields.entry(map).or_insert_with(|| json!({}));
        }
        fields.insert("environment".to_owned(), Value::Object(env));
        fields.insert("mounts".to_owned(), Value::Object(mounts));
        fields.insert("files".to_owned(), Value::Object(files));
    }
    value
}

fn hash(content: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = crate::spec::digest::Digest::from_bytes(&sha2::Sha256::digest(content).into());
    digest.hex()[..12].to_owned()
}

fn compare(path: &str, from: Option<&Value>, to: Option<&Value>, changes: &mut Vec<Change>) {
    if from == to {
        return;
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (from, to) {
        let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            compare(&inner, old.get(key), new.get(key), changes);
        }
        return;
    }
    changes.push(Change {
        field: path.to_owned(),
        from: from.cloned(),
        to: to.cloned(),
        origin: None,
    });
}

/// Returns where the file says `field`, or the nearest key above it.
fn origin(field: &str, origins: &Origins) -> Option<String> {
    let named = NAMES.iter().filter_map(|(ours, theirs)| {
        let rest = field.strip_prefix(ours)?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{theirs}{rest}"))
    });
    named.chain([field.to_owned()]).find_map(|path| {
        let mut path = path.as_str();
        loop {
            if let Some(origin) = origins.get(path) {
                return Some(origin.to_owned());
            }
            path = path.rsplit_once('.')?.0;
        }
    })
}

/// Our field, and the key of the file that says it.
const NAMES: &[(&str, &str)] = &[
    ("resources.memory", "mem_limit"),
    ("resources.memory", "deploy.resources.limits.memory"),
    ("resources.memory_reservation", "mem_reservation"),
    ("resources.memory_reservation", "deploy.resources.reservations.memory"),
    ("resources.memory_swap", "memswap_limit"),
    ("resources.memory_swappiness", "mem_swappiness"),
    ("resources.nano_cpus", "cpus"),
    ("resources.nano_cpus", "deploy.resources.limits.cpus"),
    ("resources.pids_limit", "pids_limit"),
    ("resources.pids_limit", "deploy.resources.limits.pids"),
    ("resources.cpuset_cpus", "cpuset"),
    ("resources", "deploy.resources"),
    ("restart", "deploy.restart_policy"),
    ("mounts", "volumes"),
    ("mounts", "tmpfs"),
    ("files", "configs"),
    ("files", "secrets"),
    ("open_stdin", "stdin_open"),
    ("stop_timeout", "stop_grace_period"),
    ("exposed", "expose"),
    ("dns_options", "dns_opt"),
    ("pid_mode", "pid"),
    ("ipc_mode", "ipc"),
    ("uts_mode", "uts"),
];
