//! Requests to netfilter's parts of the kernel that are no batch: headers, attributes, answers
//! (linux/netfilter/nfnetlink.h).

use std::io;

use rtnetlink::sys::{Socket, SocketAddr};
use serde::{Deserialize, Serialize};

/// `NETLINK_NETFILTER` of linux/netlink.h.
const NETLINK_NETFILTER: isize = 12;
/// Flags and types of linux/netlink.h.
pub(super) const REQUEST: u16 = 1;
pub(super) const ACKNOWLEDGE: u16 = 4;
pub(super) const DUMP: u16 = 0x300;
pub(super) const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: the list changed while it was told.
const INTERRUPTED: u16 = 0x10;
/// nlmsghdr and nfgenmsg.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;

/// The two kinds of addresses, each with a switch for forwarding and tables of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }
}

/// `NFPROTO_INET`: both families.
pub(super) const FAMILY_INET: u8 = 1;

pub(super) fn open() -> io::Result<Socket> {
    Socket::new(NETLINK_NETFILTER)
}

pub(super) fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
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

pub(super) fn send(socket: &Socket, message: &[u8]) -> io::Result<()> {
    socket.send_to(message, &SocketAddr::new(0, 0), 0).map(drop)
}

/// Hands the type and attributes of each answer to `take`, until the list's end or an acknowledgement. A list that
/// changed meanwhile is an error of the kind `Interrupted`: it may lack what was there all the time.
pub(super) fn receive(socket: &Socket, mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
    let mut interrupted = false;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        interrupted |= flags(&bytes).any(|flags| flags & INTERRUPTED != 0);
        for (kind, body) in messages(&bytes) {
            if kind == DONE {
                return match interrupted {
                    true => Err(io::ErrorKind::Interrupted.into()),
                    false => Ok(()),
                };
            }
            if kind == ERROR {
                let errno = body.get(..4).and_then(|bytes| bytes.try_into().ok());
                return match errno.map(i32::from_ne_bytes) {
                    None | Some(0) => Ok(()),
                    Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
                };
            }
            take(kind, body);
        }
    }
}

/// Returns the flags of each message.
fn flags(bytes: &[u8]) -> impl Iterator<Item = u16> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER)?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let length = usize::try_from(length).ok()?.next_multiple_of(4).max(HEADER);
        rest = rest.get(length..).unwrap_or_default();
        Some(u16::from_ne_bytes([header[6], header[7]]))
    })
}

/// Splits what was received into types and what follows the headers: attributes, or the errno of an error.
pub(super) fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER)?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let length = usize::try_from(length).ok()?;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let body = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let start = if matches!(kind, DONE | ERROR) { 0 } else { FAMILY_HEADER };
        Some((kind, body.get(start..).unwrap_or_default()))
    })
}

/// Splits attributes into type, value, and the attribute as a whole.
pub(super) fn attributes_of(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
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

pub(super) fn padded(attribute: &[u8]) -> Vec<u8> {
    let mut bytes = attribute.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A text attribute (netlink(7)).
pub(super) fn text_attribute(kind: u16, text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len() + 5).expect("names of tables and chains are short");
    let whole = [&length.to_ne_bytes(), &kind.to_ne_bytes(), text.as_bytes(), &[0]].concat();
    padded(&whole)
}

/// Reads a text attribute's value.
pub(super) fn text_of(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// Reads a number, which nf_tables gives in network order.
pub(super) fn number_of(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}
