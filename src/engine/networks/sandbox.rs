//! The sandbox of a container that starts, and its end.

use std::sync::Arc;

use super::live::{self, Live, Rows};
use super::reserve::{At, parse_mac};
use crate::engine::containers::Handle;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::Container;
use crate::engine::state::{Durability, addresses};
use crate::net::driver::DefaultRoute;
use crate::net::model::EndpointConfig;
use crate::net::netd::Sandbox;
use crate::spec::container::{Endpoint, NetworkMode};

impl Engine {
    /// Makes sandbox and links of a container that is about to start. Twice does no harm.
    pub(crate) async fn connect_sandbox(
        self: &Arc<Self>,
        handle: &Handle,
    ) -> Result<(), EngineError> {
        let row = handle.row();
        match row.spec.network_mode {
            NetworkMode::Host | NetworkMode::Container(_) => return Ok(()),
            NetworkMode::None => {
                self.finish_closing(handle.id()).await;
                self.networks.driver.create_sandbox(handle.id()).await?;
                return Ok(());
            }
            NetworkMode::Default | NetworkMode::Networks(_) => {}
        }
        self.finish_closing(handle.id()).await;
        let row = self.reserve_for_start(handle)?;
        let connected = self.connect_all(&row).await;
        if connected.is_err() {
            // The first error is the one to report; what is left goes behind it.
            drop(self.unpublish_container(handle).await);
        }
        connected
    }

    /// Takes the addresses that the container lacks, and its host ports.
    fn reserve_for_start(&self, handle: &Handle) -> Result<Arc<Container>, EngineError> {
        let row = handle.row();
        let rows = self.networks.rows();
        let wanted = self.wanted_ports(&row);
        let bound = self.write(Durability::Process, |tx| {
            self.reserve_addresses(tx, &rows, &row, At::Start)?;
            self.reserve_ports(tx, &rows, &row, &wanted)
        })?;
        if bound == row.bound_ports {
            return Ok(row);
        }
        Ok(self.change(handle, Durability::Process, |row| row.bound_ports = bound)?)
    }

    async fn connect_all(self: &Arc<Self>, row: &Arc<Container>) -> Result<(), EngineError> {
        let driver = &self.networks.driver;
        let path = driver.create_sandbox(&row.id).await?;
        let sandbox = Sandbox::at(&path, self.upstreams(row))
            .map_err(EngineError::io(format!("look at {}", path.display())))?;
        let held = self.read(|connection| addresses::of_container(connection, &row.id))?;
        let addresses = self.networks.with_prefixes(&held);
        let rows =
            self.register(Live { sandbox, addresses, serves: false, row: Arc::clone(row) })?;
        for (index, (name, wish)) in live::memberships(row).into_iter().enumerate() {
            let network = live::find(&rows, name)
                .ok_or_else(|| EngineError::NoNetwork { word: name.to_owned() })?;
            if driver.is_connected(&row.id, &network.id).await? {
                continue;
            }
            let route = if index == 0 { DefaultRoute::Here } else { DefaultRoute::Elsewhere };
            let endpoint = self.endpoint(row, &network.id, wish)?;
            driver.connect(&endpoint, &format!("eth{index}"), route).await?;
            self.network_event("connect", network, Some(&row.id));
        }
        // The resolver opens its sockets while the rest is made ready; see `open_resolver`.
        self.refresh_soon();
        Ok(())
    }

    /// Waits until names resolve inside, for a program that asks at once.
    pub(crate) async fn open_resolver(
        self: &Arc<Self>,
        handle: &Handle,
    ) -> Result<(), EngineError> {
        match live::has_endpoints(&handle.row()) {
            true => self.refresh_publications().await,
            false => Ok(()),
        }
    }

    /// Makes a container known to whoever removes a network, if its networks are still there.
    fn register(&self, found: Live) -> Result<Rows, EngineError> {
        let rows = self.networks.rows.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (name, _) in live::memberships(&found.row) {
            live::find(&rows, name)
                .ok_or_else(|| EngineError::NoNetwork { word: name.to_owned() })?;
        }
        self.networks.live().insert(found.row.id.clone(), found);
        Ok(rows.clone())
    }

    /// Returns what the driver is to make of one membership.
    pub(super) fn endpoint(
        &self,
        row: &Container,
        network: &str,
        wish: &Endpoint,
    ) -> Result<EndpointConfig, EngineError> {
        let live = self.networks.live();
        let addresses = live.get(&row.id).and_then(|found| found.addresses.get(network));
        Ok(EndpointConfig {
            container: row.id.clone(),
            network: network.to_owned(),
            addresses: addresses.cloned().unwrap_or_default(),
            mac: wish.mac.as_deref().map(parse_mac).transpose()?,
            aliases: Vec::new(),
            names: Vec::new(),
        })
    }

    /// The opposite, when it stopped: ports and names are free when this returns; links go behind it.
    pub(crate) async fn unpublish_container(
        self: &Arc<Self>,
        handle: &Handle,
    ) -> Result<(), EngineError> {
        let row = handle.row();
        let found = self.networks.live().remove(handle.id());
        let Some(found) = found else {
            if row.spec.network_mode == NetworkMode::None {
                self.networks.driver.remove_sandbox(handle.id())?;
            }
            return Ok(());
        };
        let published = self.refresh_publications().await;
        self.release_ports(&row)?;
        self.close_behind(handle.id(), found);
        published
    }

    /// Removes what a container has in the kernel's network, for its removal.
    pub(crate) async fn remove_sandbox(
        self: &Arc<Self>,
        container: &str,
    ) -> Result<(), EngineError> {
        let found = self.networks.live().remove(container);
        if let Some(found) = found {
            self.refresh_publications().await?;
            self.close_behind(container, found);
            return Ok(());
        }
        if !self.networks.closing().contains_key(container) {
            self.networks.driver.remove_sandbox(container)?;
        }
        Ok(())
    }

    /// Deletes links and namespace while nobody waits: the kernel takes its time for both.
    fn close_behind(self: &Arc<Self>, container: &str, found: Live) {
        let engine = Arc::clone(self);
        let id = container.to_owned();
        let mut closing = self.networks.closing();
        closing.retain(|_, task| !task.is_finished());
        let task = tokio::spawn(async move {
            if let Err(error) = engine.close(&id, &found).await {
                tracing::warn!(container = id, %error, "a container's links are left for now");
                engine.leaks.collect_soon();
            }
        });
        closing.insert(container.to_owned(), task);
    }

    async fn close(self: &Arc<Self>, container: &str, found: &Live) -> Result<(), EngineError> {
        let driver = &self.networks.driver;
        for network in found.addresses.keys() {
            driver.disconnect(container, network).await?;
            if let Ok(row) = self.network(network) {
                self.network_event("disconnect", &row, Some(container));
            }
        }
        self.purge_ports(&found.row.bound_ports);
        // Others in the same sandbox keep it, and find the container there when it is back.
        if !self.is_shared(&found.row) {
            driver.remove_sandbox(container)?;
        }
        self.purge_released_soon();
        Ok(())
    }

    fn is_shared(&self, row: &Container) -> bool {
        self.handles().iter().any(|other| {
            let other = other.row();
            let joins = matches!(&other.spec.network_mode,
                NetworkMode::Container(word) if *word == row.id || *word == row.name);
            joins && other.phase == crate::engine::state::containers::Phase::Running
        })
    }

    /// Waits until all links that go behind an answer are gone.
    pub(super) async fn finish_all_closing(&self) {
        let closing: Vec<String> = self.networks.closing().keys().cloned().collect();
        for container in closing {
            self.finish_closing(&container).await;
        }
    }

    /// Waits until what an earlier run had is gone.
    pub(super) async fn finish_closing(&self, container: &str) {
        let task = self.networks.closing().remove(container);
        if let Some(task) = task {
            // Its own errors were told already.
            drop(task.await);
        }
    }
}
