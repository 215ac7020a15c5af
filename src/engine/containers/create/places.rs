//! Names of networks and of other containers in a spec, replaced by what they mean on this machine.

use std::sync::Arc;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::spec::container::{ContainerSpec, NetworkMode};

impl Engine {
    /// Names networks by their names and other containers by their ids; what isn't there is an error.
    pub(super) fn resolve_places(
        self: &Arc<Self>,
        spec: &mut ContainerSpec,
    ) -> Result<(), EngineError> {
        self.resolve_networks(spec)?;
        for mode in [&mut spec.pid_mode, &mut spec.ipc_mode] {
            if let Some(word) = mode.strip_prefix("container:") {
                *mode = format!("container:{}", self.container(word)?.id());
            }
        }
        for link in &spec.links {
            let name = link.split(':').next().unwrap_or(link);
            self.container(name).map_err(|_| EngineError::Invalid {
                message: format!("could not get container for {name}: No such container: {name}"),
            })?;
        }
        Ok(())
    }

    fn resolve_networks(self: &Arc<Self>, spec: &mut ContainerSpec) -> Result<(), EngineError> {
        if let NetworkMode::Container(word) = &spec.network_mode {
            spec.network_mode = NetworkMode::Container(self.container(word)?.id().to_owned());
            return Ok(());
        }
        let mut named = std::collections::BTreeMap::new();
        for (word, endpoint) in std::mem::take(&mut spec.networks) {
            named.insert(self.network(&word)?.name, endpoint);
        }
        spec.networks = named;
        if let NetworkMode::Networks(first) = &spec.network_mode {
            let first = self.network(first)?.name;
            match first.as_str() {
                "host" => spec.network_mode = NetworkMode::Host,
                "none" => spec.network_mode = NetworkMode::None,
                _ => {
                    spec.networks.entry(first.clone()).or_default();
                    spec.network_mode = NetworkMode::Networks(first);
                }
            }
        }
        let alone = matches!(spec.network_mode, NetworkMode::Host | NetworkMode::None);
        if alone {
            spec.networks.retain(|name, _| !matches!(name.as_str(), "host" | "none"));
        }
        if alone && !spec.networks.is_empty() {
            let message = "conflicting options: host or no networking, and a network".to_owned();
            return Err(EngineError::Invalid { message });
        }
        Ok(())
    }
}
