//! `ports` as compose-go has them: the short notation taken apart as docker's `nat.ParsePortSpec` does.

use super::go;
use super::service::{Inexact, Scope};
use super::shape::{items, object, text};
use super::tables;
use crate::spec::node::{Kind, Node};

type Encoded = Result<Option<String>, Inexact>;

pub(super) fn ports(node: Option<&Node>, scope: &Scope<'_>) -> Encoded {
    let Some(node) = node else { return Ok(None) };
    let mut ports = Vec::new();
    for item in items(node)? {
        match &item.kind {
            Kind::Mapping(_) => ports.push(object(item, tables::PORT, scope)?),
            Kind::Scalar(scalar) => ports.extend(short(&scalar.text)?),
            _ => return Err(Inexact::new("a port is a text or a mapping")),
        }
    }
    Ok((!ports.is_empty()).then(|| format!("[{}]", ports.join(","))))
}

pub(super) fn mode(node: Option<&Node>, _: &Scope<'_>) -> Encoded {
    Ok(Some(go::quoted(&node.map(text).transpose()?.unwrap_or_else(|| "ingress".to_owned()))))
}

pub(super) fn protocol(node: Option<&Node>, _: &Scope<'_>) -> Encoded {
    Ok(Some(go::quoted(&node.map(text).transpose()?.unwrap_or_else(|| "tcp".to_owned()))))
}

/// `[address:][host[-host]:]container[-container][/protocol]`.
fn short(spec: &str) -> Result<Vec<String>, Inexact> {
    let unknown = || Inexact::new(spec);
    let (rest, protocol) = match spec.rsplit_once('/') {
        Some((rest, protocol)) => (rest, protocol.to_ascii_lowercase()),
        None => (spec, "tcp".to_owned()),
    };
    let (rest, container) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let address =
        address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(unknown());
    }
    let (first, last) = range(container).ok_or_else(unknown)?;
    let published = if host.is_empty() { None } else { Some(range(host).ok_or_else(unknown)?) };
    let mut ports = Vec::new();
    for target in first..=last {
        let published = match published {
            None => String::new(),
            // Any one of a range.
            Some((from, to)) if first == last && from != to => format!("{from}-{to}"),
            Some((from, to)) if to.wrapping_sub(from) == last - first => {
                (from + (target - first)).to_string()
            }
            Some(_) => return Err(unknown()),
        };
        ports.push((target.to_string(), port(address, target, &published, &protocol)));
    }
    // Compose sorts a range's ports as texts.
    ports.sort();
    Ok(ports.into_iter().map(|(_, json)| json).collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

fn port(address: &str, target: u16, published: &str, protocol: &str) -> String {
    let mut json = "{\"mode\":\"ingress\"".to_owned();
    if !address.is_empty() {
        json.push_str(&format!(",\"host_ip\":{}", go::quoted(address)));
    }
    json.push_str(&format!(",\"target\":{target}"));
    if !published.is_empty() {
        json.push_str(&format!(",\"published\":{}", go::quoted(published)));
    }
    json.push_str(&format!(",\"protocol\":{}}}", go::quoted(protocol)));
    json
}
