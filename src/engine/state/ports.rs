//! Host ports that are promised to a container or a stack's service, so that two plans can't both have one.

use std::net::IpAddr;

use rusqlite::{Connection, params};

use super::StateError;
use super::addresses::bytes;
use crate::spec::container::Protocol;

/// Reserves a port for `owner`; `None` as address is every address and collides with each.
pub fn reserve(
    connection: &Connection,
    owner: &str,
    protocol: Protocol,
    host_ip: Option<IpAddr>,
    port: u16,
) -> Result<(), StateError> {
    let on = StateError::on("reserve a port");
    let address = host_ip.map(bytes).unwrap_or_default();
    let holder: Option<String> = connection
        .prepare_cached(
            "SELECT min(owner) FROM ports WHERE protocol = ?1 AND port = ?2 AND owner <> ?4 \
             AND (host_ip = ?3 OR host_ip = x'' OR ?3 = x'')",
        )
        .and_then(|mut statement| {
            statement.query_row(params![word(protocol), port, address, owner], |row| row.get(0))
        })
        .map_err(&on)?;
    if let Some(holder) = holder {
        return Err(StateError::PortTaken { port, protocol: word(protocol), holder });
    }
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO ports (protocol, port, host_ip, owner) VALUES (?,?,?,?)",
        )
        .and_then(|mut statement| statement.execute(params![word(protocol), port, address, owner]))
        .map(drop)
        .map_err(&on)
}

/// Returns all promised ports with their owners.
pub fn list(connection: &Connection) -> Result<Vec<(String, u16)>, StateError> {
    connection
        .prepare_cached("SELECT owner, port FROM ports ORDER BY owner, port")
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(StateError::on("list the ports"))
}

/// Gives all ports of `owner` back.
pub fn release(connection: &Connection, owner: &str) -> Result<(), StateError> {
    connection
        .execute("DELETE FROM ports WHERE owner = ?", [owner])
        .map(drop)
        .map_err(StateError::on("release ports"))
}

/// Gives every port back: whoever knows who runs reserves anew.
pub fn release_all(connection: &Connection) -> Result<(), StateError> {
    connection
        .execute("DELETE FROM ports", [])
        .map(drop)
        .map_err(StateError::on("release all ports"))
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;
    use crate::engine::state::{Database, Durability};

    #[test]
    fn a_port_has_one_owner_on_each_address() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("s"), folder.path()).unwrap();
        let mut add = |owner: &str, ip: Option<&str>| {
            let ip = ip.map(|ip| ip.parse().unwrap());
            database
                .write(Durability::Process, |tx| reserve(tx, owner, Protocol::Tcp, ip, 80))
                .is_ok()
        };
        assert!(add("a", Some("127.0.0.1")));
        assert!(add("a", Some("127.0.0.1")));
        assert!(!add("b", Some("127.0.0.1")));
        assert!(!add("b", None));
        assert!(add("b", Some("127.0.0.2")));
        database.write(Durability::Process, |tx| release(tx, "a")).unwrap();
        database
            .write(Durability::Process, |tx| reserve(tx, "c", Protocol::Udp, None, 80))
            .unwrap();
        let refused =
            database.write(Durability::Process, |tx| reserve(tx, "c", Protocol::Tcp, None, 80));
        assert!(matches!(refused, Err(StateError::PortTaken { holder, .. }) if holder == "b"));
    }
}
