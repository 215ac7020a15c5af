//! Answers a sandbox's queries and forwards what is not ours to the host's resolvers.
//!
//! The sockets live inside the sandbox on ports that the kernel chose; a rule there leads 127.0.0.11:53 to them, so
//! the container may bind 0.0.0.0:53 itself. Upstream sockets live on the host.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};

use super::super::hosts::RESOLVER;
use super::super::netlink::{self, NetlinkError};
use super::super::nft::apply::{self, ApplyError};
use super::super::nft::ruleset;
use super::message::{self, Code, Query, Reply};
use super::records::Records;

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Rules(#[from] ApplyError),
    #[error("cannot bind the resolver's sockets")]
    Bind { source: io::Error },
}

/// The sockets of one sandbox's resolver.
#[derive(Debug)]
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

/// What the server knows; replaced as a whole when it changes.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    pub records: Arc<Records>,
    pub upstreams: Vec<SocketAddr>,
}

/// How long one upstream may take: the C library gives the whole lookup 5 s.
const UPSTREAM_PATIENCE: Duration = Duration::from_secs(2);
/// An idle TCP client is dropped.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
/// Queries of one sandbox that wait at once; a container can't make us hold more sockets.
const IN_FLIGHT: usize = 128;

/// Opens the sockets inside the sandbox pinned at `path`, and the rule that leads to them.
pub async fn open(path: &Path) -> Result<Sockets, ServerError> {
    netlink::inside(path, async || {
        let bind = |source| ServerError::Bind { source };
        let udp = UdpSocket::bind((RESOLVER, 0)).map_err(bind)?;
        let tcp = TcpListener::bind((RESOLVER, 0)).map_err(bind)?;
        udp.set_nonblocking(true).map_err(bind)?;
        tcp.set_nonblocking(true).map_err(bind)?;
        let udp_port = udp.local_addr().map_err(bind)?.port();
        let tcp_port = tcp.local_addr().map_err(bind)?.port();
        apply::apply(None, &ruleset::resolver_ruleset(udp_port, tcp_port))?;
        Ok(Sockets { udp, tcp })
    })
    .await
}

/// Serves until the sockets fail. Dropping the future closes them, which lets the namespace go.
pub async fn serve(
    sockets: Sockets,
    knowledge: watch::Receiver<Arc<Knowledge>>,
) -> Result<(), ServerError> {
    let bind = |source| ServerError::Bind { source };
    let udp = tokio::net::UdpSocket::from_std(sockets.udp).map_err(bind)?;
    let tcp = tokio::net::TcpListener::from_std(sockets.tcp).map_err(bind)?;
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    // Tasks of this set end with the future.
    tokio::join!(
        serve_udp(Arc::new(udp), knowledge.clone(), permits.clone()),
        serve_tcp(tcp, knowledge, permits)
    );
    Ok(())
}

async fn serve_udp(
    socket: Arc<tokio::net::UdpSocket>,
    knowledge: watch::Receiver<Arc<Knowledge>>,
    permits: Arc<Semaphore>,
) {
    let mut tasks = tokio::task::JoinSet::new();
    let mut buffer = vec![0; 4096];
    loop {
        while tasks.try_join_next().is_some() {}
        // An error here belongs to an earlier answer (ECONNREFUSED): the socket itself is fine.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let Some(query) = Query::parse(&buffer[..length]) else {
            continue;
        };
        let known = knowledge.borrow().clone();
        match query.answer(&known.records) {
            Reply::Answer(answer) => {
                drop(socket.send_to(&message::fit_datagram(&query, answer), client).await);
            }
            Reply::Forward => {
                let Ok(permit) = permits.clone().try_acquire_owned() else {
                    drop(socket.send_to(&query.failure(Code::ServerFailure), client).await);
                    continue;
                };
                let (socket, asked) = (socket.clone(), buffer[..length].to_vec());
                tasks.spawn(async move {
                    let answer = forward(&asked, &known.upstreams, Transport::Udp).await;
                    let answer = answer.unwrap_or_else(|| query.failure(Code::ServerFailure));
                    drop(socket.send_to(&answer, client).await);
                    drop(permit);
                });
            }
        }
    }
}

async fn serve_tcp(
    listener: tokio::net::TcpListener,
    knowledge: watch::Receiver<Arc<Knowledge>>,
    permits: Arc<Semaphore>,
) {
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        let Ok((mut client, _)) = listener.accept().await else {
            // Out of descriptors, most likely: give the running tasks a moment to end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let knowledge = knowledge.clone();
        tasks.spawn(async move {
            while let Ok(Ok(asked)) =
                tokio::time::timeout(CLIENT_PATIENCE, read_framed(&mut client)).await
            {
                let Some(query) = Query::parse(&asked) else {
                    break;
                };
                let known = knowledge.borrow().clone();
                let answer = match query.answer(&known.records) {
                    Reply::Answer(answer) => answer,
                    Reply::Forward => forward(&asked, &known.upstreams, Transport::Tcp)
                        .await
                        .unwrap_or_else(|| query.failure(Code::ServerFailure)),
                };
                if write_framed(&mut client, &answer).await.is_err() {
                    break;
                }
            }
            drop(permit);
        });
    }
}

#[derive(Debug, Clone, Copy)]
enum Transport {
    Udp,
    Tcp,
}

/// Asks the upstreams in turn; `None` when none answers.
async fn forward(asked: &[u8], upstreams: &[SocketAddr], transport: Transport) -> Option<Vec<u8>> {
    for upstream in upstreams {
        // A number of our own: the client's is known to whoever sees its network.
        let mut id = [0; 2];
        getrandom::fill(&mut id).ok()?;
        let mut query = asked.to_vec();
        query[..2].copy_from_slice(&id);
        let exchange = async {
            match transport {
                Transport::Udp => exchange_udp(&query, *upstream).await,
                Transport::Tcp => exchange_tcp(&query, *upstream).await,
            }
        };
        if let Ok(Ok(mut answer)) = tokio::time::timeout(UPSTREAM_PATIENCE, exchange).await {
            answer[..2].copy_from_slice(&asked[..2]);
            return Some(answer);
        }
    }
    None
}

async fn exchange_udp(query: &[u8], upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let local: SocketAddr = match upstream {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = tokio::net::UdpSocket::bind(local).await?;
    socket.connect(upstream).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if length >= 12 && buffer[..2] == query[..2] && buffer[2] & 0x80 != 0 {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn exchange_tcp(query: &[u8], upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = tokio::net::TcpStream::connect(upstream).await?;
    write_framed(&mut stream, query).await?;
    let answer = read_framed(&mut stream).await?;
    if answer.len() < 12 || answer[..2] != query[..2] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(answer)
}

/// Reads a message with its length before it (RFC 1035, 4.2.2).
async fn read_framed(stream: &mut tokio::net::TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write_framed(stream: &mut tokio::net::TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await
}
