//! Proxies for the IPv6 ports that the kernel can't translate: those of `::1`, and those whose backends have IPv4 alone.

mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::sync::watch;

use super::obey::Task;
use crate::net::model::{Protocol, State};

/// Backends by port.
pub(super) type Wanted = BTreeMap<(SocketAddr, Protocol), Vec<SocketAddr>>;

/// A port that is listened on as long as this lives.
#[derive(Debug)]
pub(super) struct Proxy {
    backends: watch::Sender<Arc<Vec<SocketAddr>>>,
    task: Task,
}

impl Proxy {
    /// Binds for IPv6 alone: the kernel translates the IPv4 port, which has a reservation of its own.
    pub(super) fn start(
        listen: SocketAddr,
        protocol: Protocol,
        backends: Vec<SocketAddr>,
    ) -> io::Result<Self> {
        let (sender, receiver) = watch::channel(Arc::new(backends));
        let task = match protocol {
            Protocol::Udp => tokio::spawn(udp::serve(udp::bind(listen)?, receiver)),
            _ => tokio::spawn(serve_tcp(bind_tcp(listen)?, receiver)),
        };
        Ok(Self { backends: sender, task: Task(task) })
    }

    pub(super) fn lead_to(&self, backends: Vec<SocketAddr>) {
        self.backends.send_replace(Arc::new(backends));
    }

    pub(super) fn has_ended(&self) -> bool {
        self.task.0.is_finished()
    }
}

fn bind_tcp(listen: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let socket = tokio::net::TcpSocket::new_v6()?;
    setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(1024)
}

async fn serve_tcp(
    listener: tokio::net::TcpListener,
    receiver: watch::Receiver<Arc<Vec<SocketAddr>>>,
) {
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
}

/// Returns the ports that the kernel can't translate, and their backends. Pure.
pub(super) fn wanted(state: &State) -> Wanted {
    let mut proxies = BTreeMap::new();
    for publication in &state.publications {
        let IpAddr::V6(host) = publication.host_ip else {
            continue;
        };
        if publication.protocol == Protocol::Sctp || publication.backends.is_empty() {
            continue;
        }
        let translated = publication.backends.iter().any(SocketAddr::is_ipv6);
        let listen = match (translated, host) {
            (false, host) => host,
            (true, Ipv6Addr::UNSPECIFIED | Ipv6Addr::LOCALHOST) => Ipv6Addr::LOCALHOST,
            (true, _) => continue,
        };
        proxies.insert(
            (SocketAddr::new(listen.into(), publication.host_port), publication.protocol),
            publication.backends.clone(),
        );
    }
    proxies
}
