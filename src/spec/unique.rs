//! What makes two items of a list the same one, so that a later file replaces an earlier item.

use super::node::{Kind, Node};

/// Returns the identity of `item` in the list at `path`, or `None` where lists only grow.
pub(super) fn key(path: &[&str], item: &Node) -> Option<String> {
    let ["services", _, rest @ ..] = path else {
        return match path {
            ["networks" | "volumes", _, "labels"] | ["networks", _, "ipam", "options"] => {
                before_equals(item)
            }
            ["networks", _, "ipam", "config"] => field(item, "subnet").map(str::to_owned),
            _ => None,
        };
    };
    match rest {
        ["environment" | "labels" | "annotations" | "sysctls"]
        | ["build", "args" | "labels" | "additional_contexts"]
        | ["deploy", "labels"] => before_equals(item),
        ["ports"] => port(item),
        ["volumes"] => mount(item),
        ["devices"] => device(item),
        ["configs"] => grant(item, "/"),
        ["secrets"] => grant(item, "/run/secrets/"),
        ["env_file"] => text(item).or_else(|| field(item, "path")).map(str::to_owned),
        ["expose"] => text(item).map(|port| port.trim_end_matches("/tcp").to_owned()),
        ["tmpfs"] => text(item).map(|mount| mount.split(':').next().unwrap_or(mount).to_owned()),
        [
            "dns" | "dns_opt" | "dns_search" | "extra_hosts" | "label_file" | "cap_add"
            | "cap_drop" | "links" | "profiles",
        ]
        | ["build", "tags" | "platforms" | "extra_hosts"]
        | ["networks", _, "aliases" | "link_local_ips"] => text(item).map(str::to_owned),
        _ => None,
    }
}

pub(super) fn text(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar(scalar) => Some(&scalar.text),
        _ => None,
    }
}

fn field<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    node.get(name).and_then(text)
}

fn before_equals(item: &Node) -> Option<String> {
    text(item).map(|pair| pair.split('=').next().unwrap_or(pair).to_owned())
}

/// A port is its host address, host port, container port and protocol.
fn port(item: &Node) -> Option<String> {
    let Some(short) = text(item) else {
        let target = field(item, "target")?;
        let published = field(item, "published").unwrap_or_default();
        let address = field(item, "host_ip").unwrap_or("0.0.0.0");
        return Some(format!(
            "{address}|{published}|{target}|{}",
            field(item, "protocol").unwrap_or("tcp")
        ));
    };
    let (numbers, protocol) = short.split_once('/').unwrap_or((short, "tcp"));
    let (host, target) = numbers.rsplit_once(':').unwrap_or(("", numbers));
    let (address, published) = match host.rsplit_once(':') {
        Some((address, published)) => {
            (address.trim_start_matches('[').trim_end_matches(']'), published)
        }
        None => ("0.0.0.0", host),
    };
    Some(format!("{address}|{published}|{target}|{protocol}"))
}

fn mount(item: &Node) -> Option<String> {
    let Some(short) = text(item) else { return field(item, "target").map(trim_slash) };
    let mut parts = short.split(':');
    let first = parts.next().unwrap_or(short);
    Some(trim_slash(parts.next().unwrap_or(first)))
}

fn trim_slash(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => path.to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

fn device(item: &Node) -> Option<String> {
    match text(item) {
        // `vendor/class=name` names a CDI device.
        Some(cdi) if !cdi.starts_with('/') => Some(cdi.to_owned()),
        Some(_) => mount(item),
        None => field(item, "target").or_else(|| field(item, "source")).map(str::to_owned),
    }
}

fn grant(item: &Node, folder: &str) -> Option<String> {
    let target = text(item).or_else(|| field(item, "target")).or_else(|| field(item, "source"))?;
    Some(if target.starts_with('/') { target.to_owned() } else { format!("{folder}{target}") })
}
