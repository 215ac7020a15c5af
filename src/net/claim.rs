//! Who chooses subnets: one engine of the machine at a time, from its look at the routes until its bridge has one of its
//! own.
//!
//! The lock is an flock(2) on the network namespace itself, which engines of different roots share exactly when their
//! bridges do. Others may hold it for whatever reason, so it is waited for a while only.

use std::fs::File;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The turn to choose, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    _namespace: Option<Flock<File>>,
}

/// In the calling thread's namespace.
const NAMESPACE: &str = "/proc/thread-self/ns/net";
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

impl Claim {
    /// Waits for the turn. Without one in time, or where there can be none, two engines that choose at the same instant
    /// may choose the same.
    pub async fn take() -> Self {
        let turn = tokio::time::timeout(PATIENCE, turn()).await;
        let turn = turn.unwrap_or_else(|_| Err(Errno::ETIMEDOUT.into()));
        if let Err(error) = &turn {
            tracing::warn!(%error, "no turn to choose subnets: another engine may choose the same");
        }
        Self { _namespace: turn.ok() }
    }
}

async fn turn() -> std::io::Result<Flock<File>> {
    let mut namespace = File::open(NAMESPACE)?;
    loop {
        match Flock::lock(namespace, FlockArg::LockExclusiveNonblock) {
            Ok(turn) => return Ok(turn),
            Err((file, Errno::EWOULDBLOCK)) => namespace = file,
            Err((_, errno)) => return Err(errno.into()),
        }
        // A lock tells nobody that it is free, and no thread is worth waiting for it.
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use crate::net::netlink::{self, throwaway};

    #[test]
    fn one_at_a_time_chooses_in_each_namespace() {
        throwaway::host(async || {
            let first = Claim::take().await;
            let soon = Duration::from_millis(50);
            assert!(tokio::time::timeout(soon, Claim::take()).await.is_err());
            let folder = tempfile::tempdir().unwrap();
            let other = folder.path().join("other");
            crate::net::sandbox::create(&other).await.unwrap();
            let inside = async || Ok::<_, netlink::NetlinkError>(Claim::take().await);
            drop(netlink::inside(&other, inside).await.unwrap());
            crate::net::sandbox::remove(&other).unwrap();
            drop(first);
            assert!(Claim::take().await._namespace.is_some());
        });
    }
}
