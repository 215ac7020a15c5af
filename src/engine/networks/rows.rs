//! Creating, finding and removing networks.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLockWriteGuard};

use ipnet::IpNet;

use super::choose::{self, Taken};
use super::live::{self, HOST_BINDING, Rows};
use super::{DEFAULT_NETWORK, Networks, PREDEFINED};
use crate::engine::core::{Engine, now};
use crate::engine::error::EngineError;
use crate::engine::names;
use crate::engine::state::networks::{self as table, Network, Phase, Subnet};
use crate::engine::state::{Durability, StateError};
use crate::net::claim::Claim;
use crate::net::model::{self, NetworkConfig, SubnetConfig};
use crate::spec::name::ObjectName;
use crate::spec::stack::Network as NetworkSpec;

const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
const MTU: &str = "com.docker.network.driver.mtu";

#[derive(Debug, Clone, Default, PartialEq)]
pub struct CreateNetwork {
    pub name: String,
    pub spec: NetworkSpec,
    pub stack: Option<String>,
}

/// Returns what docker's own network of this name is.
pub(super) fn predefined(name: &str) -> CreateNetwork {
    let mut spec = NetworkSpec::default();
    let driver = match name {
        DEFAULT_NETWORK => {
            let options = [
                (DEFAULT_BRIDGE, "true"),
                (ICC, "true"),
                (MASQUERADE, "true"),
                (HOST_BINDING, "0.0.0.0"),
            ];
            let options =
                options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            spec.driver_opts = options.collect();
            "bridge"
        }
        "host" => "host",
        _ => "null",
    };
    spec.driver = Some(driver.to_owned());
    CreateNetwork { name: name.to_owned(), spec, stack: None }
}

impl Engine {
    /// Creates a network; its subnet is the wished one, or the next free one of the pools.
    pub async fn create_network(
        self: &Arc<Self>,
        request: CreateNetwork,
    ) -> Result<Network, EngineError> {
        check(&request)?;
        self.insert_network(request).await
    }

    pub(super) async fn insert_network(
        self: &Arc<Self>,
        mut request: CreateNetwork,
    ) -> Result<Network, EngineError> {
        request.spec.driver.get_or_insert_with(|| "bridge".to_owned());
        let _turn = Claim::take().await;
        let routes = self.networks.driver.routes().await?;
        let row = self.reserve_subnets(request, &routes)?;
        if let Err(error) = self.finish_network(&row).await {
            // What is left goes with the next start; the first error is the one to report.
            drop(self.networks.driver.remove_network(&row.id).await);
            self.network_rows().remove(&row.id);
            drop(self.write(Durability::Process, |tx| table::delete(tx, &row.id)));
            return Err(error);
        }
        self.network_event("create", &row, None);
        Ok(Network { phase: Phase::Ready, ..row })
    }

    /// Makes what the row of a new network promises.
    async fn finish_network(self: &Arc<Self>, row: &Network) -> Result<(), EngineError> {
        self.make_bridge(row).await?;
        let ready = Arc::new(Network { phase: Phase::Ready, ..row.clone() });
        self.network_rows().insert(row.id.clone(), ready);
        self.refresh_publications().await?;
        self.write::<_, StateError>(Durability::Power, |tx| {
            table::set_phase(tx, &row.id, Phase::Ready)
        })?;
        Ok(())
    }

    fn network_rows(&self) -> RwLockWriteGuard<'_, Rows> {
        self.networks.rows.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the intent: a row that has its subnets.
    fn reserve_subnets(
        &self,
        CreateNetwork { name, spec, stack }: CreateNetwork,
        routes: &[IpNet],
    ) -> Result<Network, EngineError> {
        let mut row = Network {
            id: random_id()?,
            name,
            spec,
            stack,
            phase: Phase::Creating,
            created_at: now(),
            subnets: Vec::new(),
        };
        let wished = self.write(Durability::Process, |tx| {
            if has_bridge(&row) {
                let others = table::list(tx)?.into_iter().flat_map(|other| other.subnets);
                let mut subnets: Vec<IpNet> = others.map(|other| other.subnet).collect();
                subnets.extend(routes);
                let pools = &self.config.network.pools;
                let root_id = &self.networks.root_id;
                let taken = Taken { subnets: &subnets, pools, root_id };
                row.subnets = choose::subnets(&row.spec, &taken)?;
            }
            table::insert(tx, &row, routes)?;
            Ok(())
        });
        match wished {
            Ok(()) => Ok(row),
            Err(EngineError::State(StateError::NameTaken { name, .. })) => {
                Err(EngineError::Conflict {
                    message: format!("network with name {name} already exists"),
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn make_bridge(&self, row: &Network) -> Result<(), EngineError> {
        if has_bridge(row) {
            let config = self.networks.config(row);
            self.networks.driver.create_network(&config).await?;
        }
        Ok(())
    }

    /// Returns all networks, oldest first.
    pub fn networks(&self) -> Result<Vec<Network>, EngineError> {
        let mut all: Vec<Network> =
            self.networks.rows().values().map(|row| Network::clone(row)).collect();
        all.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
        Ok(all)
    }

    /// Returns the network that `word` means: id, name or unique prefix; `host` and `none` are there too.
    pub fn network(&self, word: &str) -> Result<Network, EngineError> {
        let rows = self.networks.rows();
        let pairs = rows.values().map(|row| (row.id.as_str(), row.name.as_str()));
        let id = names::resolve("network", word, pairs).map_err(|error| match error {
            names::ResolveError::NotFound { word, .. } => EngineError::NoNetwork { word },
            other => other.into(),
        })?;
        Ok(Network::clone(&rows[id]))
    }

    /// Removes a network without endpoints; `bridge`, `host`, `none` never.
    pub async fn remove_network(self: &Arc<Self>, word: &str) -> Result<(), EngineError> {
        let row = self.network(word)?;
        if PREDEFINED.contains(&row.name.as_str()) {
            let message = format!("{} is a pre-defined network and cannot be removed", row.name);
            return Err(EngineError::Forbidden { message });
        }
        self.withdraw(&row)?;
        if let Err(error) = self.finish_removal(&row).await {
            // It can be removed again; a start of the engine would do so too.
            self.network_rows().insert(row.id.clone(), Arc::new(row));
            return Err(error);
        }
        self.network_event("destroy", &row, None);
        Ok(())
    }

    async fn finish_removal(self: &Arc<Self>, row: &Network) -> Result<(), EngineError> {
        self.write(Durability::Process, |tx| table::set_phase(tx, &row.id, Phase::Removing))?;
        self.networks.driver.remove_network(&row.id).await?;
        self.refresh_publications().await?;
        self.write(Durability::Power, |tx| table::delete(tx, &row.id))?;
        Ok(())
    }

    /// Takes a network out of sight unless a container is connected: whoever connects looks under the same lock.
    fn withdraw(&self, row: &Network) -> Result<(), EngineError> {
        let mut rows = self.network_rows();
        let live = self.networks.live();
        let active: Vec<String> = live
            .iter()
            .filter(|(_, container)| container.addresses.contains_key(&row.id))
            .map(|(id, container)| {
                format!("name:{:?} id:{:?}", container.row.name, id.get(..12).unwrap_or(id))
            })
            .collect();
        if !active.is_empty() {
            let message = format!(
                "error while removing network: network {} has active endpoints ({})",
                row.name,
                active.join(", ")
            );
            return Err(EngineError::Forbidden { message });
        }
        rows.remove(&row.id);
        Ok(())
    }

    /// Removes the networks that `wanted` picks and that no container, running or not, is on; returns their names.
    pub async fn prune_networks(
        self: &Arc<Self>,
        wanted: impl Fn(&Network) -> bool,
    ) -> Result<Vec<String>, EngineError> {
        let used: Vec<String> = self
            .handles()
            .iter()
            .flat_map(|handle| handle.row().spec.networks.keys().cloned().collect::<Vec<_>>())
            .collect();
        let mut removed = Vec::new();
        for row in self.networks()? {
            let is_used = used.contains(&row.name) || used.contains(&row.id);
            if is_used || PREDEFINED.contains(&row.name.as_str()) || !wanted(&row) {
                continue;
            }
            match self.remove_network(&row.id).await {
                Ok(()) => removed.push(row.name),
                // Somebody connected to it or removed it meanwhile: it is not unused any more.
                Err(EngineError::Forbidden { .. } | EngineError::NoNetwork { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.tell_prune("network", 0);
        Ok(removed)
    }

    /// Returns the device of a network's bridge.
    pub fn bridge_name(&self, row: &Network) -> String {
        self.networks.bridge_name(row)
    }

    pub(super) fn network_event(&self, action: &str, row: &Network, container: Option<&str>) {
        let driver = row.spec.driver.clone().unwrap_or_default();
        let mut attributes =
            BTreeMap::from([("name".to_owned(), row.name.clone()), ("type".to_owned(), driver)]);
        if let Some(id) = container {
            attributes.insert("container".to_owned(), id.to_owned());
        }
        self.emit("network", action, &row.id, attributes);
    }
}

impl Networks {
    /// Returns what the driver is to keep, by network id.
    pub(super) fn configs(&self) -> BTreeMap<String, NetworkConfig> {
        let rows = self.rows();
        let bridges = rows.values().filter(|row| has_bridge(row));
        bridges.map(|row| (row.id.clone(), self.config(row))).collect()
    }

    fn config(&self, row: &Network) -> NetworkConfig {
        let option = |key: &str| row.spec.driver_opts.get(key);
        let subnet = |one: &Subnet| SubnetConfig { subnet: one.subnet, gateway: one.gateway };
        NetworkConfig {
            id: row.id.clone(),
            name: row.name.clone(),
            bridge: self.bridge_name(row),
            subnets: row.subnets.iter().map(subnet).collect(),
            internal: row.spec.internal,
            ipv6: row.subnets.iter().any(|one| one.subnet.addr().is_ipv6()),
            masquerade: option(MASQUERADE).is_none_or(|value| value != "false"),
            mtu: option(MTU).and_then(|value| value.parse().ok()).unwrap_or(self.mtu),
        }
    }

    /// Returns the device of a network's bridge.
    fn bridge_name(&self, row: &Network) -> String {
        match row.spec.driver_opts.get(BRIDGE_NAME) {
            Some(name) => name.clone(),
            None => model::bridge_name(&self.root_id, &row.id),
        }
    }

    /// Gives addresses their networks' prefix lengths.
    pub(super) fn with_prefixes(
        &self,
        held: &[(String, std::net::IpAddr)],
    ) -> BTreeMap<String, Vec<IpNet>> {
        let rows = self.rows();
        let mut all: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
        for (network, address) in held {
            let subnets = rows.get(network).into_iter().flat_map(|row| &row.subnets);
            let subnet = subnets.map(|one| one.subnet).find(|one| one.contains(address));
            let net = subnet.and_then(|subnet| IpNet::new(*address, subnet.prefix_len()).ok());
            if let Some(net) = net {
                all.entry(network.clone()).or_default().push(net);
            }
        }
        all
    }

    pub(super) fn default_bridge(&self) -> Option<Arc<Network>> {
        live::find(&self.rows(), DEFAULT_NETWORK).cloned()
    }
}

pub(super) fn has_bridge(row: &Network) -> bool {
    row.spec.driver.as_deref().is_none_or(|driver| driver == "bridge")
}

/// Refuses what we can't do; the messages are docker's where it has them.
fn check(request: &CreateNetwork) -> Result<(), EngineError> {
    let CreateNetwork { name, spec, .. } = request;
    let forbidden = |message: String| Err(EngineError::Forbidden { message });
    let invalid = |message: String| Err(EngineError::Invalid { message });
    if PREDEFINED.contains(&name.as_str()) || name == "default" {
        return forbidden(format!("operation is not permitted on predefined {name} network"));
    }
    if let Err(error) = ObjectName::try_from(name.as_str()) {
        return invalid(format!("invalid network name: {error}"));
    }
    match spec.driver.as_deref().unwrap_or("bridge") {
        "bridge" => {}
        driver @ ("host" | "null") => {
            return forbidden(format!("only one instance of \"{driver}\" network is allowed"));
        }
        driver => {
            let message = format!(
                "network driver {driver:?} is not built in: bargee has \"bridge\", and the networks \
                 \"host\" and \"none\""
            );
            return Err(EngineError::NotImplemented { message });
        }
    }
    for (key, value) in &spec.driver_opts {
        let fits = match key.as_str() {
            MTU => value.parse::<u32>().is_ok_and(|mtu| (68..=65_535).contains(&mtu)),
            MASQUERADE => matches!(value.as_str(), "true" | "false"),
            ICC => value == "true",
            DEFAULT_BRIDGE => value == "false",
            BRIDGE_NAME => is_device_name(value),
            HOST_BINDING => value.parse::<std::net::IpAddr>().is_ok(),
            _ => return invalid(format!("network {name}: the driver option {key} is unknown")),
        };
        if !fits {
            return invalid(format!("network {name}: the driver option {key} can't be {value:?}"));
        }
    }
    Ok(())
}

/// As dev_valid_name() of net/core/dev.c has it, less what could leave a path below /proc/sys.
fn is_device_name(name: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    (1..=15).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('.')
}

fn random_id() -> Result<String, EngineError> {
    loop {
        let mut random = [0; 32];
        getrandom::fill(&mut random)
            .map_err(|error| EngineError::io("draw random bytes")(std::io::Error::other(error)))?;
        if let Some(id) = names::id_from(random) {
            return Ok(id);
        }
    }
}
