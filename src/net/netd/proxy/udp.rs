//! Datagrams: each client has a socket of its own towards its backend, until nothing comes back for a while.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType,
    SockaddrIn6, recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// dockerd's proxy waits as long.
const IDLE: Duration = Duration::from_secs(90);
/// Clients at once: a sender of forged addresses must not use up our descriptors.
const MOST_FLOWS: usize = 1024;
/// The largest datagram.
const LARGEST: usize = 65_535;

/// A client, and the address of ours that it knows: the answer has to come from there (ipv6(7), IPV6_PKTINFO).
type Client = (SocketAddrV6, Ipv6Addr, u32);

#[derive(Debug)]
struct Flow {
    backend: SocketAddr,
    upstream: Arc<UdpSocket>,
}

/// Binds for IPv6 alone.
pub(super) fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet6, SockType::Datagram, flags, SockProtocol::Udp)?;
    setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    let SocketAddr::V6(listen) = listen else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrIn6::from(listen))?;
    UdpSocket::from_std(std::net::UdpSocket::from(socket))
}

/// Serves until the task is aborted.
pub(super) async fn serve(socket: UdpSocket, backends: watch::Receiver<Arc<Vec<SocketAddr>>>) {
    let socket = Arc::new(socket);
    let mut flows: HashMap<Client, Flow> = HashMap::new();
    let mut answers: JoinSet<Client> = JoinSet::new();
    let mut datagram = vec![0; LARGEST];
    for turn in 0_usize.. {
        // An error is a client's that went away, as ICMP told.
        let Ok((length, client)) = receive(&socket, &mut datagram).await else { continue };
        while let Some(Ok(ended)) = answers.try_join_next() {
            flows.remove(&ended);
        }
        let backends = Arc::clone(&backends.borrow());
        let known = flows.get(&client).filter(|flow| backends.contains(&flow.backend));
        let upstream = match known {
            Some(flow) => Arc::clone(&flow.upstream),
            None if flows.len() >= MOST_FLOWS || backends.is_empty() => continue,
            None => {
                let backend = backends[turn % backends.len()];
                // Datagrams may be lost; the client sends again.
                let Ok(upstream) = connect(backend).await else { continue };
                let upstream = Arc::new(upstream);
                answers.spawn(answer(Arc::clone(&socket), Arc::clone(&upstream), client));
                flows.insert(client, Flow { backend, upstream: Arc::clone(&upstream) });
                upstream
            }
        };
        drop(upstream.send(&datagram[..length]).await);
    }
}

async fn connect(backend: SocketAddr) -> io::Result<UdpSocket> {
    let any = if backend.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(backend).await?;
    Ok(socket)
}

/// Sends a backend's datagrams to its client; returns it when nothing more comes.
async fn answer(socket: Arc<UdpSocket>, upstream: Arc<UdpSocket>, client: Client) -> Client {
    let mut datagram = vec![0; LARGEST];
    while let Ok(Ok(length)) = tokio::time::timeout(IDLE, upstream.recv(&mut datagram)).await {
        drop(send(&socket, &datagram[..length], client).await);
    }
    client
}

async fn receive(socket: &UdpSocket, datagram: &mut [u8]) -> io::Result<(usize, Client)> {
    let receive = || {
        let mut space = nix::cmsg_space!(libc::in6_pktinfo);
        let mut buffers = [IoSliceMut::new(datagram)];
        let flags = MsgFlags::empty();
        let message =
            recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut buffers, Some(&mut space), flags)?;
        let local = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(info),
            _ => None,
        });
        let (Some(client), Some(local)) = (message.address, local) else {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        };
        let client = SocketAddrV6::new(client.ip(), client.port(), 0, client.scope_id());
        let address = Ipv6Addr::from(local.ipi6_addr.s6_addr);
        Ok((message.bytes, (client, address, local.ipi6_ifindex)))
    };
    socket.async_io(Interest::READABLE, receive).await
}

async fn send(socket: &UdpSocket, datagram: &[u8], client: Client) -> io::Result<usize> {
    let (client, address, link) = client;
    let info = libc::in6_pktinfo {
        ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
        ipi6_ifindex: link,
    };
    let send = || {
        let from = [ControlMessage::Ipv6PacketInfo(&info)];
        let to = SockaddrIn6::from(client);
        let buffers = [IoSlice::new(datagram)];
        Ok(sendmsg(socket.as_raw_fd(), &buffers, &from, MsgFlags::empty(), Some(&to))?)
    };
    socket.async_io(Interest::WRITABLE, send).await
}
