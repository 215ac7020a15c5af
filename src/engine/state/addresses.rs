//! Addresses of containers. Dynamic ones are next-free: an address comes round again as late as possible,
//! and never before the connections of its last holder are purged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StateError;
use super::networks::{Subnet, subnets};

/// Which address a container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    AnyV4,
    AnyV6,
    Exactly(IpAddr),
}

/// Reserves an address of `network` for `container`, within the caller's transaction.
///
/// `reserved` are addresses that the network's owner keeps for others. Returns `None` when the network
/// has no subnet of the wished kind.
pub fn reserve(
    connection: &Connection,
    network: &str,
    container: &str,
    wish: Wish,
    reserved: &[IpAddr],
) -> Result<Option<IpAddr>, StateError> {
    let all = subnets(connection, network)?;
    let (subnet, address) = match wish {
        Wish::Exactly(address) => {
            let subnet = all.iter().find(|subnet| subnet.subnet.contains(&address));
            let outside = || StateError::AddressOutside { network: network.to_owned(), address };
            let subnet = subnet.ok_or_else(outside)?;
            if let Some(holder) = holder(connection, network, subnet, address)? {
                return Err(StateError::AddressTaken { address, holder });
            }
            (subnet, address)
        }
        Wish::AnyV4 | Wish::AnyV6 => {
            let v4 = wish == Wish::AnyV4;
            let Some(subnet) =
                all.iter().find(|subnet| matches!(subnet.subnet, IpNet::V4(_)) == v4)
            else {
                return Ok(None);
            };
            (subnet, next_free(connection, network, subnet, reserved)?)
        }
    };
    let on = StateError::on("reserve an address");
    let name = subnet.subnet.to_string();
    connection
        .prepare_cached(
            "INSERT INTO addresses (network, address, container, subnet) VALUES (?,?,?,?)",
        )
        .and_then(|mut statement| {
            statement.execute(params![network, bytes(address), container, name])
        })
        .map_err(&on)?;
    if !matches!(wish, Wish::Exactly(_)) {
        connection
            .prepare_cached("UPDATE subnets SET last = ? WHERE network = ? AND subnet = ?")
            .and_then(|mut statement| statement.execute(params![bytes(address), network, name]))
            .map_err(&on)?;
    }
    Ok(Some(address))
}

/// Returns the container that has an address; `Some(None)` when it was given back and waits for [`purged`].
pub fn owner(
    connection: &Connection,
    network: &str,
    address: IpAddr,
) -> Result<Option<Option<String>>, StateError> {
    connection
        .prepare_cached("SELECT container FROM addresses WHERE network = ? AND address = ?")
        .and_then(|mut statement| {
            statement.query_row(params![network, bytes(address)], |row| row.get(0)).optional()
        })
        .map_err(StateError::on("look for an address"))
}

/// Gives a reserved address to another container. The caller has purged its connections.
pub fn take_over(
    connection: &Connection,
    network: &str,
    address: IpAddr,
    container: &str,
) -> Result<(), StateError> {
    connection
        .execute(
            "UPDATE addresses SET container = ? WHERE network = ? AND address = ?",
            params![container, network, bytes(address)],
        )
        .map(drop)
        .map_err(StateError::on("hand an address over"))
}

/// Gives a container's address on one network back.
pub fn release_on(
    connection: &Connection,
    network: &str,
    container: &str,
) -> Result<(), StateError> {
    connection
        .execute(
            "UPDATE addresses SET container = NULL WHERE network = ? AND container = ?",
            params![network, container],
        )
        .map(drop)
        .map_err(StateError::on("release an address"))
}

/// Gives a container's addresses back and returns them. They stay out of use until [`purged`].
pub fn release(
    connection: &Connection,
    container: &str,
) -> Result<Vec<(String, IpAddr)>, StateError> {
    connection
        .prepare_cached(
            "UPDATE addresses SET container = NULL WHERE container = ? RETURNING network, address",
        )
        .and_then(|mut statement| {
            statement
                .query_map([container], |row| Ok((row.get(0)?, from_bytes(row, 1)?)))?
                .collect()
        })
        .map_err(StateError::on("release addresses"))
}

/// Returns the addresses that were given back and wait for [`purged`], as a crash may leave some.
pub fn released(connection: &Connection) -> Result<Vec<(String, IpAddr)>, StateError> {
    connection
        .prepare_cached("SELECT network, address FROM addresses WHERE container IS NULL ORDER BY network, address")
        .and_then(|mut statement| statement.query_map([], |row| Ok((row.get(0)?, from_bytes(row, 1)?)))?.collect())
        .map_err(StateError::on("list released addresses"))
}

/// Frees a released address after its connections are gone from conntrack.
pub fn purged(connection: &Connection, network: &str, address: IpAddr) -> Result<(), StateError> {
    connection
        .execute(
            "DELETE FROM addresses WHERE network = ? AND address = ? AND container IS NULL",
            params![network, bytes(address)],
        )
        .map(drop)
        .map_err(StateError::on("free an address"))
}

/// Returns all promised addresses with the container that has them.
pub fn list(connection: &Connection) -> Result<Vec<(String, IpAddr)>, StateError> {
    connection
        .prepare_cached(
            "SELECT container, address FROM addresses WHERE container IS NOT NULL ORDER BY container, address",
        )
        .and_then(|mut statement| statement.query_map([], |row| Ok((row.get(0)?, from_bytes(row, 1)?)))?.collect())
        .map_err(StateError::on("list the addresses"))
}

/// Returns a container's addresses with their network.
pub fn of_container(
    connection: &Connection,
    container: &str,
) -> Result<Vec<(String, IpAddr)>, StateError> {
    connection
        .prepare_cached(
            "SELECT network, address FROM addresses WHERE container = ? ORDER BY network, address",
        )
        .and_then(|mut statement| {
            statement
                .query_map([container], |row| Ok((row.get(0)?, from_bytes(row, 1)?)))?
                .collect()
        })
        .map_err(StateError::on("read a container's addresses"))
}

/// Returns who has an address, be it the subnet itself.
fn holder(
    connection: &Connection,
    network: &str,
    subnet: &Subnet,
    address: IpAddr,
) -> Result<Option<String>, StateError> {
    if address == subnet.gateway {
        return Ok(Some("the gateway".to_owned()));
    }
    if is_edge(subnet.subnet, address) {
        return Ok(Some("the network itself".to_owned()));
    }
    let row = owner(connection, network, address)?;
    Ok(row.map(|container| container.unwrap_or_else(|| "a container that just left".to_owned())))
}

/// The network's own address, and for IPv4 the broadcast address; a /31 and a /32 have neither (RFC 3021).
fn is_edge(subnet: IpNet, address: IpAddr) -> bool {
    if subnet.max_prefix_len() - subnet.prefix_len() < 2 {
        return false;
    }
    address == subnet.network() || (subnet.network().is_ipv4() && address == subnet.broadcast())
}

/// Walks from the address given last, round the range, to the first that nobody has.
fn next_free(
    connection: &Connection,
    network: &str,
    subnet: &Subnet,
    reserved: &[IpAddr],
) -> Result<IpAddr, StateError> {
    let last: Option<IpAddr> = connection
        .prepare_cached(
            "SELECT last FROM subnets WHERE network = ? AND subnet = ? AND last IS NOT NULL",
        )
        .and_then(|mut statement| {
            let name = subnet.subnet.to_string();
            statement.query_row(params![network, name], |row| from_bytes(row, 0)).optional()
        })
        .map_err(StateError::on("read the last address"))?;
    let (first, end) = (subnet.range.network(), subnet.range.broadcast());
    let start =
        last.filter(|last| subnet.range.contains(last) && *last != end).map_or(first, after);
    let mut address = start;
    loop {
        if !reserved.contains(&address) && holder(connection, network, subnet, address)?.is_none() {
            return Ok(address);
        }
        address = if address == end { first } else { after(address) };
        if address == start {
            return Err(StateError::Exhausted {
                network: network.to_owned(),
                subnet: subnet.range,
            });
        }
    }
}

fn after(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address).wrapping_add(1)).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address).wrapping_add(1)).into(),
    }
}

/// Returns the 4 or 16 bytes of an address, which sort as addresses do.
pub(super) fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn from_bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<IpAddr> {
    let bytes: Vec<u8> = row.get(column)?;
    if let Ok(v4) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Ok(v4.into());
    }
    <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Blob,
            Box::new(error),
        )
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::state::networks::{self, tests::network};
    use crate::engine::state::{Database, Durability};

    fn database(folder: &std::path::Path, subnet: &str) -> Database {
        let mut database = Database::open(&folder.join("s"), folder).unwrap();
        database
            .write(Durability::Process, |tx| networks::insert(tx, &network("n", subnet), &[]))
            .unwrap();
        database
    }

    fn any(database: &mut Database, container: &str) -> Result<IpAddr, StateError> {
        let reserved = ["10.0.0.5".parse().unwrap()];
        database
            .write(Durability::Process, |tx| reserve(tx, "id-n", container, Wish::AnyV4, &reserved))
            .map(Option::unwrap)
    }

    #[test]
    fn an_address_is_never_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = database(folder.path(), "10.0.0.0/28");
        let mut given = BTreeSet::new();
        let refused = loop {
            match any(&mut database, "c") {
                Ok(address) => assert!(given.insert(address), "{address} was given twice"),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, StateError::Exhausted { .. }));
        // 16 less network, broadcast, gateway and the reserved one.
        assert_eq!(given.len(), 12);
        assert!(!given.contains(&"10.0.0.5".parse().unwrap()));
    }

    #[test]
    fn a_released_address_comes_back_after_the_purge_and_last() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = database(folder.path(), "10.0.0.0/29");
        assert_eq!(any(&mut database, "a").unwrap().to_string(), "10.0.0.2");
        let freed = database.write(Durability::Process, |tx| release(tx, "a")).unwrap();
        assert_eq!(freed, [("id-n".to_owned(), "10.0.0.2".parse().unwrap())]);
        let later: Vec<String> =
            (0..3).map(|_| any(&mut database, "b").unwrap().to_string()).collect();
        assert_eq!(later, ["10.0.0.3", "10.0.0.4", "10.0.0.6"]);
        assert!(any(&mut database, "c").is_err());
        assert_eq!(released(database.read()).unwrap(), freed);
        database.write(Durability::Process, |tx| purged(tx, "id-n", freed[0].1)).unwrap();
        assert_eq!(any(&mut database, "c").unwrap(), freed[0].1);
    }

    #[test]
    fn a_static_address_is_refused_when_somebody_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = database(folder.path(), "10.0.0.0/24");
        let mut wish = |address: &str| {
            let wish = Wish::Exactly(address.parse().unwrap());
            database.write(Durability::Process, |tx| reserve(tx, "id-n", "c", wish, &[]))
        };
        wish("10.0.0.9").unwrap();
        for taken in ["10.0.0.9", "10.0.0.1", "10.0.0.0", "10.0.0.255"] {
            assert!(matches!(wish(taken), Err(StateError::AddressTaken { .. })), "{taken}");
        }
        assert!(matches!(wish("10.0.1.9"), Err(StateError::AddressOutside { .. })));
        let none = database
            .write(Durability::Process, |tx| reserve(tx, "id-n", "c", Wish::AnyV6, &[]))
            .unwrap();
        assert_eq!(none, None);
        assert_eq!(of_container(database.read(), "c").unwrap().len(), 1);
    }
}
