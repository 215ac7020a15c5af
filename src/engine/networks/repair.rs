//! Repairs what somebody took away from networks while containers run, as rtnetlink tells it: bridges at once and in
//! place, a container's link under the container's own lock, as its verbs make and remove it.
//!
//! Two things are left alone. Inside the network of a container that has NET_ADMIN its links' addresses and routes are
//! its own business: a VPN's client moves both, and a repair would fight it. And packet rules inside of any container,
//! among them those that lead 127.0.0.11:53 to our resolver, are not watched: only NET_ADMIN, or root outside, can change
//! them, docker's are as frail, and each watch would be a netlink socket more whose end waits for an RCU grace period.
//! The container's next start makes them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::live;
use crate::engine::containers::{Handle, start_time};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::mount_watch::MountWatch;
use crate::engine::state::containers::Container;
use crate::net::driver::DefaultRoute;
use crate::net::watch::{Notice, Watch};

/// Notices that come together are one look.
const TOGETHER: Duration = Duration::from_millis(20);
/// After a repair that failed, so long until the next try, doubled each time up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// What of a container is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// The outer sides of its links, which costs little.
    Links,
    /// Addresses and routes inside of its namespace too.
    All,
}

impl Engine {
    /// Looks once at all, as much may have happened without an engine, and then whenever the kernel tells something.
    pub(crate) fn watch_links(self: &Arc<Self>) {
        match Watch::open() {
            Ok(watch) => drop(tokio::spawn(follow(Arc::downgrade(self), watch))),
            Err(error) => {
                tracing::warn!(%error, "what others do to networks goes unnoticed");
            }
        }
    }

    /// Puts back what is missing; `false` when something could not be.
    async fn repair_networks(
        self: &Arc<Self>,
        notices: &BTreeSet<Notice>,
        watch: &mut Watch,
    ) -> bool {
        let inside = notices.iter().filter_map(|notice| match notice {
            Notice::Inside(number) => Some(*number),
            _ => None,
        });
        let endpoints: Vec<(String, String)> = {
            let live = self.networks.live();
            let pairs = live.iter().flat_map(|(id, found)| {
                found.addresses.keys().map(|network| (id.clone(), network.clone()))
            });
            pairs.collect()
        };
        let repair = self.networks.driver.repair(&endpoints, &inside.collect()).await;
        for (network, bridge) in &repair.bridges {
            watch.renew(bridge);
            self.tell_repair(network, None, "bridge");
        }
        for (container, network) in &repair.ports {
            self.tell_repair(network, Some(container), "port");
        }
        let whole = repair.failed.is_empty();
        for error in repair.failed {
            let error = EngineError::from(error);
            tracing::warn!(error = error.full(), "a network is not repaired");
        }
        let lost = repair.lost.into_iter().map(|(id, _)| (id, Extent::Links));
        let doubtful = repair.doubtful.into_iter().map(|(id, _)| (id, Extent::All));
        let containers: BTreeMap<String, Extent> = lost.chain(doubtful).collect();
        for (id, extent) in containers {
            if let Some(handle) = self.handle(&id) {
                // A verb may hold the lock for long, which is no reason for the others to wait.
                tokio::spawn(repair_later(Arc::downgrade(self), handle, extent));
            }
        }
        whole
    }

    /// Lets a look at the namespaces' pins follow each change of mounts.
    pub(crate) fn watch_pins(self: &Arc<Self>) {
        match MountWatch::open(Path::new("/proc/self/mountinfo")) {
            Ok(watch) => drop(tokio::spawn(follow_mounts(Arc::downgrade(self), watch))),
            Err(error) => tracing::warn!(%error, "what others unmount goes unnoticed"),
        }
    }

    fn repair_pins(self: &Arc<Self>) {
        let connected: Vec<String> = self.networks.live().keys().cloned().collect();
        let lost = connected.iter().filter(|id| !self.networks.driver.is_pinned(id));
        for handle in lost.filter_map(|id| self.handle(id)) {
            tokio::spawn(repair_later(Arc::downgrade(self), handle, Extent::Links));
        }
    }

    /// Pins the namespace again in which a container's program runs; `false` when there is none.
    pub(super) fn pin_again(&self, row: &Container) -> Result<bool, EngineError> {
        let Some(runtime) = &row.runtime else { return Ok(false) };
        let path = format!("/proc/{}/ns/net", runtime.pid);
        let namespace = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(EngineError::io(format!("open {path}")))?,
        };
        // The number may be another process's by now; if it is not, what was opened is the container's.
        if !matches!(start_time(runtime.pid), Ok(started) if started == runtime.start_time) {
            return Ok(false);
        }
        self.networks.driver.pin_sandbox(&row.id, &namespace)?;
        tracing::warn!(
            container = row.id,
            "somebody unpinned its network namespace; it is pinned again"
        );
        Ok(true)
    }

    /// Makes the links of a container again that are gone or don't carry packets. The caller holds both locks.
    async fn repair_links(
        self: &Arc<Self>,
        handle: &Handle,
        extent: Extent,
    ) -> Result<(), EngineError> {
        let driver = &self.networks.driver;
        let row = handle.row();
        let Some(addresses) =
            self.networks.live().get(&row.id).map(|found| found.addresses.clone())
        else {
            return Ok(());
        };
        if !driver.is_pinned(&row.id) && !self.pin_again(&row)? {
            // Its end is about to be told.
            return Ok(());
        }
        let rows = self.networks.rows();
        // What a program that may change its own network (capabilities(7)) did there is its business.
        let is_its_own = row.spec.adds_capability("NET_ADMIN");
        let inside = match extent {
            Extent::All if !is_its_own => Some(driver.inside(&row.id).await?),
            _ => None,
        };
        let mut lost = BTreeMap::new();
        for (name, wish) in live::memberships(&row) {
            let Some(network) = live::find(&rows, name) else { continue };
            let Some(wanted) = addresses.get(&network.id) else { continue };
            let has_all = inside
                .as_ref()
                .is_none_or(|(has, _)| wanted.iter().all(|net| has.contains(&net.addr())));
            let is_there = match is_its_own {
                true => driver.is_connected(&row.id, &network.id).await?,
                false => driver.carries(&row.id, &network.id).await?,
            };
            if !has_all || !is_there {
                lost.insert(network.id.clone(), (wish, Arc::clone(network)));
            }
        }
        for id in lost.keys() {
            driver.disconnect(&row.id, id).await?;
        }
        for (id, (wish, network)) in &lost {
            let endpoint = self.endpoint(&row, id, wish)?;
            let device = driver.free_device(&row.id).await?;
            driver.connect(&endpoint, &device, DefaultRoute::Elsewhere).await?;
            self.tell_repair(&network.id, Some(&row.id), "endpoint");
        }
        let gateways: BTreeSet<IpAddr> = self.gateways(&row).into_iter().collect();
        let misrouted = inside.is_some_and(|(_, has)| !gateways.is_subset(&has));
        if !lost.is_empty() || misrouted {
            self.route(&row).await?;
        }
        if !lost.is_empty() {
            // It closed the resolver of a container without links.
            self.networks.published.lock().await.forget_netd();
            self.refresh_publications().await?;
        }
        Ok(())
    }

    fn tell_repair(&self, network: &str, container: Option<&str>, what: &str) {
        tracing::warn!(network, container, what, "somebody took it away; it is there again");
        if let Ok(row) = self.network(network) {
            self.network_event("repair", &row, container);
        }
    }
}

/// Holds no engine while it waits.
async fn follow(engine: Weak<Engine>, mut watch: Watch) {
    let mut notices = BTreeSet::from([Notice::Anywhere]);
    let mut pause = FIRST_PAUSE;
    loop {
        let whole = {
            let Some(engine) = engine.upgrade() else { return };
            watch.keep(&engine.networks.driver.bridges());
            if notices.iter().any(|notice| engine.networks.driver.is_of_others(notice)) {
                engine.look_after_foreign_rules().await;
            }
            notices.retain(|notice| engine.networks.driver.concerns(notice));
            notices.is_empty() || engine.repair_networks(&notices, &mut watch).await
        };
        let heard = match whole {
            true => {
                pause = FIRST_PAUSE;
                watch.next().await
            }
            false => {
                pause = (pause * 2).min(LAST_PAUSE);
                // Cancel safe: notices stay in the socket.
                let next = tokio::time::timeout(pause, watch.next()).await;
                next.unwrap_or_else(|_| Ok(BTreeSet::from([Notice::Anywhere])))
            }
        };
        match heard {
            Ok(heard) => notices = heard,
            Err(error) => {
                tracing::error!(%error, "what others do to networks goes unnoticed from now on");
                return;
            }
        }
        let end = tokio::time::Instant::now() + TOGETHER;
        while let Ok(Ok(more)) = tokio::time::timeout_at(end, watch.next()).await {
            notices.extend(more);
        }
    }
}

async fn follow_mounts(engine: Weak<Engine>, mut watch: MountWatch) {
    // The error is the runtime's end.
    while watch.next().await.is_ok() {
        let Some(engine) = engine.upgrade() else { return };
        engine.repair_pins();
        drop(engine);
        tokio::time::sleep(TOGETHER).await;
    }
}

async fn repair_later(engine: Weak<Engine>, handle: Arc<Handle>, extent: Extent) {
    let mut pause = FIRST_PAUSE;
    loop {
        {
            let _verb = handle.verb.lock().await;
            // An exit has to wait, as it removes what is made here.
            let _turn = handle.turn.lock().await;
            let Some(engine) = engine.upgrade() else { return };
            match engine.repair_links(&handle, extent).await {
                Ok(()) => return,
                Err(error) => {
                    let error = error.full();
                    tracing::warn!(container = handle.id(), error, "a link is not repaired");
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}
