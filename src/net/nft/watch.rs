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

/// The namespace's changes from its making on.
#[derive(Debug)]
pub struct Watch {
    socket: AsyncFd<Socket>,
}

impl Watch {
    /// Listens in the calling thread's namespace. Needs a tokio runtime.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind(&SocketAddr::new(0, GROUP))?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket: crate::net::sys::readable(socket)? })
    }

    /// Passes over the changes until now, for who looks at all rules anyway.
    pub fn skip(&mut self) {
        while self.socket.get_ref().recv_from_full().is_ok() {}
    }

    /// Returns after the next change by another process. Cancel safe: nothing is kept between two calls.
    pub async fn next(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| socket.get_ref().recv_from_full()) {
                Ok(Ok((bytes, _))) if is_foreign(&bytes, Path::new("/proc/self/task")) => {
                    return Ok(());
                }
                Ok(Ok(_)) | Err(_) => {}
                // Some notices were lost (netlink(7)), so nobody knows what changed.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(()),
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

/// Tells whether a thread that is not below `threads` ended a transaction.
fn is_foreign(bytes: &[u8], threads: &Path) -> bool {
    super::super::netfilter::messages(bytes).any(|(kind, body)| {
        let thread = super::super::netfilter::attributes_of(body)
            .find(|(attribute, ..)| *attribute == THREAD)
            .and_then(|(_, value, _)| value.try_into().ok())
            .map(u32::from_be_bytes);
        kind == NEW_GENERATION
            && thread.is_none_or(|thread| !threads.join(thread.to_string()).exists())
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::netlink::throwaway;
    use crate::net::nft::apply;

    #[test]
    fn own_changes_are_no_news_and_those_of_another_program_are() {
        throwaway::host(async || {
            let mut watch = Watch::open().unwrap();
            apply::remove("own").unwrap();
            let own = tokio::time::timeout(Duration::from_millis(50), watch.next());
            assert!(own.await.is_err());
            let added =
                std::process::Command::new("nft").args(["add", "table", "ip", "x"]).status();
            if !added.is_ok_and(|status| status.success()) {
                return;
            }
            tokio::time::timeout(Duration::from_secs(5), watch.next()).await.unwrap().unwrap();
        });
    }
}
