//! The hash of what forces a container to be made anew. What can change while it runs (limits, restart
//! policy, published ports) is left out, so a change of that alone keeps the container.

use sha2::{Digest as _, Sha256};

use super::container::{ContainerSpec, Resources, RestartPolicy};
use super::digest::Digest;

/// Returns the hex sha256 of the spec's JSON (keys as they are declared, no blanks) and the image's id.
/// A key that is moved or renamed re-creates every container: a test holds the hash of one spec.
pub fn container_hash(spec: &ContainerSpec, image_id: Option<&str>) -> String {
    let fixed = ContainerSpec {
        resources: Resources::default(),
        restart: RestartPolicy::default(),
        ports: Vec::new(),
        ..spec.clone()
    };
    let document = serde_json::to_vec(&(&fixed, image_id))
        .expect("a ContainerSpec holds nothing that JSON lacks");
    let sum: [u8; 32] = Sha256::digest(&document).into();
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

    #[test]
    fn the_hash_of_a_spec_stays_what_it_was() {
        let spec = ContainerSpec { image: "web".into(), ..ContainerSpec::default() };
        let was = "1387ef238f8137de162d94a0f5bc581f4fc55affa11a80481b228b25950ac755";
        assert_eq!(container_hash(&spec, Some("sha256:1")), was);
    }
}
