//! `volumes`, `configs`, `secrets` and `devices` as compose-go has them.

use super::go;
use super::service::{Inexact, Scope};
use super::shape::Shape::{By, Bytes, Flag, Number, Pairs, Struct, Text};
use super::shape::{Table, items, object, text, texts};
use crate::spec::node::{Kind, Node};
use crate::spec::value::mount;

type Encoded = Result<Option<String>, Inexact>;

const MOUNT: Table = &[
    ("type", Text),
    ("source", By(long_source)),
    ("target", By(long_target)),
    ("read_only", Flag),
    ("consistency", Text),
    ("bind", Struct(BIND)),
    ("volume", Struct(VOLUME)),
    ("tmpfs", Struct(TMPFS)),
    ("image", Struct(IMAGE)),
];

const BIND: Table =
    &[("selinux", Text), ("propagation", Text), ("create_host_path", Flag), ("recursive", Text)];

const VOLUME: Table = &[("labels", Pairs), ("nocopy", Flag), ("subpath", Text)];

const TMPFS: Table = &[("size", Bytes), ("mode", Number)];

const IMAGE: Table = &[("subpath", Text)];

const FILE: Table =
    &[("source", Text), ("target", Text), ("uid", Text), ("gid", Text), ("mode", By(mode))];

const DEVICE: Table = &[("source", Text), ("target", Text), ("permissions", Text)];

fn list(node: Option<&Node>, part: impl Fn(&Node) -> Result<String, Inexact>) -> Encoded {
    let Some(node) = node else { return Ok(None) };
    let parts: Result<Vec<String>, Inexact> = items(node)?.iter().map(part).collect();
    Ok(Some(parts?).filter(|parts| !parts.is_empty()).map(|parts| format!("[{}]", parts.join(","))))
}

/// The files stay beside the labels that they hold, by `up`; `config --hash` leaves them out.
pub(super) fn label_files(node: Option<&Node>, scope: &Scope<'_>) -> Encoded {
    let Some(files) = node.map(texts).transpose()?.filter(|files| !files.is_empty()) else {
        return Ok(None);
    };
    let paths: Result<Vec<String>, Inexact> =
        files.iter().map(|file| host_path(file, scope)).collect();
    Ok(Some(go::strings(paths?.iter().map(String::as_str))))
}

pub(super) fn volumes(node: Option<&Node>, scope: &Scope<'_>) -> Encoded {
    list(node, |item| match &item.kind {
        Kind::Mapping(_) => long(item, scope),
        _ => short(&text(item)?, scope),
    })
}

/// A bind mount's source is a path of the host, any other's a name.
fn long(item: &Node, scope: &Scope<'_>) -> Result<String, Inexact> {
    let json = object(item, MOUNT, scope)?;
    let is_bind = item
        .get("type")
        .is_some_and(|kind| matches!(&kind.kind, Kind::Scalar(s) if s.text == "bind"));
    let Some(source) = item.get("source").filter(|_| is_bind).map(text).transpose()? else {
        return Ok(json);
    };
    let path = host_path(&source, scope)?;
    // The first one is the mount's: only its type stands before it.
    let written = format!("\"source\":{}", go::quoted(&source));
    Ok(json.replacen(&written, &format!("\"source\":{}", go::quoted(&path)), 1))
}

/// Compose cleans only what it joins to a folder.
fn host_path(source: &str, scope: &Scope<'_>) -> Result<String, Inexact> {
    if source.starts_with('/') {
        return Ok(source.to_owned());
    }
    scope.folders.absolute(source).ok_or_else(|| Inexact::new(source))
}

fn long_source(node: Option<&Node>, _: &Scope<'_>) -> Encoded {
    Ok(node
        .map(text)
        .transpose()?
        .filter(|source| !source.is_empty())
        .map(|source| go::quoted(&source)))
}

fn long_target(node: Option<&Node>, _: &Scope<'_>) -> Encoded {
    Ok(node.map(text).transpose()?.map(|target| go::quoted(&mount::clean(&target))))
}

/// `[source:]target[:options]`, by the rules of compose-go's `format.ParseVolume`.
fn short(spec: &str, scope: &Scope<'_>) -> Result<String, Inexact> {
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(Inexact::new(spec)),
    };
    let is_path = source.starts_with(['.', '/', '~']);
    let (mut read_only, mut bind, mut volume) = (false, Vec::new(), false);
    let (mut selinux, mut propagation) = (None, None);
    for option in options.split(',') {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "nocopy" => volume = true,
            "z" | "Z" => selinux = Some(option),
            "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" => {
                propagation = Some(option)
            }
            _ => {}
        }
    }
    bind.extend(selinux.map(|word| format!("\"selinux\":\"{word}\"")));
    bind.extend(propagation.map(|word| format!("\"propagation\":\"{word}\"")));
    let has_bind = is_path || !bind.is_empty();
    if is_path {
        bind.push("\"create_host_path\":true".to_owned());
    }
    let mut json = format!("{{\"type\":\"{}\"", if is_path { "bind" } else { "volume" });
    if is_path {
        let path = host_path(source, scope)?;
        json.push_str(&format!(",\"source\":{}", go::quoted(&path)));
    } else if !source.is_empty() {
        json.push_str(&format!(",\"source\":{}", go::quoted(source)));
    }
    json.push_str(&format!(",\"target\":{}", go::quoted(&mount::clean(target))));
    if read_only {
        json.push_str(",\"read_only\":true");
    }
    if has_bind {
        json.push_str(&format!(",\"bind\":{{{}}}", bind.join(",")));
    }
    // A path of two letters is taken for a target before anything is known of its kind.
    if volume {
        json.push_str(",\"volume\":{\"nocopy\":true}");
    } else if !is_path && spec.len() > 2 {
        json.push_str(",\"volume\":{}");
    }
    json.push('}');
    Ok(json)
}

pub(super) fn configs(node: Option<&Node>, scope: &Scope<'_>) -> Encoded {
    list(node, |item| file(item, false, scope))
}

pub(super) fn secrets(node: Option<&Node>, scope: &Scope<'_>) -> Encoded {
    list(node, |item| file(item, true, scope))
}

fn file(item: &Node, secret: bool, scope: &Scope<'_>) -> Result<String, Inexact> {
    let target = |source: &str| go::quoted(&format!("/run/secrets/{source}"));
    if !matches!(item.kind, Kind::Mapping(_)) {
        let source = text(item)?;
        let target =
            if secret { format!(",\"target\":{}", target(&source)) } else { String::new() };
        return Ok(format!("{{\"source\":{}{target}}}", go::quoted(&source)));
    }
    let json = object(item, FILE, scope)?;
    let Some(source) = item.get("source").filter(|_| secret && item.get("target").is_none()) else {
        return Ok(json);
    };
    let source = text(source)?;
    let written = format!("\"source\":{}", go::quoted(&source));
    Ok(json.replacen(&written, &format!("{written},\"target\":{}", target(&source)), 1))
}

/// As an octal text; a quoted number is octal already, `0o440` and `0440` too.
fn mode(node: Option<&Node>, _: &Scope<'_>) -> Encoded {
    let Some(Kind::Scalar(scalar)) = node.map(|node| &node.kind) else { return Ok(None) };
    let octal = scalar.text.strip_prefix("0o").or_else(|| {
        (scalar.quoted || scalar.text.starts_with('0')).then_some(scalar.text.as_str())
    });
    let bits =
        octal.map_or_else(|| scalar.text.parse().ok(), |octal| i64::from_str_radix(octal, 8).ok());
    bits.map(|bits| Some(format!("\"0{bits:o}\""))).ok_or_else(|| Inexact::new(&scalar.text))
}

pub(super) fn devices(node: Option<&Node>, scope: &Scope<'_>) -> Encoded {
    list(node, |item| {
        if matches!(item.kind, Kind::Mapping(_)) {
            return object(item, DEVICE, scope);
        }
        let spec = text(item)?;
        let parts: Vec<&str> = spec.split(':').collect();
        let (source, target, permissions) = match parts[..] {
            [source] => (source, source, "rwm"),
            [source, target] => (source, target, "rwm"),
            [source, target, permissions] => (source, target, permissions),
            _ => return Err(Inexact::new(&spec)),
        };
        let target = if target.is_empty() { source } else { target };
        let part = |key: &str, value: &str| {
            (!value.is_empty()).then(|| format!("\"{key}\":{}", go::quoted(value)))
        };
        let parts: Vec<String> =
            [part("source", source), part("target", target), part("permissions", permissions)]
                .into_iter()
                .flatten()
                .collect();
        Ok(format!("{{{}}}", parts.join(",")))
    })
}
