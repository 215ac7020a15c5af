//! Networks and the subnets they reserve. A plan proposes a subnet; this table decides who has it.

use std::net::IpAddr;

use ipnet::IpNet;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StateError;
use super::addresses::{bytes, from_bytes};
use super::database::{decode, encode};
use crate::spec::stack::Network as NetworkSpec;

#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    pub id: String,
    pub name: String,
    pub spec: NetworkSpec,
    /// The stack that owns it.
    pub stack: Option<String>,
    pub phase: Phase,
    pub created_at: i64,
    pub subnets: Vec<Subnet>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    pub subnet: IpNet,
    pub gateway: IpAddr,
    /// Where dynamic addresses come from; within `subnet`.
    pub range: IpNet,
}

/// Of a network or a volume. `creating` and `removing` are intents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Creating,
    Ready,
    Removing,
}

impl Phase {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Removing => "removing",
        }
    }

    /// A word of a newer engine counts as half done, so that it is looked at.
    pub(super) fn parse(word: &str) -> Self {
        match word {
            "ready" => Self::Ready,
            "removing" => Self::Removing,
            _ => Self::Creating,
        }
    }
}

/// Inserts a network with its subnets, or nothing: a name or a subnet that another has is refused.
///
/// `routes` are those of the host, which a subnet must not cover either; a default route is none of them.
pub fn insert(
    connection: &Connection,
    network: &Network,
    routes: &[IpNet],
) -> Result<(), StateError> {
    let on = StateError::on("write a network");
    let holder: Option<String> = connection
        .query_row("SELECT id FROM networks WHERE name = ?", [&network.name], |row| row.get(0))
        .optional()
        .map_err(&on)?;
    if let Some(by) = holder {
        return Err(StateError::NameTaken { kind: "network", name: network.name.clone(), by });
    }
    for Subnet { subnet, .. } in &network.subnets {
        let subnet = *subnet;
        if let Some((other, holder)) =
            reserved(connection)?.into_iter().find(|(other, _)| overlap(subnet, *other))
        {
            return Err(StateError::SubnetTaken {
                subnet,
                other,
                holder: format!("which network {holder} has"),
            });
        }
        if let Some(other) = routes.iter().copied().find(|route| overlap(subnet, *route)) {
            return Err(StateError::SubnetTaken {
                subnet,
                other,
                holder: "a route of the host".to_owned(),
            });
        }
    }
    let spec = encode("network spec", &network.spec)?;
    let row = params![
        network.id,
        network.name,
        spec,
        network.stack,
        network.phase.word(),
        network.created_at
    ];
    connection
        .execute(
            "INSERT INTO networks (id, name, spec, stack, phase, created_at) VALUES (?,?,?,?,?,?)",
            row,
        )
        .map_err(&on)?;
    for subnet in &network.subnets {
        let row = params![
            network.id,
            subnet.subnet.to_string(),
            bytes(subnet.gateway),
            subnet.range.to_string()
        ];
        connection
            .execute("INSERT INTO subnets (network, subnet, gateway, range) VALUES (?,?,?,?)", row)
            .map_err(&on)?;
    }
    Ok(())
}

pub fn set_phase(connection: &Connection, id: &str, phase: Phase) -> Result<(), StateError> {
    let rows = connection
        .execute("UPDATE networks SET phase = ? WHERE id = ?", params![phase.word(), id])
        .map_err(StateError::on("write a network's phase"))?;
    if rows == 0 {
        return Err(StateError::NotFound { kind: "network", id: id.to_owned() });
    }
    Ok(())
}

/// Removes the row and gives its subnets back.
pub fn delete(connection: &Connection, id: &str) -> Result<(), StateError> {
    connection
        .execute("DELETE FROM networks WHERE id = ?", [id])
        .map(drop)
        .map_err(StateError::on("remove a network's row"))
}

/// Returns all networks, oldest first.
pub fn list(connection: &Connection) -> Result<Vec<Network>, StateError> {
    let rows: Vec<(Network, String)> = connection
        .prepare_cached(
            "SELECT id, name, spec, stack, phase, created_at FROM networks ORDER BY created_at, id",
        )
        .and_then(|mut statement| statement.query_map([], read)?.collect())
        .map_err(StateError::on("list the networks"))?;
    rows.into_iter()
        .map(|(network, spec)| {
            let subnets = subnets(connection, &network.id)?;
            Ok(Network { spec: decode("network spec", &spec)?, subnets, ..network })
        })
        .collect()
}

/// Returns those whose making or removal may be half done.
pub fn unfinished(connection: &Connection) -> Result<Vec<Network>, StateError> {
    Ok(list(connection)?.into_iter().filter(|network| network.phase != Phase::Ready).collect())
}

pub(super) fn subnets(connection: &Connection, network: &str) -> Result<Vec<Subnet>, StateError> {
    connection
        .prepare_cached(
            "SELECT subnet, gateway, range FROM subnets WHERE network = ? ORDER BY subnet",
        )
        .and_then(|mut statement| {
            let rows = statement.query_map([network], |row| {
                Ok(Subnet {
                    subnet: net(row, 0)?,
                    gateway: from_bytes(row, 1)?,
                    range: net(row, 2)?,
                })
            })?;
            rows.collect()
        })
        .map_err(StateError::on("read a network's subnets"))
}

fn reserved(connection: &Connection) -> Result<Vec<(IpNet, String)>, StateError> {
    connection
        .prepare_cached(
            "SELECT subnet, name FROM subnets JOIN networks ON networks.id = subnets.network",
        )
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok((net(row, 0)?, row.get(1)?)))?.collect()
        })
        .map_err(StateError::on("read the reserved subnets"))
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    other.prefix_len() > 0 && (one.contains(&other) || other.contains(&one))
}

fn read(row: &Row<'_>) -> rusqlite::Result<(Network, String)> {
    let network = Network {
        id: row.get(0)?,
        name: row.get(1)?,
        spec: NetworkSpec::default(),
        stack: row.get(3)?,
        phase: Phase::parse(&row.get::<_, String>(4)?),
        created_at: row.get(5)?,
        subnets: Vec::new(),
    };
    Ok((network, row.get(2)?))
}

/// Reads a subnet's text form.
fn net(row: &Row<'_>, column: usize) -> rusqlite::Result<IpNet> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })
}

#[cfg(test)]
pub(super) mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;
    use crate::engine::state::{Database, Durability};

    pub(in crate::engine::state) fn network(name: &str, subnet: &str) -> Network {
        let subnet: IpNet = subnet.parse().unwrap();
        let gateway = subnet.hosts().next().unwrap();
        Network {
            id: format!("id-{name}"),
            name: name.into(),
            spec: NetworkSpec::default(),
            stack: None,
            phase: Phase::Creating,
            created_at: 1,
            subnets: vec![Subnet { subnet, gateway, range: subnet }],
        }
    }

    #[test]
    fn a_subnet_has_one_network_and_spares_the_hosts_routes() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("s"), folder.path()).unwrap();
        let mut add = |name: &str, subnet: &str| {
            let routes = ["0.0.0.0/0".parse().unwrap(), "192.168.1.0/24".parse().unwrap()];
            database.write(Durability::Process, |tx| insert(tx, &network(name, subnet), &routes))
        };
        add("a", "10.1.0.0/16").unwrap();
        assert!(matches!(add("b", "10.1.4.0/24"), Err(StateError::SubnetTaken { .. })));
        assert!(matches!(add("b", "10.0.0.0/8"), Err(StateError::SubnetTaken { .. })));
        assert!(matches!(add("b", "192.168.0.0/16"), Err(StateError::SubnetTaken { .. })));
        assert!(matches!(add("a", "10.2.0.0/16"), Err(StateError::NameTaken { .. })));
        add("b", "10.2.0.0/16").unwrap();
        assert_eq!(list(database.read()).unwrap()[0], network("a", "10.1.0.0/16"));
        assert_eq!(unfinished(database.read()).unwrap().len(), 2);
        database.write(Durability::Process, |tx| delete(tx, "id-a")).unwrap();
        database
            .write(Durability::Process, |tx| insert(tx, &network("c", "10.1.4.0/24"), &[]))
            .unwrap();
    }
}
