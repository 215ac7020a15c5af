//! Forgets tracked connections, by ctnetlink (linux/netfilter/nfnetlink_conntrack.h).
//!
//! A flow keeps the way that its first packet took. TCP flows end by themselves; a UDP flow with a busy client lives on
//! after its mapping has gone, and an address that changes hands would inherit the last holder's flows.

use std::io;
use std::net::IpAddr;

use rtnetlink::sys::Socket;

use super::netfilter::{
    ACKNOWLEDGE, DUMP, ERROR, REQUEST, attributes_of, message, open, padded, receive, send,
};

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

/// The subsystem `NFNL_SUBSYS_CTNETLINK` in a message type's upper byte.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// Attributes of a connection.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const UDP: u8 = 17;

/// Forgets the connections that one of `wanted` picks.
pub fn purge(wanted: &[Purge]) -> Result<(), ConntrackError> {
    let fail = |action| move |source| ConntrackError { action, source };
    let socket = open().map_err(fail("open a socket for"))?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        // A list is a walk through the kernel's whole table.
        if !wanted.iter().any(|purge| purge.may_pick(family)) {
            continue;
        }
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
    receive(socket, |kind, attributes| {
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
    fn may_pick(self, family: i32) -> bool {
        match self {
            Self::Address(address) => address.is_ipv4() == (family == libc::AF_INET),
            Self::UdpPort(_) => true,
        }
    }

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
