//! Where a stack can be reached: what `up` prints when it is done.

use std::collections::BTreeMap;

use crate::diagnostic::escape_controls;
use crate::protocol::StackView;

/// Container ports that web services listen on, and what they speak.
const WEB: &[(u16, &str)] = &[
    (80, "http"),
    (443, "https"),
    (3000, "http"),
    (5000, "http"),
    (8000, "http"),
    (8080, "http"),
    (8081, "http"),
    (8443, "https"),
    (8888, "http"),
];

/// One line a published port: `web  http://127.0.0.1:8080/`, and who else reaches it.
pub(crate) fn published(view: &StackView) -> String {
    let mut found: BTreeMap<(String, String, String), Vec<String>> = BTreeMap::new();
    for service in &view.services {
        for port in service.replicas.iter().flat_map(|replica| &replica.ports) {
            let Some((host, container)) = port.split_once("->") else { continue };
            let Some((address, number)) = host.rsplit_once(':') else { continue };
            let key = (service.name.clone(), number.to_owned(), container.to_owned());
            let addresses = found.entry(key).or_default();
            if !addresses.iter().any(|known| known == address) {
                addresses.push(address.to_owned());
            }
        }
    }
    let column = found.keys().map(|(service, ..)| service.len()).max().unwrap_or(0);
    let mut text = String::new();
    for ((service, number, container), addresses) in &found {
        let anywhere =
            addresses.iter().any(|address| matches!(address.as_str(), "0.0.0.0" | "[::]" | "::"));
        let first = if anywhere { "localhost" } else { addresses[0].as_str() };
        let place = match scheme(container) {
            Some(scheme) => format!("{scheme}://{first}:{number}/"),
            None => format!("{first}:{number} → {container}"),
        };
        let remark = if anywhere { "  (open on every address of this machine)" } else { "" };
        let line = format!("{service:<column$}  {place}{remark}");
        text.push_str(&escape_controls(&line));
        text.push('\n');
    }
    text
}

/// What most likely speaks at `80/tcp`.
fn scheme(container: &str) -> Option<&'static str> {
    let port: u16 = container.strip_suffix("/tcp")?.parse().ok()?;
    WEB.iter().find(|(known, _)| *known == port).map(|(_, scheme)| *scheme)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ReplicaView, ServiceView};

    #[test]
    fn each_published_port_is_told_once_and_openness_is_said() {
        let replica = |ports: &[&str]| ReplicaView {
            ports: ports.iter().map(|port| (*port).to_owned()).collect(),
            ..ReplicaView::default()
        };
        let service = |name: &str, replicas: Vec<ReplicaView>| ServiceView {
            name: name.into(),
            replicas,
            ..ServiceView::default()
        };
        let view = StackView {
            services: vec![
                service(
                    "web",
                    vec![
                        replica(&["127.0.0.1:8080->80/tcp"]),
                        replica(&["127.0.0.1:8080->80/tcp"]),
                    ],
                ),
                service(
                    "database",
                    vec![replica(&["0.0.0.0:5432->5432/tcp", "[::]:5432->5432/tcp", "9000/tcp"])],
                ),
            ],
            ..StackView::default()
        };
        assert_eq!(
            published(&view),
            "database  localhost:5432 → 5432/tcp  (open on every address of this machine)\n\
             web       http://127.0.0.1:8080/\n"
        );
    }
}
