//! What the networks of this root should have in the kernel and in netd, and what they have: for `system check`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::live::service_of;
use super::publish::is_refused;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::net::model::{self, Protocol};
use crate::net::netd::{self, Report, Request};
use crate::net::netlink;

/// What should be there.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) links: BTreeSet<String>,
    /// Links of containers that are being disconnected.
    pub(crate) leaving_links: BTreeSet<String>,
    /// Ids of connected containers.
    pub(crate) connected: BTreeSet<String>,
    /// Ids of containers that are being disconnected.
    pub(crate) leaving: BTreeSet<String>,
    /// Who may have host ports: ids of containers, and `STACK/SERVICE`.
    pub(crate) port_owners: BTreeSet<String>,
    pub(crate) rules: BTreeSet<String>,
    pub(crate) ports: BTreeSet<(SocketAddr, Protocol)>,
}

/// What is there.
#[derive(Debug, Default)]
pub(crate) struct Present {
    /// All links of the machine.
    pub(crate) links: BTreeSet<String>,
    pub(crate) sandboxes: BTreeSet<String>,
    pub(crate) rules: BTreeSet<String>,
    /// `None`: netd is not there, or of a version that doesn't tell.
    pub(crate) netd: Option<Report>,
}

impl Engine {
    /// Returns what the networks should have.
    pub(crate) fn network_account(&self) -> Account {
        let (mut state, live) = self.current_state();
        let refused = self.networks.refused();
        state.publications.retain(|publication| !is_refused(publication, &refused));
        let mut account = Account {
            links: state.networks.values().map(|network| network.bridge.clone()).collect(),
            rules: self.networks.driver.wanted_rules(&state),
            ports: netd::ports(&state),
            leaving: self.networks.leaving(),
            ..Account::default()
        };
        let veth = |network: &str, id: &str| model::veth_name(&self.networks.root_id, network, id);
        for (id, found) in &live {
            account.links.extend(found.addresses.keys().map(|network| veth(network, id)));
            account.port_owners.insert(id.clone());
            let service = service_of(&found.row);
            account.port_owners.extend(service.map(|(stack, name)| format!("{stack}/{name}")));
            account.connected.insert(id.clone());
        }
        for id in &account.leaving {
            account.leaving_links.extend(state.networks.keys().map(|network| veth(network, id)));
        }
        account
    }

    /// Looks at what the networks have.
    ///
    /// # Errors
    /// The kernel doesn't list links or rules.
    pub(crate) async fn networks_present(&self) -> Result<Present, EngineError> {
        let networks = &self.networks;
        let links = netlink::apart(async || netlink::link_names(&netlink::connect()?).await);
        let links = links.await.map_err(crate::net::driver::NetError::from)?;
        let (state, _) = self.current_state();
        Ok(Present {
            links: links.into_iter().collect(),
            sandboxes: networks.driver.sandboxes().into_iter().collect(),
            rules: networks.driver.present_rules(&state)?,
            netd: networks.netd.ask(Request::Tell).await,
        })
    }

    /// Returns the pid of the present netd.
    pub(crate) fn netd_pid(&self) -> Option<u32> {
        self.networks.netd.pid()
    }

    /// Tells whether a link's name is one that this root gives.
    pub(crate) fn owns_link(&self, name: &str) -> bool {
        model::is_ours(&self.networks.root_id, name)
    }

    /// Returns the container whose link to some network has this name.
    pub(crate) fn container_of_link(&self, link: &str) -> Option<String> {
        let networks = self.networks.rows();
        let handles = self.handles();
        let is_its = |id: &str| {
            let name = |network: &String| model::veth_name(&self.networks.root_id, network, id);
            networks.keys().any(|network| name(network) == link)
        };
        handles.iter().find(|handle| is_its(handle.id())).map(|handle| handle.id().to_owned())
    }

    /// Tells whether a container is connected, or being disconnected.
    pub(crate) fn is_on_networks(&self, container: &str) -> bool {
        self.networks.live().contains_key(container) || self.networks.leaving().contains(container)
    }

    /// Deletes a link that belongs to nothing.
    pub(crate) async fn delete_link(&self, name: &str) -> Result<(), EngineError> {
        Ok(crate::net::endpoint::remove(name).await.map_err(crate::net::driver::NetError::from)?)
    }

    /// Has rules and netd follow even if we believe that they do.
    pub(crate) async fn publish_anew(self: &Arc<Self>) -> Result<(), EngineError> {
        self.networks.driver.forget_rules();
        self.networks.published.lock().await.forget_netd();
        self.refresh_publications().await
    }

    /// Removes the pin of a namespace that belongs to no container.
    pub(crate) fn unpin_sandbox(&self, container: &str) -> Result<(), EngineError> {
        Ok(self.networks.driver.remove_sandbox(container)?)
    }
}

impl super::Networks {
    fn leaving(&self) -> BTreeSet<String> {
        let closing = self.closing();
        closing.iter().filter(|(_, task)| !task.is_finished()).map(|(id, _)| id.clone()).collect()
    }
}
