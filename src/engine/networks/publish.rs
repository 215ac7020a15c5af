//! Publishing: rules and netd follow the connected containers.
//!
//! Everybody who changed something asks; who gets the lock first does the work of all who asked before. Sixty
//! starts at once are a few rewrites, and each caller still knows that its own change is done.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Networks;
use super::live::{self, Live};
use super::ports::Held;
use crate::engine::containers::Handle;
use crate::engine::core::{Engine, now};
use crate::engine::error::EngineError;
use crate::net::Driver;
use crate::net::model::{self, Publication, State};
use crate::net::netd::{NetdState, Refused, Sandbox};
use crate::net::nft::watch::{Change, Watch};

/// How long a firewall's changes are waited for that come in one go. It also bounds how often two programs that undo
/// each other's rules do so.
const SETTLING: Duration = Duration::from_millis(100);
/// How often rules are looked at that change without a notice, as those of iptables-legacy and of a table whose owner
/// ends.
const SILENCE: Duration = Duration::from_secs(60);

/// What was published last.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Changes that are done, of those in [`Networks::asked`].
    done: u64,
    netd: Option<NetdState>,
}

impl Published {
    /// Has netd told again what it was told last.
    pub(super) fn forget_netd(&mut self) {
        self.netd = None;
    }
}

impl Engine {
    /// Tells rules and netd that the container serves now: its ports and names work when this returns.
    pub(crate) async fn publish_container(
        self: &Arc<Self>,
        handle: &Handle,
    ) -> Result<(), EngineError> {
        {
            let mut live = self.networks.live();
            let row = handle.row();
            match live.get_mut(handle.id()) {
                // As an engine finds it that was started again.
                Some(found) if found.serves && found.row == row => return Ok(()),
                Some(found) => (found.serves, found.row) = (true, row),
                None => return Ok(()),
            }
        }
        let refused = self.publish().await?;
        let mine = |refused: &&Refused| {
            handle.row().bound_ports.iter().any(|port| port.host.0 == refused.address.port())
        };
        if let Some(refused) = refused.iter().find(mine) {
            let message = format!(
                "failed to set up container networking: driver failed programming external \
                 connectivity on endpoint {}: {}",
                handle.row().name,
                refused.reason
            );
            return Err(EngineError::Start { message, code: 125 });
        }
        Ok(())
    }

    /// Returns whether traffic for a container whose stop has begun goes to others of its service.
    pub(crate) fn is_relieved(&self, id: &str) -> bool {
        let (_, live) = self.current_state();
        live.contains_key(id) && !live::balanced(&live).contains(id)
    }

    /// Publishes again after something that rows tell: health, names, membership.
    pub(crate) async fn refresh_publications(self: &Arc<Self>) -> Result<(), EngineError> {
        self.publish().await.map(drop)
    }

    /// Publishes again behind the caller's back.
    pub(crate) fn refresh_soon(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = engine.refresh_publications().await {
                tracing::warn!(error = error.full(), "names and ports are not up to date");
                engine.leaks.collect_soon();
            }
        });
    }

    /// Makes rules and netd follow, with all who asked until now; returns ports that others hold.
    async fn publish(self: &Arc<Self>) -> Result<Arc<Vec<Refused>>, EngineError> {
        let networks = &self.networks;
        let ticket = networks.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut published = networks.published.lock().await;
        if published.done >= ticket {
            return Ok(Arc::clone(&networks.refused()));
        }
        let covers = networks.asked.load(Ordering::SeqCst);
        let (mut state, live) = self.current_state();
        let refused = self.tell_netd(&mut published, &state, &live).await?;
        self.watch_netd();
        state.publications.retain(|publication| !is_refused(publication, &refused));
        networks.driver.publish(&state)?;
        let opened = networks.driver.open_firewall().await;
        networks.note_firewall(opened.map_err(EngineError::from));
        published.done = covers;
        let refused = Arc::new(refused);
        networks.set_refused(&refused);
        Ok(refused)
    }

    /// Repairs rules that somebody else's changes removed, and opens firewalls that came later, until the engine goes.
    pub(super) fn watch_rules(self: &Arc<Self>) {
        let mut watch = match self.networks.driver.watch_rules() {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!(%error, "changes of packet rules go unnoticed");
                return;
            }
        };
        let engine = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let silence = {
                    let Some(engine) = engine.upgrade() else { return };
                    let is_closed = engine.networks.firewall_warning().is_some();
                    (is_closed || Driver::has_silent_rules()).then_some(SILENCE)
                };
                let Ok(change) = heard(&mut watch, silence).await else { return };
                let Some(engine) = engine.upgrade() else { return };
                engine.look_after_rules(change);
            }
        });
    }

    fn look_after_rules(self: &Arc<Self>, change: Change) {
        let looked = self.networks.driver.look_after_rules(change);
        if looked.is_touched {
            self.refresh_soon();
        }
        self.networks.note_firewall(looked.opened.map_err(EngineError::from));
    }

    /// After devices of others changed.
    pub(super) async fn look_after_foreign_rules(&self) {
        let looked = self.networks.driver.look_after_foreign().await;
        self.networks.note_firewall(looked.map_err(EngineError::from));
    }

    /// Publishes again when the present netd ends, which starts another one.
    fn watch_netd(self: &Arc<Self>) {
        let Some(pidfd) = self.networks.netd.to_watch() else { return };
        let engine = Arc::downgrade(self);
        tokio::spawn(async move {
            // The error is the runtime's end.
            let Ok(_) = pidfd.readable().await else { return };
            let Some(engine) = engine.upgrade() else { return };
            // It was told to end.
            if !engine.stacks.rests() {
                engine.refresh_soon();
            }
        });
    }

    pub(super) fn current_state(&self) -> (State, BTreeMap<String, Live>) {
        let rows = self.networks.rows();
        let mut live = self.networks.live().clone();
        let handles = self.containers.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (id, found) in &mut live {
            if let Some(handle) = handles.get(id) {
                found.row = handle.row();
            }
        }
        let configs = self.networks.configs();
        let state = live::state(&configs, &rows, &live, self.networks.host_has_ipv6);
        (state, live)
    }

    /// Has netd reserve the ports and answer the names before any rule leads there.
    async fn tell_netd(
        &self,
        published: &mut Published,
        state: &State,
        live: &BTreeMap<String, Live>,
    ) -> Result<Vec<Refused>, EngineError> {
        let last = published.netd.as_ref();
        let wanted = NetdState {
            version: 1,
            generation: last.map_or(0, |last| last.generation),
            sandboxes: live
                .iter()
                .map(|(id, container)| (id.clone(), self.networks.sandbox_of(id, container)))
                .collect(),
            state: state.clone(),
            upstreams: self.config.network.dns.iter().map(|ip| SocketAddr::new(*ip, 53)).collect(),
        };
        if last == Some(&wanted) && self.networks.netd.pid().is_some() {
            return Ok(self.networks.refused().to_vec());
        }
        let nobody = wanted.sandboxes.is_empty() && wanted.state.publications.is_empty();
        if nobody && self.networks.netd.pid().is_none() {
            published.netd = Some(wanted);
            self.networks.set_held(BTreeSet::new());
            return Ok(Vec::new());
        }
        // Grows over restarts of the engine too.
        let clock = u64::try_from(now()).unwrap_or_default();
        let wanted = NetdState { generation: clock.max(wanted.generation + 1), ..wanted };
        let cgroup = self.cgroup_of_helpers();
        let netd = &self.networks.netd;
        let report = netd.obey(&self.machine.program, cgroup.as_ref(), &wanted).await?;
        self.networks.set_held(held(&wanted.state, &report.refused));
        published.netd = Some(wanted);
        Ok(report.refused)
    }
}

/// Returns the changes that came in one go, or after so much silence that there may have been some.
async fn heard(watch: &mut Watch, silence: Option<Duration>) -> std::io::Result<Change> {
    let change = match silence {
        None => watch.next().await?,
        // Cancel safe: notices stay in the socket.
        Some(silence) => match tokio::time::timeout(silence, watch.next()).await {
            Ok(change) => change?,
            Err(_) => return Ok(Change::Others),
        },
    };
    // The first change is looked at once the program that makes it has had time for its next ones.
    tokio::time::sleep(SETTLING).await;
    Ok(watch.and_the_rest(change))
}

impl Networks {
    /// Keeps what became of others' firewalls, which `info` tells: without their drops all works, and with them the
    /// user needs to know the reason.
    fn note_firewall(&self, opened: Result<(), EngineError>) {
        let told = opened.err().map(|error| error.full());
        let mut last = self.firewall.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(error) = told.as_ref().filter(|_| *last != told) {
            tracing::warn!(error, "another firewall may stop containers");
        }
        *last = told;
    }

    /// Returns why another firewall may stop containers.
    pub(crate) fn firewall_warning(&self) -> Option<String> {
        self.firewall.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn sandbox_of(&self, id: &str, container: &Live) -> Sandbox {
        let networks = container.addresses.keys();
        let links = networks.map(|network| model::veth_name(&self.root_id, network, id)).collect();
        Sandbox { links, ..container.sandbox.clone() }
    }

    pub(super) fn held(&self) -> Held {
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0.clone()
    }

    fn set_held(&self, held: Held) {
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0 = held;
    }

    pub(super) fn refused(&self) -> Arc<Vec<Refused>> {
        Arc::clone(&self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1)
    }

    fn set_refused(&self, refused: &Arc<Vec<Refused>>) {
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1 = Arc::clone(refused);
    }
}

fn held(state: &State, refused: &[Refused]) -> Held {
    let publications = state.publications.iter().filter(|one| !is_refused(one, refused));
    publications.map(|one| (SocketAddr::new(one.host_ip, one.host_port), one.protocol)).collect()
}

pub(super) fn is_refused(publication: &Publication, refused: &[Refused]) -> bool {
    refused.iter().any(|one| {
        one.protocol == publication.protocol
            && one.address.port() == publication.host_port
            && one.address.is_ipv4() == publication.host_ip.is_ipv4()
            && (one.address.ip() == publication.host_ip || one.address.ip().is_loopback())
    })
}
