//! Forgetting connections: an address or a UDP port that changes hands must not inherit the last holder's flows.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::live;
use crate::engine::background;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::{Durability, StateError, Transaction, addresses};
use crate::net::conntrack::{self, Purge};
use crate::net::model::Protocol;
use crate::spec::container::PortSpec;

/// How long released addresses wait for one purge together: the kernel walks its whole table for each.
const TOGETHER: Duration = Duration::from_secs(1);

impl Engine {
    /// Frees the addresses of containers that are gone and whose links are going.
    pub(crate) async fn free_addresses(self: &Arc<Self>) -> Result<(), EngineError> {
        self.finish_all_closing().await;
        self.purge_released().await
    }

    /// Frees released addresses a moment later, after their connections are forgotten.
    pub(super) fn purge_released_soon(self: &Arc<Self>) {
        if self.networks.purging.swap(true, Ordering::Relaxed) {
            return;
        }
        let engine = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(TOGETHER).await;
            // An engine that ended leaves them to the next one.
            let Some(engine) = engine.upgrade() else { return };
            engine.networks.purging.store(false, Ordering::Relaxed);
            if let Err(error) = engine.purge_released().await {
                tracing::warn!(error = error.full(), "released addresses are not free yet");
            }
        });
    }

    async fn purge_released(self: &Arc<Self>) -> Result<(), EngineError> {
        let released = self.read(addresses::released)?;
        if released.is_empty() {
            return Ok(());
        }
        let wanted = purges(&released);
        background::run(move || forget(&wanted)).await?;
        self.write(Durability::Process, |tx| free(tx, &released)).map_err(EngineError::State)
    }

    /// Forgets the UDP flows of ports that were added or removed: they stay on their old way for ever otherwise.
    pub(super) fn purge_ports(&self, ports: &[PortSpec]) {
        let wanted: Vec<Purge> = ports
            .iter()
            .filter(|port| live::protocol(port.protocol) == Protocol::Udp)
            .map(|port| Purge::UdpPort(port.host.0))
            .collect();
        if !wanted.is_empty() {
            forget(&wanted);
        }
    }
}

/// Frees all released addresses at once, for one that has no other; tells whether there were any.
pub(super) fn released_now(tx: &Transaction<'_>) -> Result<bool, StateError> {
    let released = addresses::released(tx)?;
    if !released.is_empty() {
        forget(&purges(&released));
        free(tx, &released)?;
    }
    Ok(!released.is_empty())
}

fn purges(released: &[(String, IpAddr)]) -> Vec<Purge> {
    released.iter().map(|(_, address)| Purge::Address(*address)).collect()
}

fn free(tx: &Transaction<'_>, released: &[(String, IpAddr)]) -> Result<(), StateError> {
    released.iter().try_for_each(|(network, address)| addresses::purged(tx, network, *address))
}

/// Forgets the connections of an address at once.
pub(super) fn now(address: IpAddr) {
    forget(&[Purge::Address(address)]);
}

fn forget(wanted: &[Purge]) {
    // Without the purge an old flow lives until its timeout; that is no reason to fail.
    if let Err(error) = conntrack::purge(wanted) {
        tracing::warn!(%error, "old connections are not forgotten");
    }
}
