//! Before a replica stops for another one: no new connection comes to it, and those that it has may end.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::core::Engine;
use crate::engine::state::containers::Container;

/// Between two looks at the connections; the kernel tells nobody of their ends but by a dump.
const PAUSE: Duration = Duration::from_millis(20);

impl Engine {
    /// Takes a container whose stop has begun off names and ports, and waits for at most `limit` until its connections
    /// are over. Returns at once when nobody else of its service can serve.
    pub(super) async fn drain(self: &Arc<Self>, row: &Container, limit: Duration) {
        if !self.is_relieved(&row.id) {
            return;
        }
        if let Err(error) = self.refresh_publications().await {
            tracing::warn!(
                container = row.id,
                error = error.full(),
                "it is not taken off its ports"
            );
            return;
        }
        let Some(pid) = row.runtime.as_ref().map(|runtime| runtime.pid) else { return };
        let end = Instant::now() + limit;
        while Instant::now() < end && tokio::task::block_in_place(|| has_connections(pid)) {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Returns whether somebody is connected to a port on which the network namespace of `pid` listens. One that is gone
/// has no connections.
fn has_connections(pid: i32) -> bool {
    ["tcp", "tcp6"].iter().any(|table| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        is_connected(&text)
    })
}

/// Reads a table as proc_net(5) has it: `sl local_address rem_address st …`, ports and states in hex.
fn is_connected(table: &str) -> bool {
    let rows = || {
        table.lines().skip(1).filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (local, _, state) = (words.next()?, words.next()?, words.next()?);
            Some((local.rsplit_once(':')?.1, state))
        })
    };
    let listening: BTreeSet<&str> =
        rows().filter(|(_, state)| *state == "0A").map(|(port, _)| port).collect();
    rows().any(|(port, state)| matches!(state, "01" | "03") && listening.contains(port))
}

#[cfg(test)]
mod tests {
    use super::is_connected;

    #[test]
    fn only_connections_to_its_own_ports_count() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when";
        let listens = "   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000";
        let accepted = "   1: 020012AC:0050 010012AC:9C40 01 00000000:00000000 00:00000000";
        let own = "   2: 020012AC:9C41 030012AC:1538 01 00000000:00000000 00:00000000";
        let over = "   3: 020012AC:0050 010012AC:9C42 06 00000000:00000000 03:00000000";
        let table = |rows: &[&str]| [&[head], rows].concat().join("\n");
        assert!(is_connected(&table(&[listens, accepted])));
        assert!(!is_connected(&table(&[listens, own, over])));
        assert!(!is_connected(&table(&[accepted])), "its program listens no more");
        assert!(!is_connected(""));
    }
}
