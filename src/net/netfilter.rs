//! Requests to netfilter's parts of the kernel that are no batch: headers, attributes, answers
//! (linux/netfilter/nfnetlink.h).

use std::io;

use rtnetlink::sys::{Socket, SocketAddr};

/// `NETLINK_NETFILTER` of linux/netlink.h.
const NETLINK_NETFILTER: isize = 12;
/// Flags and types of linux/netlink.h.
pub(super) const REQUEST: u16 = 1;
pub(super) const ACKNOWLEDGE: u16 = 4;
pub(super) const DUMP: u16 = 0x300;
pub(super) const ERROR: u16 = 2;
const DONE: u16 = 3;
/// nlmsghdr and nfgenmsg.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;

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

/// Hands the type and attributes of each answer to `take`, until the list's end or an acknowledgement.
pub(super) fn receive(socket: &Socket, mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        for (kind, body) in messages(&bytes) {
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
        }
    }
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
