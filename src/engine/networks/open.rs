//! [`Networks`]: what the engine holds of its networks, and how it is found again after a start.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::live::{self, Live, Rows};
use super::ports::Held;
use super::publish::Published;
use super::resolver::Netd;
use super::rows;
use crate::engine::config::Config;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::paths::Paths;
use crate::engine::state::containers::{self, Container, Phase};
use crate::engine::state::{Durability, addresses, networks as table};
use crate::net::claim::Claim;
use crate::net::driver::Driver;
use crate::net::netd::{Refused, Sandbox};

/// The driver, and what is connected and applied.
#[derive(Debug)]
pub struct Networks {
    pub(super) driver: Driver,
    pub(super) root_id: String,
    pub(super) mtu: u32,
    /// The rows of the database, by id.
    pub(super) rows: RwLock<Rows>,
    /// Connected containers by id.
    pub(super) live: Mutex<BTreeMap<String, Live>>,
    /// Changes that were asked for, of which [`Published`] knows how many are done.
    pub(super) asked: AtomicU64,
    pub(super) published: tokio::sync::Mutex<Published>,
    /// Removals of links that go on behind their answer, by container.
    pub(super) closing: Mutex<BTreeMap<String, tokio::task::JoinHandle<()>>>,
    /// Ports that netd holds, and those that it was refused.
    pub(super) told: Mutex<(Held, Arc<Vec<Refused>>)>,
    pub(super) netd: Netd,
    /// Why another firewall may stop containers.
    pub(super) firewall: Mutex<Option<String>>,
    /// A purge of released addresses is about to run.
    pub(super) purging: AtomicBool,
    pub(super) host_has_ipv6: bool,
}

impl Networks {
    pub(crate) fn open(paths: &Paths, config: &Config) -> Result<Self, EngineError> {
        Ok(Self {
            driver: Driver::open(paths.id(), paths.run())?,
            root_id: paths.id().to_owned(),
            mtu: config.network.mtu,
            rows: RwLock::default(),
            live: Mutex::default(),
            asked: AtomicU64::new(0),
            published: tokio::sync::Mutex::default(),
            closing: Mutex::default(),
            told: Mutex::default(),
            netd: Netd::new(&paths.run().join("netd")),
            firewall: Mutex::default(),
            purging: AtomicBool::new(false),
            host_has_ipv6: Path::new("/proc/thread-self/net/if_inet6").exists(),
        })
    }

    pub(super) fn rows(&self) -> Rows {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn live(&self) -> MutexGuard<'_, BTreeMap<String, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn closing(&self) -> MutexGuard<'_, BTreeMap<String, tokio::task::JoinHandle<()>>> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Removes rules, bridges and netd when no container is connected; the next start makes them anew.
    pub(crate) async fn close_networks(self: &Arc<Self>) -> Result<(), EngineError> {
        self.finish_all_closing().await;
        if !self.networks.live().is_empty() {
            return Ok(());
        }
        self.networks.netd.end().await;
        self.networks.driver.apply_networks(&BTreeMap::new()).await?;
        Ok(self.networks.driver.remove_rules()?)
    }

    /// After a start of the engine: bridges, rules and netd as the database says; `bridge` is made if missing.
    pub(crate) async fn restore_networks(self: &Arc<Self>) -> Result<(), EngineError> {
        self.undo_unfinished_networks().await?;
        let networks = &self.networks;
        let turn = Claim::take().await;
        self.avoid_taken_subnets().await?;
        let all = self.read(table::list)?;
        *networks.rows.write().unwrap_or_else(PoisonError::into_inner) =
            all.into_iter().map(|row| (row.id.clone(), Arc::new(row))).collect();
        networks.driver.apply_networks(&networks.configs()).await?;
        drop(turn);
        let running = self.read(containers::list)?;
        let running: Vec<Container> = running.into_iter().filter(|row| self.may_run(row)).collect();
        let mut live = BTreeMap::new();
        for row in running {
            if let Some(found) = self.find_live(row)? {
                live.insert(found.row.id.clone(), found);
            }
        }
        self.remove_leftovers(&live).await?;
        self.restore_ports(&live)?;
        *networks.live() = live;
        self.create_predefined().await?;
        self.watch_rules();
        // What is full or exhausted now keeps nobody from being listed, stopped or removed.
        if let Err(error) = self.refresh_publications().await {
            tracing::warn!(error = error.full(), "names and ports are not up to date");
            self.leaks.collect_soon();
        }
        self.purge_released_soon();
        Ok(())
    }

    /// Tells whether the container's program may be running since before this engine.
    fn may_run(&self, row: &Container) -> bool {
        let phase =
            matches!(row.phase, Phase::Running | Phase::Paused | Phase::Stopping | Phase::Starting);
        phase && !row.is_from_another_boot(&self.machine.boot_id)
    }

    fn find_live(&self, row: Container) -> Result<Option<Live>, EngineError> {
        let path = self.networks.driver.sandbox_path(&row.id);
        let is_pinned = || {
            Ok::<_, EngineError>(self.networks.driver.is_pinned(&row.id) || self.pin_again(&row)?)
        };
        if !live::has_endpoints(&row) || !is_pinned()? {
            return Ok(None);
        }
        let sandbox = Sandbox::at(&path, self.upstreams(&row))
            .map_err(EngineError::io(format!("look at {}", path.display())))?;
        let held = self.read(|connection| addresses::of_container(connection, &row.id))?;
        let addresses = self.networks.with_prefixes(&held);
        let serves = !matches!(row.phase, Phase::Starting);
        Ok(Some(Live { sandbox, addresses, serves, row: Arc::new(row) }))
    }

    /// Removes links and namespaces that nobody has: a crash left them, or their container stopped meanwhile.
    async fn remove_leftovers(&self, live: &BTreeMap<String, Live>) -> Result<(), EngineError> {
        let driver = &self.networks.driver;
        let endpoints: Vec<(String, String)> = live
            .iter()
            .flat_map(|(id, found)| found.addresses.keys().map(|net| (id.clone(), net.clone())))
            .collect();
        driver.remove_leftovers(&endpoints).await?;
        let kept = self.read(containers::list)?;
        let kept: Vec<String> =
            kept.into_iter().filter(|row| self.may_run(row)).map(|row| row.id).collect();
        for container in driver.sandboxes().iter().filter(|id| !kept.contains(id)) {
            driver.remove_sandbox(container)?;
        }
        Ok(())
    }

    async fn undo_unfinished_networks(&self) -> Result<(), EngineError> {
        for row in self.read(table::unfinished)? {
            // Its bridge goes with the links that no network wants.
            self.write(Durability::Process, |tx| table::delete(tx, &row.id))?;
        }
        Ok(())
    }

    async fn create_predefined(self: &Arc<Self>) -> Result<(), EngineError> {
        for name in super::PREDEFINED {
            if live::find(&self.networks.rows(), name).is_none() {
                self.insert_network(rows::predefined(name)).await?;
            }
        }
        Ok(())
    }
}
