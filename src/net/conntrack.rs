//! Forgets tracked connections, by ctnetlink (linux/netfilter/nfnetlink_conntrack.h).
//!
//! A flow keeps the way that its first packet took. TCP flows end by themselves; a UDP flow with a busy client lives on
//! after its mapping has gone, and an address that changes hands would inherit the last holder's flows.

use std::io;
use std::net::IpAddr;

use rtnetlink::sys::{Socket, SocketAddr};

/// Which connections to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purge {
    /// Those with this address on any side.
    Address(IpAddr),
    /// UDP flows whose first packet went to this port.
    UdpPort(u16),
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the tracked connections")]
pub struct ConntrackError {
    pub action: &'static str,
    pub source: io::Error,
}

/// `NETLINK_NETFILTER`, and the subsystem `NFNL_SUBSYS_CTNETLINK` in a message type's upper byte.
const NETLINK_NETFILTER: isize = 12;
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// Flags and types of linux/netlink.h.
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Attributes of a connection.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// nlmsghdr and nfgenmsg.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;
const UDP: u8 = 17;

/// Forgets the connections that one of `wanted` picks.
pub fn purge(wanted: &[Purge]) -> Result<(), ConntrackError> {
    let fail = |action| move |source| ConntrackError { action, source };
    let socket = Socket::new(NETLINK_NETFILTER).map_err(fail("open a socket for"))?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).unwrap_or_default();
        let deletions = picked(&socket, family, wanted).map_err(fail("list"))?;
        for deletion in deletions {
            send(&socket, &deletion).map_err(fail("forget"))?;
            // One that ended by itself meanwhile is gone as well; nothing else can be done about a refusal.
            drop(receive(&socket, |_, _| ()));
        }
    }
    Ok(())
}

/// Returns a deletion for each connection of a family that is to go.
fn picked(socket: &Socket, family: u8, wanted: &[Purge]) -> io::Result<Vec<Vec<u8>>> {
    send(socket, &message(GET, REQUEST | DUMP, family, &[]))?;
    let mut deletions = Vec::new();
    receive(socket, |kind, body| {
        let Some(attributes) = body.get(FAMILY_HEADER..) else { return };
        if kind == ERROR || !wanted.iter().any(|purge| purge.picks(attributes)) {
            return;
        }
        let kept: Vec<u8> = attributes_of(attributes)
            .filter(|(kind, _, _)| [ORIGINAL, ZONE, ID].contains(kind))
            .flat_map(|(_, _, whole)| padded(whole))
            .collect();
        deletions.push(message(DELETE, REQUEST | ACKNOWLEDGE, family, &kept));
    })?;
    Ok(deletions)
}

impl Purge {
    fn picks(self, attributes: &[u8]) -> bool {
        let tuples =
            || attributes_of(attributes).filter(|(kind, ..)| [ORIGINAL, REPLY].contains(kind));
        match self {
            // CTA_TUPLE_IP holds source and destination.
            Purge::Address(address) => tuples()
                .flat_map(|(_, tuple, _)| attributes_of(tuple).filter(|(kind, ..)| *kind == 1))
                .flat_map(|(_, ip, _)| attributes_of(ip))
                .any(|(_, bytes, _)| match address {
                    IpAddr::V4(address) => bytes == address.octets(),
                    IpAddr::V6(address) => bytes == address.octets(),
                }),
            // CTA_TUPLE_PROTO holds the protocol's number and both ports.
            Purge::UdpPort(port) => {
                tuples().filter(|(kind, ..)| *kind == ORIGINAL).any(|(_, tuple, _)| {
                    let protocol = attributes_of(tuple).find(|(kind, ..)| *kind == 2);
                    let fields: Vec<_> = protocol
                        .into_iter()
                        .flat_map(|(_, fields, _)| attributes_of(fields))
                        .collect();
                    let has = |wanted: u16, value: &[u8]| {
                        fields.iter().any(|(kind, bytes, _)| *kind == wanted && *bytes == value)
                    };
                    has(1, &[UDP]) && has(3, &port.to_be_bytes())
                })
            }
        }
    }
}

fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + FAMILY_HEADER + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence and port: there is one request at a time, and the kernel fills in the port.
    bytes.extend([0; 8]);
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

fn send(socket: &Socket, message: &[u8]) -> io::Result<()> {
    socket.send_to(message, &SocketAddr::new(0, 0), 0).map(drop)
}

/// Hands the type and body of each answer to `take`, until the list's end or an acknowledgement.
fn receive(socket: &Socket, mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while let Some(header) = rest.get(..HEADER) {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let kind = u16::from_ne_bytes([header[4], header[5]]);
            let Some(body) = rest.get(HEADER..length) else { break };
            if kind == DONE {
                return Ok(());
            }
            if kind == ERROR {
                let errno = body.get(..4).and_then(|bytes| bytes.try_into().ok());
                return match errno.map(i32::from_ne_bytes) {
                    None | Some(0) => Ok(()),
                    Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
                };
            }
            take(kind, body);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Splits attributes into type, value, and the attribute as a whole.
fn attributes_of(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    /// Without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
    const TYPE: u16 = 0x3fff;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = rest.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE;
        let whole = rest.get(..length)?;
        let value = whole.get(4..)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value, whole))
    })
}

fn padded(attribute: &[u8]) -> Vec<u8> {
    let mut bytes = attribute.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
