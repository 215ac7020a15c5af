//! `__netd`: one process per engine root that outlives the engine. It answers names inside every sandbox and carries
//! published ports that the kernel can't translate: `[::1]`, and IPv6 addresses before IPv4 containers.
//!
//! Its input is a JSON file, replaced atomically by the engine; inotify tells of a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::hosts::ResolvConf;
use super::model::{Protocol, State};
use super::names::records::Records;
use super::names::server::{self, Knowledge};
use super::ports::{self, Reservation};
use super::sys;

/// The state file. Version 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetdState {
    pub version: u32,
    /// Where each container's namespace is pinned.
    pub sandboxes: BTreeMap<String, PathBuf>,
    pub state: State,
    /// Resolvers for other names; empty means those of the host's resolv.conf.
    pub upstreams: Vec<SocketAddr>,
}

#[derive(Debug, thiserror::Error)]
pub enum NetdError {
    #[error("cannot start the runtime")]
    Runtime { source: io::Error },
    #[error("cannot watch {}", path.display())]
    Watch { path: PathBuf, source: io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is no state of netd", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
}

/// Replaces the state file in one rename.
pub fn write_state(path: &Path, state: &NetdState) -> Result<(), NetdError> {
    let fail = |source| NetdError::Write { path: path.to_owned(), source };
    let text = serde_json::to_vec(state)
        .map_err(|source| NetdError::Parse { path: path.to_owned(), source })?;
    let new = path.with_extension("new");
    fs::write(&new, text).map_err(fail)?;
    fs::rename(&new, path).map_err(fail)
}

/// Runs netd until it fails. Must be called before any thread exists, in the host's network namespace.
pub fn run(state_file: &Path) -> Result<(), NetdError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| NetdError::Runtime { source })?;
    runtime.block_on(follow(state_file, Path::new("/etc/resolv.conf")))
}

/// Obeys the state file, now and after each change.
pub async fn follow(state_file: &Path, resolv_conf: &Path) -> Result<(), NetdError> {
    let fail = |source| NetdError::Watch { path: state_file.to_owned(), source };
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .map_err(|errno| fail(errno.into()))?;
    let folder = state_file.parent().unwrap_or(Path::new("/"));
    // The file is replaced, so the folder is what keeps its inode.
    inotify.add_watch(folder, AddWatchFlags::IN_MOVED_TO).map_err(|errno| fail(errno.into()))?;
    let events = sys::watch_descriptor(OwnedFd::from(inotify)).map_err(fail)?;
    let mut netd = Netd::default();
    loop {
        match read_state(state_file) {
            Ok(state) => netd.obey(&state, resolv_conf).await,
            // The old answers are better than none.
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "keeping the last state")
            }
        }
        let mut ready = events.readable().await.map_err(fail)?;
        let mut buffer = [0; 4096];
        while nix::unistd::read(&events, &mut buffer).is_ok_and(|length| length > 0) {}
        ready.clear_ready();
    }
}

fn read_state(path: &Path) -> Result<NetdState, NetdError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(NetdState::default()),
        Err(source) => return Err(NetdError::Read { path: path.to_owned(), source }),
    };
    serde_json::from_slice(&text)
        .map_err(|source| NetdError::Parse { path: path.to_owned(), source })
}

#[derive(Debug, Default)]
struct Netd {
    resolvers: BTreeMap<(String, PathBuf), Resolver>,
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
    async fn obey(&mut self, wanted: &NetdState, resolv_conf: &Path) {
        let upstreams = match wanted.upstreams.is_empty() {
            true => host_upstreams(&fs::read_to_string(resolv_conf).unwrap_or_default()),
            false => wanted.upstreams.clone(),
        };
        self.resolvers.retain(|(container, path), resolver| {
            wanted.sandboxes.get(container) == Some(path) && !resolver.task.0.is_finished()
        });
        for (container, path) in &wanted.sandboxes {
            let records = Records::of(&wanted.state, container);
            let knowledge = Arc::new(Knowledge { records, upstreams: upstreams.clone() });
            let key = (container.clone(), path.clone());
            if let Some(resolver) = self.resolvers.get(&key) {
                resolver.knowledge.send_replace(knowledge);
                continue;
            }
            match start_resolver(path, knowledge).await {
                Ok(resolver) => drop(self.resolvers.insert(key, resolver)),
                Err(error) => {
                    tracing::error!(
                        container,
                        error = &error as &dyn std::error::Error,
                        "no resolver"
                    );
                }
            }
        }
        self.obey_proxies(&wanted.state).await;
        self.obey_reservations(&wanted.state);
    }

    async fn obey_proxies(&mut self, state: &State) {
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
                Err(error) => {
                    tracing::error!(%listen, error = &error as &dyn std::error::Error, "no proxy")
                }
            }
        }
    }
}

impl Netd {
    /// Holds every published port that no proxy holds.
    fn obey_reservations(&mut self, state: &State) {
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
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a port is not reserved"
                ),
            }
        }
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
fn wanted_proxies(state: &State) -> BTreeMap<SocketAddr, Vec<SocketAddr>> {
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::time::Duration;

    use super::*;
    use crate::net::model::{EndpointConfig, NetworkConfig, Publication};
    use crate::net::names::message::tests::query;
    use crate::net::netlink::{self, NetlinkError, throwaway};
    use crate::net::sandbox;

    fn state(sandbox: &Path, upstream: SocketAddr, proxied: SocketAddr) -> NetdState {
        let network = NetworkConfig {
            id: "front".to_owned(),
            name: "front".to_owned(),
            bridge: "front".to_owned(),
            subnets: Vec::new(),
            internal: false,
            ipv6: false,
        };
        let endpoint = EndpointConfig {
            container: "a".to_owned(),
            network: "front".to_owned(),
            addresses: vec!["10.0.0.2/24".parse().unwrap()],
            mac: None,
            aliases: Vec::new(),
            names: vec!["web".to_owned()],
        };
        let publication = Publication {
            host_ip: Ipv6Addr::LOCALHOST.into(),
            host_port: 8080,
            protocol: Protocol::Tcp,
            backends: vec![proxied],
        };
        NetdState {
            version: 1,
            sandboxes: BTreeMap::from([("a".to_owned(), sandbox.to_owned())]),
            state: State {
                networks: BTreeMap::from([("front".to_owned(), network)]),
                endpoints: vec![endpoint],
                publications: vec![publication],
            },
            upstreams: vec![upstream],
        }
    }

    fn ask_udp(name: &str) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.connect("127.0.0.11:53").unwrap();
        let mut answer = vec![0; 512];
        socket.send(&query(name, 1)).ok()?;
        let length = socket.recv(&mut answer).ok()?;
        answer.truncate(length);
        Some(answer)
    }

    fn ask_tcp(name: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect("127.0.0.11:53").unwrap();
        let query = query(name, 1);
        let length = u16::try_from(query.len()).unwrap();
        stream.write_all(&[&length.to_be_bytes()[..], &query].concat()).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        answer
    }

    #[test]
    fn names_are_answered_in_the_sandbox_others_go_upstream_and_loopback_is_proxied() {
        throwaway::host(async || {
            let folder = tempfile::tempdir().unwrap();
            let pin = folder.path().join("pin");
            sandbox::create(&pin).await.unwrap();
            let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
            let upstream_address = upstream.local_addr().unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 512];
                while let Ok((length, client)) = upstream.recv_from(&mut buffer) {
                    buffer[2] |= 0x80;
                    buffer[3] = 5;
                    drop(upstream.send_to(&buffer[..length], client));
                }
            });
            let backend = TcpListener::bind("127.0.0.1:0").unwrap();
            let backend_address = backend.local_addr().unwrap();
            std::thread::spawn(move || {
                while let Ok((mut client, _)) = backend.accept() {
                    drop(client.write_all(b"proxied"));
                }
            });
            let file = folder.path().join("netd.json");
            let followed = file.clone();
            let netd =
                tokio::spawn(async move { follow(&followed, Path::new("/nonexistent")).await });
            write_state(&file, &state(&pin, upstream_address, backend_address)).unwrap();
            let answers = netlink::inside(&pin, async || {
                // netd may still be opening its sockets; until then the kernel refuses at once.
                let deadline = std::time::Instant::now() + Duration::from_secs(10);
                let local = std::iter::repeat_with(|| ask_udp("web"))
                    .take_while(|_| std::time::Instant::now() < deadline)
                    .flatten()
                    .next()
                    .unwrap();
                Ok::<_, NetlinkError>((local, ask_tcp("WEB"), ask_udp("example.org").unwrap()))
            });
            let (local, framed, foreign) = answers.await.unwrap();
            assert_eq!(local[local.len() - 4..], [10, 0, 0, 2]);
            assert_eq!(framed[framed.len() - 4..], [10, 0, 0, 2]);
            assert_eq!((foreign[0], foreign[1], foreign[3] & 15), (0, 0, 5));
            let mut word = [0; 7];
            let mut stream = tokio::net::TcpStream::connect("[::1]:8080").await.unwrap();
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut word).await.unwrap();
            assert_eq!(&word, b"proxied");
            netd.abort();
            sandbox::remove(&pin).unwrap();
        });
    }

    #[test]
    fn only_what_the_kernel_cannot_translate_is_proxied() {
        let publish = |host: &str, backend: &str| Publication {
            host_ip: host.parse().unwrap(),
            host_port: 80,
            protocol: Protocol::Tcp,
            backends: vec![backend.parse().unwrap()],
        };
        let listens = |publication| {
            let state = State { publications: vec![publication], ..State::default() };
            wanted_proxies(&state).into_keys().map(|listen| listen.to_string()).collect::<Vec<_>>()
        };
        assert!(listens(publish("0.0.0.0", "10.0.0.2:80")).is_empty());
        assert_eq!(listens(publish("::", "10.0.0.2:80")), ["[::]:80"]);
        assert_eq!(listens(publish("::", "[fd00::2]:80")), ["[::1]:80"]);
        assert!(listens(publish("fd00::1", "[fd00::2]:80")).is_empty());
    }
}
