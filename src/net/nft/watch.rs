//! Tells when somebody else changed packet rules, by nf_tables' own notices.

use std::io;
use std::path::Path;

use rtnetlink::sys::{Socket, SocketAddr};
use tokio::io::unix::AsyncFd;

/// `NETLINK_NETFILTER`, and `NFNLGRP_NFTABLES` as a bit.
const NETLINK_NETFILTER: isize = 12;
const GROUP: u32 = 1 << (7 - 1);
/// `NFT_MSG_NEWGEN` of the subsystem `NFNL_SUBSYS_NFTABLES`, which ends each transaction.
const NEW_GENERATION: u16 = 10 << 8 | 15;
/// `NFTA_GEN_PROC_PID`: the thread that made the change.
const THREAD: u16 = 2;
/// The attribute that names the table, in the messages of tables and of everything in them.
const TABLE: u16 = 1;

const THREADS: &str = "/proc/self/task";

/// What another process changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    Others,
    /// Our table, or nobody knows what.
    Ours,
}

/// The namespace's changes from its making on.
#[derive(Debug)]
pub struct Watch {
    socket: AsyncFd<Socket>,
    changes: Changes,
}

/// What the notices of the present transaction are about.
#[derive(Debug)]
struct Changes {
    table: String,
    is_ours: bool,
}

impl Watch {
    /// Listens in the calling thread's namespace; `table` is ours. Needs a tokio runtime.
    pub fn open(table: String) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind(&SocketAddr::new(0, GROUP))?;
        socket.set_non_blocking(true)?;
        let changes = Changes { table, is_ours: false };
        Ok(Self { socket: crate::net::sys::readable(socket)?, changes })
    }

    /// Returns the most that was changed by others until now, beginning with `change`.
    pub fn and_the_rest(&mut self, change: Change) -> Change {
        let mut most = change;
        while let Ok((bytes, _)) = self.socket.get_ref().recv_from_full() {
            most = most.max(self.changes.hear(&bytes, Path::new(THREADS)).unwrap_or(most));
        }
        most
    }

    /// Returns the next change by another process. Cancel safe: what was heard of a transaction is kept.
    pub async fn next(&mut self) -> io::Result<Change> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| socket.get_ref().recv_from_full()) {
                Ok(Ok((bytes, _))) => {
                    if let Some(change) = self.changes.hear(&bytes, Path::new(THREADS)) {
                        return Ok(change);
                    }
                }
                Err(_) => {}
                // Some notices were lost (netlink(7)), so nobody knows what changed.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.changes.is_ours = false;
                    return Ok(Change::Ours);
                }
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

impl Changes {
    /// Returns what a thread that is not below `threads` changed, once its transaction has ended.
    fn hear(&mut self, bytes: &[u8], threads: &Path) -> Option<Change> {
        let mut heard = None;
        for (kind, body) in super::super::netfilter::messages(bytes) {
            let attribute = |wanted: u16| {
                super::super::netfilter::attributes_of(body)
                    .find(|(attribute, ..)| *attribute == wanted)
                    .map(|(_, value, _)| value)
            };
            if kind != NEW_GENERATION {
                let table = attribute(TABLE).and_then(|name| name.strip_suffix(&[0]));
                self.is_ours |= table == Some(self.table.as_bytes());
                continue;
            }
            let thread = attribute(THREAD).and_then(|value| value.try_into().ok());
            let thread = thread.map(u32::from_be_bytes);
            let is_own = thread.is_some_and(|thread| threads.join(thread.to_string()).exists());
            let change = if self.is_ours { Change::Ours } else { Change::Others };
            self.is_ours = false;
            heard = heard.max((!is_own).then_some(change));
        }
        heard
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::netlink::throwaway;
    use crate::net::nft::apply;

    async fn hear(watch: &mut Watch) -> Option<Change> {
        let next = tokio::time::timeout(Duration::from_millis(200), watch.next());
        next.await.ok().map(|change| change.unwrap())
    }

    fn nft(words: &[&str]) {
        let done = std::process::Command::new("nft").args(words).status();
        assert!(done.unwrap().success(), "{words:?}");
    }

    #[test]
    fn own_changes_are_no_news_and_those_of_another_program_are() {
        throwaway::host(async || {
            let mut watch = Watch::open("own".to_owned()).unwrap();
            apply::remove("own").unwrap();
            assert_eq!(hear(&mut watch).await, None);
            if std::process::Command::new("nft").arg("-v").output().is_err() {
                return;
            }
            nft(&["add", "table", "ip", "x"]);
            assert_eq!(hear(&mut watch).await, Some(Change::Others));
            nft(&[
                "add table inet own; add set inet own ports { type inet_service; elements = { 80, 443 }; }",
            ]);
            assert_eq!(hear(&mut watch).await, Some(Change::Ours));
            nft(&["delete", "element", "inet", "own", "ports", "{ 80 }"]);
            assert_eq!(hear(&mut watch).await, Some(Change::Ours));
            nft(&["delete", "table", "ip", "x"]);
            assert_eq!(hear(&mut watch).await, Some(Change::Others));
            nft(&["flush", "ruleset"]);
            assert_eq!(hear(&mut watch).await, Some(Change::Ours));
        });
    }
}
