//! What netd holds: resolvers, proxies and reserved ports, made those of a state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::state::{NetdState, Refused};
use crate::net::hosts::ResolvConf;
use crate::net::model::{Protocol, State};
use crate::net::names::records::Views;
use crate::net::names::server::{self, Knowledge};
use crate::net::ports::{self, Reservation};

#[derive(Debug, Default)]
pub(super) struct Netd {
    /// By container and inode of its namespace.
    resolvers: BTreeMap<(String, u64), Resolver>,
    proxies: BTreeMap<SocketAddr, Proxy>,
    reservations: BTreeMap<(SocketAddr, Protocol), Reservation>,
}

#[derive(Debug)]
struct Resolver {
    knowledge: watch::Sender<Arc<Knowledge>>,
    task: Task,
}

#[derive(Debug)]
struct Proxy {
    backends: watch::Sender<Arc<Vec<SocketAddr>>>,
    task: Task,
}

/// A task that ends with its owner, and its sockets with it.
#[derive(Debug)]
struct Task(JoinHandle<()>);

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

    /// Makes resolvers, proxies and reservations those of `wanted`; returns the ports that others hold.
    pub(super) async fn obey(&mut self, wanted: &NetdState, resolv_conf: &Path) -> Vec<Refused> {
        self.obey_resolvers(wanted, resolv_conf).await;
        let mut refused = self.obey_proxies(&wanted.state).await;
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
            if let Some(resolver) = self.resolvers.get(&key) {
                resolver.knowledge.send_replace(knowledge);
                continue;
            }
            opening.push(async move { (key, start_resolver(&sandbox.path, knowledge).await) });
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

    async fn obey_proxies(&mut self, state: &State) -> Vec<Refused> {
        let mut refused = Vec::new();
        let proxies = wanted_proxies(state);
        // A port that turns from reserved into proxied must be free first.
        self.reservations
            .retain(|(address, protocol), _| !is_proxied(&proxies, *address, *protocol));
        self.proxies
            .retain(|listen, proxy| proxies.contains_key(listen) && !proxy.task.0.is_finished());
        for (listen, backends) in proxies {
            if let Some(proxy) = self.proxies.get(&listen) {
                proxy.backends.send_replace(Arc::new(backends));
                continue;
            }
            match start_proxy(listen, backends).await {
                Ok(proxy) => drop(self.proxies.insert(listen, proxy)),
                Err(error) => refused.push(Refused {
                    address: listen,
                    protocol: Protocol::Tcp,
                    reason: error.to_string(),
                }),
            }
        }
        refused
    }

    /// Holds every published port that no proxy holds.
    fn obey_reservations(&mut self, state: &State) -> Vec<Refused> {
        let mut refused = Vec::new();
        let proxies = wanted_proxies(state);
        let ports = state.publications.iter().map(|publication| {
            (SocketAddr::new(publication.host_ip, publication.host_port), publication.protocol)
        });
        let wanted: BTreeSet<_> = ports
            .filter(|(address, protocol)| !is_proxied(&proxies, *address, *protocol))
            .collect();
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

/// Tells whether a proxy listens on this port, on this address or on one that it covers.
fn is_proxied(
    proxies: &BTreeMap<SocketAddr, Vec<SocketAddr>>,
    address: SocketAddr,
    protocol: Protocol,
) -> bool {
    protocol == Protocol::Tcp
        && address.is_ipv6()
        && proxies.keys().any(|listen| listen.port() == address.port())
}

async fn start_resolver(
    path: &Path,
    knowledge: Arc<Knowledge>,
) -> Result<Resolver, server::ServerError> {
    let sockets = server::open(path).await?;
    let (sender, receiver) = watch::channel(knowledge);
    let task = tokio::spawn(async move {
        if let Err(error) = server::serve(sockets, receiver).await {
            tracing::error!(error = &error as &dyn std::error::Error, "a resolver ended");
        }
    });
    Ok(Resolver { knowledge: sender, task: Task(task) })
}

/// Binds for IPv6 alone: the kernel translates the IPv4 port, which has a reservation of its own.
fn bind_proxy(listen: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let socket = tokio::net::TcpSocket::new_v6()?;
    setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(1024)
}

async fn start_proxy(listen: SocketAddr, backends: Vec<SocketAddr>) -> io::Result<Proxy> {
    let listener = bind_proxy(listen)?;
    let (sender, receiver) = watch::channel(Arc::new(backends));
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        for turn in 0_usize.. {
            while connections.try_join_next().is_some() {}
            let Ok((mut client, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let backends = receiver.borrow().clone();
            connections.spawn(async move {
                let Some(backend) = backends.get(turn % backends.len().max(1)) else {
                    return;
                };
                // An error ends this one connection; its client sees the end.
                if let Ok(mut server) = tokio::net::TcpStream::connect(backend).await {
                    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                }
            });
        }
    });
    Ok(Proxy { backends: sender, task: Task(task) })
}

/// Returns the TCP ports that the kernel can't translate, and their backends. Pure.
pub(super) fn wanted_proxies(state: &State) -> BTreeMap<SocketAddr, Vec<SocketAddr>> {
    let mut proxies = BTreeMap::new();
    for publication in &state.publications {
        let IpAddr::V6(host) = publication.host_ip else {
            continue;
        };
        if publication.protocol != Protocol::Tcp || publication.backends.is_empty() {
            continue;
        }
        let translated = publication.backends.iter().any(SocketAddr::is_ipv6);
        let listen = match (translated, host) {
            (false, host) => host,
            (true, Ipv6Addr::UNSPECIFIED | Ipv6Addr::LOCALHOST) => Ipv6Addr::LOCALHOST,
            (true, _) => continue,
        };
        proxies.insert(
            SocketAddr::new(listen.into(), publication.host_port),
            publication.backends.clone(),
        );
    }
    proxies
}

/// Returns the host's resolvers.
fn host_upstreams(resolv_conf: &str) -> Vec<SocketAddr> {
    let servers = ResolvConf::parse(resolv_conf).nameservers;
    servers.into_iter().map(|server| SocketAddr::new(server, 53)).collect()
}
