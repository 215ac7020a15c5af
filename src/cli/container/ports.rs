//! `-p` and `--expose`.

use serde_json::{Map, Value, json};

use crate::cli::error::CliError;
use crate::spec::container::{PortSpec, Protocol};
use crate::spec::value::port;

/// `PortBindings` and `ExposedPorts`.
type Ports = (Map<String, Value>, Map<String, Value>);

/// Returns `PortBindings` and `ExposedPorts` of the published and the exposed ports.
///
/// # Errors
/// A word that is no port.
pub(super) fn bindings(publish: &[String], expose: &[String]) -> Result<Ports, CliError> {
    let mut bindings = Map::new();
    let mut exposed = Map::new();
    for word in publish {
        for spec in port::parse(word)? {
            let key = format!("{}/{}", spec.container, protocol(spec.protocol));
            exposed.insert(key.clone(), json!({}));
            let list = bindings.entry(key).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(binding(&spec));
            }
        }
    }
    for word in expose {
        if word.contains(':') {
            return Err(CliError::Usage(format!(
                "--expose {word}: expected PORT[-PORT][/PROTOCOL]; a host port is for --publish"
            )));
        }
        for spec in port::parse(word)? {
            exposed.insert(format!("{}/{}", spec.container, protocol(spec.protocol)), json!({}));
        }
    }
    Ok((bindings, exposed))
}

fn binding(spec: &PortSpec) -> Value {
    let host = match spec.host {
        (0, 0) => String::new(),
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    let address = spec.host_ip.map_or(String::new(), |address| address.to_string());
    json!({"HostIp": address, "HostPort": host})
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}
