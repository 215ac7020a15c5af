//! What netd holds: resolvers, proxies and reserved ports, made those of a state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::proxy::{self, Proxy};
use super::state::{NetdState, Refused, Report, Sandbox};
use crate::net::hosts::ResolvConf;
use crate::net::model::{Protocol, State};
use crate::net::names::records::Views;
use crate::net::names::server::{self, Knowledge};
use crate::net::ports::{self, Reservation};
use crate::net::watch::Notice;

#[derive(Debug, Default)]
pub(super) struct Netd {
    /// By container and inode of its namespace.
    resolvers: BTreeMap<(String, u64), Resolver>,
    proxies: BTreeMap<(SocketAddr, Protocol), Proxy>,
    reservations: BTreeMap<(SocketAddr, Protocol), Reservation>,
}

#[derive(Debug)]
struct Resolver {
    knowledge: watch::Sender<Arc<Knowledge>>,
    /// The outer devices of its container's links.
    links: Vec<String>,
    task: Task,
}

/// A task that ends with its owner, and its sockets with it.
#[derive(Debug)]
pub(super) struct Task(pub(super) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Netd {
    /// Tells whether nothing is left to do.
    pub(super) fn is_idle(&self) -> bool {
        self.resolvers.is_empty() && self.proxies.is_empty() && self.reservations.is_empty()
    }

    /// Adds to a report what is held.
    pub(super) fn tell(&self, report: Report) -> Report {
        let held = self.proxies.keys().chain(self.reservations.keys()).copied().collect();
        let resolvers = self.resolvers.keys().map(|(container, _)| container.clone()).collect();
        Report { held, resolvers, ..report }
    }

    /// Closes the resolvers of containers whose last link went, after notices of devices: their sockets would keep the
    /// namespace. The next [`Netd::obey`] opens those that are wanted all the same.
    pub(super) fn close_left(&mut self, notices: &BTreeSet<Notice>) {
        let is_told = |link: &String| {
            notices.contains(&Notice::Anywhere) || notices.contains(&Notice::Device(link.clone()))
        };
        let is_there = |link: &String| nix::net::if_::if_nametoindex(link.as_str()).is_ok();
        self.resolvers.retain(|_, resolver| {
            !resolver.links.iter().any(is_told) || resolver.links.iter().any(is_there)
        });
    }

    /// Makes resolvers, proxies and reservations those of `wanted`; returns the ports that others hold.
    pub(super) async fn obey(&mut self, wanted: &NetdState, resolv_conf: &Path) -> Vec<Refused> {
        self.obey_resolvers(wanted, resolv_conf).await;
        let mut refused = self.obey_proxies(&wanted.state);
        refused.extend(self.obey_reservations(&wanted.state));
        refused
    }

    async fn obey_resolvers(&mut self, wanted: &NetdState, resolv_conf: &Path) {
        let host = match wanted.upstreams.is_empty() {
            true => host_upstreams(&fs::read_to_string(resolv_conf).unwrap_or_default()),
            false => wanted.upstreams.clone(),
        };
        self.resolvers.retain(|(container, inode), resolver| {
            wanted.sandboxes.get(container).is_some_and(|sandbox| sandbox.inode == *inode)
                && !resolver.task.0.is_finished()
        });
        let mut views = Views::new(&wanted.state);
        let mut opening = Vec::new();
        for (container, sandbox) in &wanted.sandboxes {
            let upstreams = match sandbox.upstreams.is_empty() {
                true => host.clone(),
                false => sandbox.upstreams.clone(),
            };
            let knowledge = Arc::new(Knowledge { records: views.of(container), upstreams });
            let key = (container.clone(), sandbox.inode);
            if let Some(resolver) = self.resolvers.get_mut(&key) {
                resolver.knowledge.send_replace(knowledge);
                resolver.links.clone_from(&sandbox.links);
                continue;
            }
            opening.push(async move { (key, start_resolver(sandbox, knowledge).await) });
        }
        // Each waits for a thread of its own, so they go side by side.
        for (key, started) in futures_util::future::join_all(opening).await {
            match started {
                Ok(resolver) => drop(self.resolvers.insert(key, resolver)),
                Err(error) => {
                    let (container, error) = (key.0, &error as &dyn std::error::Error);
                    tracing::error!(container, error, "no resolver");
                }
            }
        }
    }

    fn obey_proxies(&mut self, state: &State) -> Vec<Refused> {
        let mut refused = Vec::new();
        let wanted = proxy::wanted(state);
        // A port that turns from reserved into proxied must be free first.
        self.reservations
            .retain(|(address, protocol), _| !is_proxied(&wanted, *address, *protocol));
        self.proxies.retain(|port, proxy| wanted.contains_key(port) && !proxy.has_ended());
        for ((address, protocol), backends) in wanted {
            if let Some(proxy) = self.proxies.get(&(address, protocol)) {
                proxy.lead_to(backends);
                continue;
            }
            match Proxy::start(address, protocol, backends) {
                Ok(proxy) => drop(self.proxies.insert((address, protocol), proxy)),
                Err(error) => {
                    refused.push(Refused { address, protocol, reason: error.to_string() });
                }
            }
        }
        refused
    }

    /// Holds every published port that no proxy holds.
    fn obey_reservations(&mut self, state: &State) -> Vec<Refused> {
        let mut refused = Vec::new();
        let wanted = reserved(state, &proxy::wanted(state));
        self.reservations.retain(|port, _| wanted.contains(port));
        for (address, protocol) in wanted {
            if self.reservations.contains_key(&(address, protocol)) {
                continue;
            }
            match ports::reserve(address, protocol) {
                Ok(reservation) => drop(self.reservations.insert((address, protocol), reservation)),
                Err(error) => {
                    refused.push(Refused { address, protocol, reason: error.to_string() });
                }
            }
        }
        refused
    }
}

/// Returns the ports that a netd which obeys `state` holds, unless others have them. Pure.
pub fn ports(state: &State) -> BTreeSet<(SocketAddr, Protocol)> {
    let proxies = proxy::wanted(state);
    let mut all = reserved(state, &proxies);
    all.extend(proxies.into_keys());
    all
}

/// Returns the published ports that no proxy holds.
fn reserved(state: &State, proxies: &proxy::Wanted) -> BTreeSet<(SocketAddr, Protocol)> {
    let ports = state.publications.iter().map(|publication| {
        (SocketAddr::new(publication.host_ip, publication.host_port), publication.protocol)
    });
    ports.filter(|(address, protocol)| !is_proxied(proxies, *address, *protocol)).collect()
}

/// Tells whether a proxy listens on this port, on this address or on one that it covers.
fn is_proxied(proxies: &proxy::Wanted, address: SocketAddr, protocol: Protocol) -> bool {
    address.is_ipv6()
        && proxies
            .keys()
            .any(|(listen, proxied)| listen.port() == address.port() && *proxied == protocol)
}

async fn start_resolver(
    sandbox: &Sandbox,
    knowledge: Arc<Knowledge>,
) -> Result<Resolver, server::ServerError> {
    let sockets = server::open(&sandbox.path).await?;
    let (sender, receiver) = watch::channel(knowledge);
    let task = tokio::spawn(async move {
        if let Err(error) = server::serve(sockets, receiver).await {
            tracing::error!(error = &error as &dyn std::error::Error, "a resolver ended");
        }
    });
    Ok(Resolver { knowledge: sender, links: sandbox.links.clone(), task: Task(task) })
}

/// Returns the host's resolvers.
fn host_upstreams(resolv_conf: &str) -> Vec<SocketAddr> {
    let servers = ResolvConf::parse(resolv_conf).nameservers;
    servers.into_iter().map(|server| SocketAddr::new(server, 53)).collect()
}
