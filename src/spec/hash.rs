//! The hash of what forces a container to be made anew. What can change while it runs (limits, restart
//! policy, published ports) is left out, so a change of that alone keeps the container.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::container::{ContainerSpec, Resources, RestartPolicy};
use super::digest::Digest;

/// Returns the hex sha256 of the spec's canonical JSON (keys sorted, no blanks) and the image's id.
pub fn container_hash(spec: &ContainerSpec, image_id: Option<&str>) -> String {
    let fixed = ContainerSpec {
        resources: Resources::default(),
        restart: RestartPolicy::default(),
        ports: Vec::new(),
        ..spec.clone()
    };
    let mut value =
        serde_json::to_value(&fixed).expect("a ContainerSpec holds nothing that JSON lacks");
    value.sort_all_objects();
    let document = Value::Array(vec![value, image_id.map_or(Value::Null, Value::from)]);
    let sum: [u8; 32] = Sha256::digest(document.to_string().as_bytes()).into();
    Digest::from_bytes(&sum).hex().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::container::{PortSpec, Protocol};

    #[test]
    fn live_fields_do_not_count_and_the_image_does() {
        let spec = ContainerSpec { image: "web".into(), ..ContainerSpec::default() };
        let mut live = spec.clone();
        live.resources.memory = Some(1);
        live.restart = RestartPolicy::Always;
        live.ports.push(PortSpec {
            container: 80,
            protocol: Protocol::Tcp,
            host_ip: None,
            host: (0, 0),
        });
        assert_eq!(container_hash(&spec, None), container_hash(&live, None));
        assert_ne!(container_hash(&spec, None), container_hash(&spec, Some("sha256:1")));
        let other = ContainerSpec { user: Some("1".into()), ..spec.clone() };
        assert_ne!(container_hash(&spec, None), container_hash(&other, None));
        assert_eq!(container_hash(&spec, None).len(), 64);
    }
}
