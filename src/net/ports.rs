//! Host ports: reserves them by a bound socket that never listens, and tells who holds a taken one.
//!
//! The packet rules would silently take a port over from another program, so we bind first. A bound socket blocks
//! others, also with SO_REUSEADDR, and answers nothing itself: a connection that no rule catches is refused.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, bind, setsockopt,
    socket, sockopt,
};

use super::model::Protocol;

#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    #[error("port {address}/{protocol:?} is held by {}", holder.as_ref().map_or("another program".to_owned(), Holder::to_string))]
    Taken { address: SocketAddr, protocol: Protocol, holder: Option<Holder> },
    #[error("cannot reserve {address}/{protocol:?}")]
    Bind { address: SocketAddr, protocol: Protocol, source: io::Error },
}

/// A reserved port; dropping it gives the port back.
#[derive(Debug)]
#[must_use = "dropping a reservation gives the port back"]
pub struct Reservation {
    _socket: OwnedFd,
}

/// A process with a socket on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub program: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.program, self.pid)
    }
}

/// Reserves a host port.
pub fn reserve(address: SocketAddr, protocol: Protocol) -> Result<Reservation, ReserveError> {
    match bind_only(address, protocol) {
        Ok(socket) => Ok(Reservation { _socket: socket }),
        Err(Errno::EADDRINUSE) => {
            let holder = holder(Path::new("/proc"), address, protocol);
            Err(ReserveError::Taken { address, protocol, holder })
        }
        Err(errno) => Err(ReserveError::Bind { address, protocol, source: errno.into() }),
    }
}

fn bind_only(address: SocketAddr, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SockType::Stream, Some(SockProtocol::Tcp)),
        Protocol::Udp => (SockType::Datagram, Some(SockProtocol::Udp)),
        Protocol::Sctp => (SockType::Stream, Some(SockProtocol::Sctp)),
    };
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, number)?;
    let number = socket.as_raw_fd();
    if address.is_ipv6() {
        // The IPv4 port of the same number has a reservation of its own.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    let bind = || match address {
        SocketAddr::V4(address) => bind(number, &SockaddrIn::from(address)),
        SocketAddr::V6(address) => bind(number, &SockaddrIn6::from(address)),
    };
    match bind() {
        // Connections of a proxy that has ended are remembered for a minute, and only SO_REUSEADDR overlooks them.
        // It is not kept: with it a later socket could join us on the port.
        Err(Errno::EADDRINUSE) if protocol == Protocol::Tcp => {
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
            bind()?;
            setsockopt(&socket, sockopt::ReuseAddr, &false)?;
        }
        bound => bound?,
    }
    Ok(socket)
}

/// Returns who has a socket that keeps `address` from being bound, by /proc/net (proc_net(5)) and the descriptors of
/// all processes. `None` when it can't be seen, for example a kernel socket. `proc` is a parameter for tests.
pub fn holder(proc: &Path, address: SocketAddr, protocol: Protocol) -> Option<Holder> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    // `net` follows the thread group's leader, `thread-self` the namespace that we are in.
    let net = [proc.join("thread-self/net"), proc.join("net")]
        .into_iter()
        .find(|folder| folder.exists())?;
    let inodes: Vec<String> = tables
        .iter()
        .flat_map(|table| inodes_on(&net.join(table), address))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let processes = fs::read_dir(proc).ok()?.flatten();
    processes.into_iter().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let holds = descriptors.into_iter().any(|descriptor| {
            let target: Option<PathBuf> = fs::read_link(descriptor.path()).ok();
            target.is_some_and(|target| {
                inodes.iter().any(|inode| target.as_os_str() == inode.as_str())
            })
        });
        let program = fs::read_to_string(process.path().join("comm")).ok()?.trim_end().to_owned();
        holds.then_some(Holder { pid, program })
    })
}

/// Returns the inodes of a table's sockets on this port whose address overlaps.
fn inodes_on(table: &Path, address: SocketAddr) -> Vec<u64> {
    let text = fs::read_to_string(table).unwrap_or_default();
    let sockets = text.lines().skip(1).filter_map(parse_socket);
    sockets.filter(|(local, _)| overlaps(*local, address)).map(|(_, inode)| inode).collect()
}

/// Reads `sl local_address rem_address st … inode …`; the address is printed as words of host order.
fn parse_socket(line: &str) -> Option<(SocketAddr, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Vec<u8> = (0..address.len() / 8)
        .filter_map(|word| u32::from_str_radix(address.get(word * 8..word * 8 + 8)?, 16).ok())
        .flat_map(u32::to_ne_bytes)
        .collect();
    let inode = fields.get(9)?.parse().ok().filter(|inode| *inode != 0)?;
    let local = match words.len() {
        4 => SocketAddrV4::new(Ipv4Addr::from(<[u8; 4]>::try_from(words).ok()?), port).into(),
        _ => {
            SocketAddrV6::new(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?), port, 0, 0).into()
        }
    };
    Some((local, inode))
}

fn overlaps(held: SocketAddr, wanted: SocketAddr) -> bool {
    // A socket on `::` also holds the IPv4 port, unless it is V6ONLY, which /proc does not tell.
    let dual = held.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let same_family = held.is_ipv4() == wanted.is_ipv4();
    held.port() == wanted.port()
        && (dual
            || same_family
                && (held.ip() == wanted.ip()
                    || held.ip().is_unspecified()
                    || wanted.ip().is_unspecified()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::netlink::throwaway;

    #[test]
    fn a_reserved_port_is_closed_to_others_and_refuses_connections() {
        throwaway::host(async || {
            let address: SocketAddr = "0.0.0.0:8080".parse().unwrap();
            let reservation = reserve(address, Protocol::Tcp).unwrap();
            // The standard library sets SO_REUSEADDR.
            assert_eq!(TcpListener::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            let refused = TcpStream::connect("127.0.0.1:8080").unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            drop(reserve("[::]:8080".parse().unwrap(), Protocol::Tcp).unwrap());
            drop(reservation);
            drop(TcpListener::bind(address).unwrap());
        });
    }

    #[test]
    fn connections_that_ended_a_moment_ago_hold_no_port() {
        throwaway::host(async || {
            let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
            let client = TcpStream::connect("127.0.0.1:8080").unwrap();
            // Who closes first keeps the connection in TIME-WAIT (RFC 9293 section 3.6).
            drop(listener.accept().unwrap());
            drop((client, listener));
            let address: SocketAddr = "0.0.0.0:8080".parse().unwrap();
            let _reservation = reserve(address, Protocol::Tcp).unwrap();
            assert_eq!(TcpListener::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            assert!(reserve(address, Protocol::Tcp).is_err());
        });
    }

    #[test]
    fn a_taken_port_names_its_holder() {
        throwaway::host(async || {
            let _listener = TcpListener::bind("127.0.0.1:8081").unwrap();
            let taken = reserve("0.0.0.0:8081".parse().unwrap(), Protocol::Tcp).unwrap_err();
            let ReserveError::Taken { holder: Some(holder), .. } = taken else { panic!("{taken}") };
            assert_eq!(holder.pid, std::process::id());
        });
    }
}
