//! Sends a batch to nf_tables and waits for the kernel's word.

use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::sys::{Socket, SocketAddr};

use super::encode::{self, Batch};
use super::ruleset::{self, Change, Ruleset};

/// `NETLINK_NETFILTER` of linux/netlink.h.
const NETLINK_NETFILTER: isize = 12;
/// `NLMSG_ERROR`: an errno, or 0 as an acknowledgement.
const ERROR: u16 = 2;

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("cannot open an nf_tables socket")]
    Open { source: io::Error },
    #[error("cannot send the rules of table {table}")]
    Send { table: String, source: io::Error },
    #[error("cannot read the answer for table {table}")]
    Receive { table: String, source: io::Error },
    #[error("the kernel refused message {message} for table {table}")]
    Refused { table: String, message: u32, source: io::Error },
}

/// Turns `old` (what we applied last) into `new`. Without `old`, or when somebody else changed our table, the whole
/// table is replaced.
pub fn apply(old: Option<&Ruleset>, new: &Ruleset) -> Result<(), ApplyError> {
    let change = old.map_or(Change::Replace, |old| ruleset::diff(old, new));
    match change {
        Change::Nothing => Ok(()),
        Change::Replace => send(&new.table, &encode::replace(new)),
        Change::Elements { delete, add } => {
            let sent = send(&new.table, &encode::change_elements(&new.table, &delete, &add));
            match sent {
                Err(ApplyError::Refused { .. }) => send(&new.table, &encode::replace(new)),
                other => other,
            }
        }
    }
}

/// Removes a table; a missing one is fine.
pub fn remove(table: &str) -> Result<(), ApplyError> {
    send(table, &encode::remove(table))
}

/// Sends a batch for `table`.
pub(in crate::net) fn send(table: &str, batch: &Batch) -> Result<(), ApplyError> {
    let socket = Socket::new(NETLINK_NETFILTER).map_err(|source| ApplyError::Open { source })?;
    let sent = exchange(&socket, table, batch);
    close_behind(socket);
    sent
}

/// Closes a socket while nobody waits: the kernel first frees what its batches replaced, an RCU grace period of 5 to
/// 25 ms (`nft_rcv_nl_event` of net/netfilter/nf_tables_api.c).
fn close_behind(socket: Socket) {
    let thread = std::thread::Builder::new().name("nft-close".to_owned()).stack_size(64 << 10);
    if let Err(error) = thread.spawn(move || drop(socket)) {
        // The closure is gone, and the socket with it.
        tracing::debug!(%error, "an nf_tables socket was closed at once");
    }
}

fn exchange(socket: &Socket, table: &str, batch: &Batch) -> Result<(), ApplyError> {
    let fail = |source| ApplyError::Send { table: table.to_owned(), source };
    // The batch is one datagram, so it must fit the send buffer whole.
    let room = batch.bytes.len().saturating_mul(2).max(1 << 18);
    setsockopt(socket, sockopt::SndBufForce, &room).map_err(|errno| fail(errno.into()))?;
    socket.send_to(&batch.bytes, &SocketAddr::new(0, 0), 0).map_err(fail)?;
    let mut refused = None;
    loop {
        let (bytes, _) = socket
            .recv_from_full()
            .map_err(|source| ApplyError::Receive { table: table.to_owned(), source })?;
        let mut rest = bytes.as_slice();
        while let Some((answer, next)) = parse_answer(rest) {
            rest = next;
            if answer.errno != 0 && refused.is_none() {
                let source = io::Error::from_raw_os_error(answer.errno);
                refused = Some(ApplyError::Refused {
                    table: table.to_owned(),
                    message: answer.sequence,
                    source,
                });
            }
            // An error of the commit itself carries the number of the batch's begin.
            if answer.sequence == batch.last || answer.sequence == batch.first {
                return refused.map_or(Ok(()), Err);
            }
        }
    }
}

struct Answer {
    errno: i32,
    sequence: u32,
}

/// Reads one message off the front; `None` at the end.
fn parse_answer(bytes: &[u8]) -> Option<(Answer, &[u8])> {
    let word = |at: usize| -> Option<[u8; 4]> { bytes.get(at..at + 4)?.try_into().ok() };
    let length = usize::try_from(u32::from_ne_bytes(word(0)?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let sequence = u32::from_ne_bytes(word(8)?);
    let errno = if kind == ERROR { -i32::from_ne_bytes(word(16)?) } else { 0 };
    let next = bytes.get(length.next_multiple_of(4).max(16)..).unwrap_or_default();
    Some((Answer { errno, sequence }, next))
}
