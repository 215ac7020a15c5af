//! A service's hash, and the keys of a service that no other struct has.

use sha2::{Digest as _, Sha256};

use super::shape::{self, mapping, object, pairs, scalar, text, texts};
use super::{go, tables};
use crate::spec::digest::Digest;
use crate::spec::name::ServiceName;
use crate::spec::node::{Kind, Node};
use crate::spec::stack::{Service, Stack};
use crate::spec::value::mount::Folders;

/// Compose's hash of a service.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComposeHash {
    Known(String),
    /// The JSON names containers by their ids, which are known when the container is made: the service's name stands
    /// between two zero bytes, which JSON itself has not.
    Awaits(String),
}

/// What a service says that compose writes anew in a way that is not known here (`version: 3.10` without quotes
/// becomes 3.1), or a key that nothing here reads. Such a service has no hash of compose's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Inexact(String);

impl Inexact {
    pub(super) fn new(what: &str) -> Self {
        Self(what.to_owned())
    }

    /// Says under which key it stands.
    pub(super) fn below(self, key: &str) -> Self {
        Self(if self.0 == key { self.0 } else { format!("{key}: {}", self.0) })
    }
}

/// What the meaning of a service's keys depends on.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) service: &'a Service,
    pub(super) folders: Folders<'a>,
}

/// Gives every service of `stack` its hash. `root` is the document that the stack was made of.
pub fn add(root: &Node, stack: &mut Stack, home: Option<&str>) {
    let Some(Kind::Mapping(entries)) = root.get("services").map(|node| &node.kind) else { return };
    let folders = Folders { working_dir: &stack.working_dir, home };
    for entry in entries {
        let name = ServiceName::try_from(entry.key.as_str()).ok();
        let Some(service) = name.and_then(|name| stack.services.get_mut(&name)) else { continue };
        let json = object(&entry.value, tables::SERVICE, &Scope { service, folders });
        service.compose_hash = json.ok().map(|json| {
            if json.contains('\0') {
                ComposeHash::Awaits(json)
            } else {
                ComposeHash::Known(of_text(&json))
            }
        });
    }
}

/// Returns the hash of a service's JSON.
pub fn of_text(json: &str) -> String {
    Digest::from_bytes(&Sha256::digest(json.as_bytes()).into()).hex().to_owned()
}

impl ComposeHash {
    /// Returns the hash when `id_of` knows the id of each service's first container that the JSON names.
    pub fn resolve(&self, id_of: impl Fn(&str) -> Option<String>) -> Option<String> {
        match self {
            Self::Known(hash) => Some(hash.clone()),
            Self::Awaits(json) => Some(of_text(&replaced(json, id_of)?)),
        }
    }

    /// Returns the hash with other names for what it awaits.
    pub fn renamed(&self, name_of: impl Fn(&str) -> String) -> Self {
        match self {
            Self::Awaits(json) => replaced(json, |name| Some(format!("\0{}\0", name_of(name))))
                .map_or_else(|| self.clone(), Self::Awaits),
            Self::Known(_) => self.clone(),
        }
    }
}

/// Returns `json` with each name between two zero bytes, and the bytes, replaced.
fn replaced(json: &str, by: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut whole = String::with_capacity(json.len());
    for (index, part) in json.split('\0').enumerate() {
        // Names stand behind the first, the third, … zero byte.
        if index % 2 == 1 { whole.push_str(&by(part)?) } else { whole.push_str(part) }
    }
    Some(whole)
}

type Encoded = Result<Option<String>, Inexact>;

/// The number of replicas: a change of it re-creates nothing.
pub(super) fn cleared(_: Option<&Node>, _: &Scope<'_>) -> Encoded {
    Ok(None)
}

pub(super) fn command(_: Option<&Node>, scope: &Scope<'_>) -> Encoded {
    Ok(Some(words(scope.service.container.command.as_deref())))
}

pub(super) fn entrypoint(_: Option<&Node>, scope: &Scope<'_>) -> Encoded {
    Ok(Some(words(scope.service.container.entrypoint.as_deref())))
}

fn words(words: Option<&[String]>) -> String {
    words.map_or("null".to_owned(), |words| go::strings(words.iter().map(String::as_str)))
}

/// The variables with those of `env_file` below them; one without a value anywhere is null.
pub(super) fn environment(node: Option<&Node>, scope: &Scope<'_>) -> Encoded {
    let written = node.map(pairs).transpose()?.unwrap_or_default();
    let variables: std::collections::BTreeMap<&str, Option<&str>> = scope
        .service
        .container
        .env
        .iter()
        .map(|entry| {
            entry.split_once('=').map_or((entry.as_str(), None), |(key, value)| (key, Some(value)))
        })
        // What a file names without a value is not there; what the service names so is.
        .filter(|(key, value)| value.is_some() || written.contains_key(*key))
        .collect();
    Ok((!variables.is_empty()).then(|| mapping(variables)))
}

/// The labels with those of `label_file` below them.
pub(super) fn labels(node: Option<&Node>, scope: &Scope<'_>) -> Encoded {
    node.map(pairs).transpose()?;
    let labels = &scope.service.container.labels;
    Ok((!labels.is_empty())
        .then(|| mapping(labels.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))))))
}

/// A service in no network by name is in `default`, unless it has a network mode.
pub(super) fn networks(node: Option<&Node>, scope: &Scope<'_>) -> Encoded {
    use crate::spec::container::NetworkMode::Networks;
    let mut endpoints = std::collections::BTreeMap::new();
    match node.map(|node| &node.kind) {
        Some(Kind::Mapping(entries)) => {
            for entry in entries {
                let json = match entry.value.kind {
                    Kind::Null => "null".to_owned(),
                    _ => object(&entry.value, tables::ENDPOINT, scope)?,
                };
                endpoints.insert(entry.key.clone(), json);
            }
        }
        Some(_) => {
            for key in node.map(texts).transpose()?.unwrap_or_default() {
                endpoints.insert(key, "null".to_owned());
            }
        }
        None => {}
    }
    if endpoints.is_empty() {
        if node.is_none() && !matches!(scope.service.container.network_mode, Networks(_)) {
            return Ok(None);
        }
        endpoints.insert("default".to_owned(), "null".to_owned());
    }
    let parts: Vec<String> =
        endpoints.iter().map(|(key, json)| format!("{}:{json}", go::quoted(key))).collect();
    Ok(Some(format!("{{{}}}", parts.join(","))))
}

/// `host=address` each, sorted.
pub(super) fn extra_hosts(node: Option<&Node>, scope: &Scope<'_>) -> Encoded {
    if node.is_none() {
        return Ok(None);
    }
    let mut hosts: Vec<String> =
        scope.service.container.extra_hosts.iter().map(|host| host.replacen(':', "=", 1)).collect();
    hosts.sort();
    Ok((!hosts.is_empty()).then(|| go::strings(hosts.iter().map(String::as_str))))
}

/// `service:NAME` becomes the id of that service's first container.
pub(super) fn shared_namespace(node: Option<&Node>, _: &Scope<'_>) -> Encoded {
    let Some(mode) = node.map(text).transpose()?.filter(|mode| !mode.is_empty()) else {
        return Ok(None);
    };
    Ok(Some(match mode.strip_prefix("service:") {
        Some(service) => format!("\"container:\0{service}\0\""),
        None => go::quoted(&mode),
    }))
}

/// A service becomes the id of its first container, and loses its `:ro`, as `container:NAME:ro` does.
pub(super) fn volumes_from(node: Option<&Node>, _: &Scope<'_>) -> Encoded {
    let Some(from) = node.map(texts).transpose()?.filter(|from| !from.is_empty()) else {
        return Ok(None);
    };
    let part = |from: &String| match from.strip_prefix("container:") {
        Some(container) => go::quoted(container.split(':').next().unwrap_or_default()),
        None => format!("\"\0{}\0\"", from.split(':').next().unwrap_or_default()),
    };
    Ok(Some(format!("[{}]", from.iter().map(part).collect::<Vec<_>>().join(","))))
}

pub(super) fn health_test(node: Option<&Node>, _: &Scope<'_>) -> Encoded {
    let Some(node) = node else { return Ok(None) };
    if let Kind::Scalar(command) = &node.kind {
        return Ok(Some(go::strings(["CMD-SHELL", command.text.as_str()])));
    }
    let words = texts(node)?;
    Ok((!words.is_empty()).then(|| go::strings(words.iter().map(String::as_str))))
}

/// One number for both limits stays one number.
pub(super) fn ulimits(node: Option<&Node>, _: &Scope<'_>) -> Encoded {
    let Some(Kind::Mapping(entries)) = node.map(|node| &node.kind) else { return Ok(None) };
    let mut limits = std::collections::BTreeMap::new();
    for entry in entries {
        let json = if matches!(entry.value.kind, Kind::Mapping(_)) {
            let side = |key: &str| entry.value.get(key).map_or(Ok(0), shape::number);
            let both = [("soft", side("soft")?), ("hard", side("hard")?)];
            let parts: Vec<String> = both
                .iter()
                .filter(|(_, value)| *value != 0)
                .map(|(key, value)| format!("\"{key}\":{value}"))
                .collect();
            format!("{{{}}}", parts.join(","))
        } else {
            scalar(&entry.value)?;
            match shape::number(&entry.value)? {
                0 => "{}".to_owned(),
                both => both.to_string(),
            }
        };
        limits.insert(entry.key.as_str(), json);
    }
    let parts: Vec<String> =
        limits.iter().map(|(key, json)| format!("{}:{json}", go::quoted(key))).collect();
    Ok((!parts.is_empty()).then(|| format!("{{{}}}", parts.join(","))))
}
