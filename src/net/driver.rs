//! The driver: what the engine calls. It remembers the rules that it applied, so a change sends the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use rtnetlink::Handle;

use super::endpoint::Place;
use super::firewall::{self, Bridges, FirewallError, Wish};
use super::forwarding::Forwarding;
use super::model::{self, EndpointConfig, NetworkConfig, State};
use super::netlink::{self, Connection, NetlinkError};
use super::nft::apply::{self, ApplyError};
use super::nft::dump;
use super::nft::ruleset::{self, Ruleset};
use super::nft::watch::{Change, Watch};
use super::sandbox::{self, SandboxError};
use super::{bridge, endpoint, foreign, legacy};

#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Rules(#[from] ApplyError),
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    #[error("cannot read our packet rules")]
    ReadRules { source: std::io::Error },
    #[error("network {network} does not exist")]
    NoNetwork { network: String },
    #[error("cannot keep in mind that forwarding was turned on, in {}", path.display())]
    Record { path: PathBuf, source: std::io::Error },
}

/// Networks of one engine root, in the namespace of the thread that opened it. Endpoints of several containers are
/// made at once; only changes of the rules exclude each other.
#[derive(Debug)]
pub struct Driver {
    pub(super) root_id: String,
    sandboxes: PathBuf,
    connection: Connection,
    pub(super) forwarding: Forwarding,
    /// By id.
    pub(super) networks: Mutex<BTreeMap<String, NetworkConfig>>,
    /// Of the bridges, by the network's id.
    pub(super) indexes: Mutex<BTreeMap<String, u32>>,
    /// Held by whoever makes or removes a bridge, and alone by who repairs them.
    pub(super) changing: tokio::sync::RwLock<()>,
    applied: Mutex<Option<Ruleset>>,
    /// What other firewalls were asked for last.
    settled: Mutex<Option<Wish>>,
    /// Other programs' bridges, as they were found last (see [`foreign`]).
    foreign: Mutex<Option<BTreeSet<String>>>,
}

impl Driver {
    /// Opens the driver; sandboxes are pinned below `run_dir`. Needs a tokio runtime.
    pub fn open(root_id: &str, run_dir: &Path) -> Result<Self, NetError> {
        Ok(Self {
            root_id: root_id.to_owned(),
            sandboxes: run_dir.join("netns"),
            connection: Connection::open()?,
            forwarding: Forwarding::open(run_dir)?,
            networks: Mutex::default(),
            indexes: Mutex::default(),
            changing: tokio::sync::RwLock::default(),
            applied: Mutex::default(),
            settled: Mutex::default(),
            foreign: Mutex::default(),
        })
    }

    pub(super) fn handle(&self) -> Result<Handle, NetlinkError> {
        self.connection.handle()
    }

    /// Returns where a container's namespace is pinned.
    pub fn sandbox_path(&self, container: &str) -> PathBuf {
        self.sandboxes.join(container)
    }

    /// Returns the containers whose namespace is pinned, also by an earlier engine.
    pub fn sandboxes(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.sandboxes).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Creates or completes one network's bridge. Rules follow with the next [`Driver::publish`].
    pub async fn create_network(&self, network: &NetworkConfig) -> Result<(), NetError> {
        let _change = self.changing.read().await;
        // Known before it is whole: a bridge that fails half-way has to be removed.
        lock(&self.networks).insert(network.id.clone(), network.clone());
        let index = bridge::create(&self.handle()?, network).await?;
        self.forwarding.turn_on_for(network)?;
        lock(&self.indexes).insert(network.id.clone(), index);
        Ok(())
    }

    /// Removes one network's bridge; a missing one is fine. After an error it is still known, and removed by the next
    /// call.
    pub async fn remove_network(&self, id: &str) -> Result<(), NetError> {
        let _change = self.changing.read().await;
        let network = lock(&self.networks).get(id).cloned();
        if let Some(network) = network {
            bridge::remove(&self.handle()?, &network.bridge).await?;
            self.forwarding.turn_off_if_unused(&self.handle()?).await?;
        }
        let known = lock(&self.networks).remove(id).is_some();
        lock(&self.indexes).remove(id);
        if known && lock(&self.settled).is_some() {
            self.open_firewall().await?;
        }
        Ok(())
    }

    /// Creates what is missing of the networks and removes bridges of ours that are no longer wanted.
    pub async fn apply_networks(
        &self,
        networks: &BTreeMap<String, NetworkConfig>,
    ) -> Result<(), NetError> {
        for network in networks.values() {
            let known = lock(&self.networks).get(&network.id) == Some(network);
            if !known {
                self.create_network(network).await?;
            }
        }
        let known: Vec<String> = lock(&self.networks).keys().cloned().collect();
        for id in known.iter().filter(|id| !networks.contains_key(*id)) {
            self.remove_network(id).await?;
        }
        Ok(())
    }

    /// Deletes every link that carries a name of this root and is no bridge of a known network and none of
    /// `endpoints` (container and network id): a crash or an earlier engine left it.
    pub async fn remove_leftovers(&self, endpoints: &[(String, String)]) -> Result<(), NetError> {
        let mut wanted: BTreeSet<String> =
            lock(&self.networks).values().map(|network| network.bridge.clone()).collect();
        wanted.extend(
            endpoints
                .iter()
                .map(|(container, network)| model::veth_name(&self.root_id, network, container)),
        );
        let links = netlink::apart(async || netlink::link_names(&netlink::connect()?).await);
        for link in links.await? {
            if model::is_ours(&self.root_id, &link) && !wanted.contains(&link) {
                netlink::delete_link(&self.handle()?, &link).await?;
            }
        }
        Ok(())
    }

    /// Tells whether the host's side of an endpoint is there.
    pub async fn is_connected(&self, container: &str, network: &str) -> Result<bool, NetError> {
        let outer = model::veth_name(&self.root_id, network, container);
        Ok(netlink::find_link(&self.handle()?, &outer).await?.is_some())
    }

    /// Creates a container's namespace and returns its path. One that exists is kept.
    pub async fn create_sandbox(&self, container: &str) -> Result<PathBuf, NetError> {
        let path = self.sandbox_path(container);
        sandbox::create(&path).await?;
        Ok(path)
    }

    /// Tells whether a container's namespace is pinned.
    pub fn is_pinned(&self, container: &str) -> bool {
        sandbox::is_pinned(&self.sandbox_path(container))
    }

    /// Pins a namespace again that somebody unpinned.
    pub fn pin_sandbox(&self, container: &str, namespace: &File) -> Result<(), NetError> {
        Ok(sandbox::pin(&self.sandbox_path(container), namespace)?)
    }

    /// Removes a container's namespace. Its links are disconnected first: a socket may keep a namespace alive.
    pub fn remove_sandbox(&self, container: &str) -> Result<(), NetError> {
        Ok(sandbox::remove(&self.sandbox_path(container))?)
    }

    /// Connects a container's sandbox to a network as device `inner`.
    pub async fn connect(
        &self,
        endpoint: &EndpointConfig,
        inner: &str,
        route: DefaultRoute,
    ) -> Result<(), NetError> {
        let missing = || NetError::NoNetwork { network: endpoint.network.clone() };
        let network = lock(&self.networks).get(&endpoint.network).cloned().ok_or_else(missing)?;
        let sandbox = self.sandbox_path(&endpoint.container);
        let outer = model::veth_name(&self.root_id, &endpoint.network, &endpoint.container);
        let default_route = route == DefaultRoute::Here;
        let place =
            Place { network: &network, sandbox: &sandbox, outer: &outer, inner, default_route };
        match endpoint::create(&self.handle()?, endpoint, &place).await {
            // Somebody removed it, and whoever makes it again may not have come to it yet.
            Err(NetlinkError::NoLink { link }) if link == network.bridge => {
                self.complete_known(&network.id).await?;
                Ok(endpoint::create(&self.handle()?, endpoint, &place).await?)
            }
            created => Ok(created?),
        }
    }

    /// Returns the first of `eth0`, `eth1`, … that a container's sandbox doesn't have.
    pub async fn free_device(&self, container: &str) -> Result<String, NetError> {
        let path = self.sandbox_path(container);
        let taken =
            netlink::inside(&path, async || netlink::link_names(&netlink::connect()?).await);
        let taken: Vec<String> = taken.await?;
        let mut names = (0_u32..).map(|number| format!("eth{number}"));
        Ok(names.find(|name| !taken.contains(name)).unwrap_or_default())
    }

    /// Leads a container's default routes through these gateways, and through none of a family without one.
    pub async fn route(&self, container: &str, gateways: &[IpAddr]) -> Result<(), NetError> {
        Ok(endpoint::route(&self.sandbox_path(container), gateways).await?)
    }

    /// Disconnects a container from a network; twice does no harm.
    pub async fn disconnect(&self, container: &str, network: &str) -> Result<(), NetError> {
        let outer = model::veth_name(&self.root_id, network, container);
        Ok(endpoint::remove(&outer).await?)
    }

    /// Returns the subnets that the host's own routes lead to.
    pub async fn routes(&self) -> Result<Vec<IpNet>, NetError> {
        // A socket has one list under way at a time, or the kernel answers EBUSY: each has its own.
        Ok(netlink::apart(async || netlink::routes(&netlink::connect()?).await).await?)
    }

    /// Returns the names of all links of the host.
    pub async fn links(&self) -> Result<Vec<String>, NetError> {
        Ok(netlink::apart(async || netlink::link_names(&netlink::connect()?).await).await?)
    }

    /// Makes the packet rules those of `state`, in one transaction.
    pub fn publish(&self, state: &State) -> Result<(), NetError> {
        let wanted = ruleset::ruleset(&self.root_id, state);
        let mut applied = lock(&self.applied);
        apply::apply(applied.as_ref(), &wanted)?;
        *applied = Some(wanted);
        Ok(())
    }

    /// Has other firewalls let the known bridges through, see [`firewall`]. Costs next to nothing while the bridges are
    /// those of last time.
    pub async fn open_firewall(&self) -> Result<(), NetError> {
        if lock(&self.foreign).is_none() {
            self.find_foreign().await?;
        }
        let wanted = self.wish()?;
        let mut settled = lock(&self.settled);
        if settled.as_ref() != Some(&wanted) {
            self.settle(&wanted)?;
            *settled = Some(wanted);
        }
        Ok(())
    }

    /// After a device of others came, changed or went: leaves what goes to their bridges to them.
    pub async fn look_after_foreign(&self) -> Result<(), NetError> {
        let is_news = self.find_foreign().await?;
        // Rules of iptables-legacy tell no changes, and who makes devices may make rules.
        match is_news || legacy::is_in_use() {
            true => self.settle_again(),
            false => Ok(()),
        }
    }

    /// Tells whether others' bridges are not those of last time.
    async fn find_foreign(&self) -> Result<bool, NetError> {
        let found = netlink::apart(async || foreign::bridges(&netlink::connect()?).await).await?;
        let found = Some(found);
        let mut known = lock(&self.foreign);
        let is_news = *known != found;
        *known = found;
        Ok(is_news)
    }

    /// Tells whether rules may change without any notice.
    pub fn has_silent_rules() -> bool {
        legacy::is_in_use()
    }

    /// Returns the changes of packet rules by others.
    pub fn watch_rules(&self) -> io::Result<Watch> {
        Watch::open(ruleset::table_name(&self.root_id))
    }

    /// After somebody else changed packet rules: opens what needs it again, and forgets the own rules if they were
    /// touched, so that the next [`Driver::publish`] writes them.
    pub fn look_after_rules(&self, change: Change) -> Looked {
        let mut applied = lock(&self.applied);
        let is_touched = applied.is_some() && change == Change::Ours;
        if is_touched {
            *applied = None;
        }
        drop(applied);
        Looked { is_touched, opened: self.settle_again() }
    }

    fn settle_again(&self) -> Result<(), NetError> {
        let mut settled = lock(&self.settled);
        if settled.is_some() {
            let wanted = self.wish()?;
            self.settle(&wanted)?;
            *settled = Some(wanted);
        }
        Ok(())
    }

    /// Lets the next [`Driver::publish`] replace the whole table.
    pub fn forget_rules(&self) {
        *lock(&self.applied) = None;
    }

    /// Returns the elements that the rules of `state` have, in nft's words.
    pub fn wanted_rules(&self, state: &State) -> BTreeSet<String> {
        dump::elements(&ruleset::ruleset(&self.root_id, state))
    }

    /// Returns the elements that the kernel has in our table.
    pub fn present_rules(&self, state: &State) -> Result<BTreeSet<String>, NetError> {
        dump::present(&ruleset::ruleset(&self.root_id, state))
            .map_err(|source| NetError::ReadRules { source })
    }

    /// Opens others' chains first, so that nothing is closed in between that they let through.
    fn settle(&self, wish: &Wish) -> Result<(), NetError> {
        let settled = firewall::settle(wish)?;
        self.forwarding.close(&settled.closed)?;
        Ok(settled.outcome?)
    }

    fn wish(&self) -> Result<Wish, NetError> {
        let prefix = model::bridge_prefix(&self.root_id);
        let networks = lock(&self.networks);
        let own = networks.values().map(|network| &network.bridge);
        let named = own.filter(|bridge| !bridge.starts_with(&prefix)).cloned().map(Bridges::Named);
        let bridges = named.chain([Bridges::StartingWith(prefix.clone())]).collect();
        let foreign = lock(&self.foreign).clone().unwrap_or_default();
        let closed = self.forwarding.closed()?;
        Ok(Wish { owner: ruleset::table_name(&self.root_id), bridges, foreign, closed })
    }

    /// Removes the root's packet rules.
    pub fn remove_rules(&self) -> Result<(), NetError> {
        *lock(&self.applied) = None;
        *lock(&self.settled) = None;
        let wish = Wish { bridges: BTreeSet::new(), ..self.wish()? };
        apply::remove(&wish.owner)?;
        self.settle(&wish)
    }
}

/// What a look at packet rules found and did.
#[derive(Debug)]
pub struct Looked {
    /// Our own rules have to be published again.
    pub is_touched: bool,
    /// Whether others' firewalls let the bridges through.
    pub opened: Result<(), NetError>,
}

/// Each change under these locks is whole, so a panic elsewhere leaves them usable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an endpoint's network carries the container's default route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultRoute {
    Here,
    Elsewhere,
}
