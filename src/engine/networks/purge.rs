//! Forgetting connections: an address or a UDP port that changes hands must not inherit the last holder's flows.

use std::net::IpAddr;
use std::sync::Arc;

use super::live;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::{Durability, addresses};
use crate::net::conntrack::{self, Purge};
use crate::net::model::Protocol;
use crate::spec::container::PortSpec;

impl Engine {
    /// Frees the addresses of containers that are gone and whose links are going.
    pub(crate) async fn free_addresses(self: &Arc<Self>) -> Result<(), EngineError> {
        self.finish_all_closing().await;
        self.purge_released().await
    }

    /// Frees released addresses after their connections are forgotten.
    pub(super) async fn purge_released(self: &Arc<Self>) -> Result<(), EngineError> {
        let released = self.read(addresses::released)?;
        if released.is_empty() {
            return Ok(());
        }
        let wanted: Vec<Purge> =
            released.iter().map(|(_, address)| Purge::Address(*address)).collect();
        forget(&wanted);
        self.write(Durability::Process, |tx| {
            released
                .iter()
                .try_for_each(|(network, address)| addresses::purged(tx, network, *address))
        })
        .map_err(EngineError::State)
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
