//! Volumes. Convergence never deletes one; only a user's own request does.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StateError;
use super::database::{decode, encode};
use super::networks::Phase;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    pub driver: String,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// The stack that made it.
    pub stack: Option<String>,
    /// Made for one container without a name, and removed with it on request.
    pub anonymous: bool,
    pub phase: Phase,
    pub created_at: i64,
}

const COLUMNS: &str = "name, driver, options, labels, stack, anonymous, phase, created_at";

pub fn insert(connection: &Connection, volume: &Volume) -> Result<(), StateError> {
    if get(connection, &volume.name)?.is_some() {
        let name = volume.name.clone();
        return Err(StateError::NameTaken { kind: "volume", by: name.clone(), name });
    }
    let (options, labels) =
        (encode("volume options", &volume.options)?, encode("volume labels", &volume.labels)?);
    let sql = format!("INSERT INTO volumes ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?)");
    let row = params![
        volume.name,
        volume.driver,
        options,
        labels,
        volume.stack,
        volume.anonymous,
        volume.phase.word(),
        volume.created_at
    ];
    connection.execute(&sql, row).map(drop).map_err(StateError::on("write a volume"))
}

pub fn set_phase(connection: &Connection, name: &str, phase: Phase) -> Result<(), StateError> {
    let rows = connection
        .execute("UPDATE volumes SET phase = ? WHERE name = ?", params![phase.word(), name])
        .map_err(StateError::on("write a volume's phase"))?;
    if rows == 0 {
        return Err(StateError::NotFound { kind: "volume", id: name.to_owned() });
    }
    Ok(())
}

pub fn delete(connection: &Connection, name: &str) -> Result<(), StateError> {
    connection
        .execute("DELETE FROM volumes WHERE name = ?", [name])
        .map(drop)
        .map_err(StateError::on("remove a volume's row"))
}

pub fn get(connection: &Connection, name: &str) -> Result<Option<Volume>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM volumes WHERE name = ?");
    let raw = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_row([name], read).optional())
        .map_err(StateError::on("read a volume"))?;
    raw.map(parse).transpose()
}

/// Returns all volumes, by name.
pub fn list(connection: &Connection) -> Result<Vec<Volume>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM volumes ORDER BY name");
    let raw: Vec<_> = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_map([], read)?.collect())
        .map_err(StateError::on("list the volumes"))?;
    raw.into_iter().map(parse).collect()
}

/// Returns those whose making or removal may be half done.
pub fn unfinished(connection: &Connection) -> Result<Vec<Volume>, StateError> {
    Ok(list(connection)?.into_iter().filter(|volume| volume.phase != Phase::Ready).collect())
}

/// A row, its options and its labels still as text.
type Raw = (Volume, String, String);

fn read(row: &Row<'_>) -> rusqlite::Result<Raw> {
    let volume = Volume {
        name: row.get(0)?,
        driver: row.get(1)?,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        stack: row.get(4)?,
        anonymous: row.get(5)?,
        phase: Phase::parse(&row.get::<_, String>(6)?),
        created_at: row.get(7)?,
    };
    Ok((volume, row.get(2)?, row.get(3)?))
}

fn parse((volume, options, labels): Raw) -> Result<Volume, StateError> {
    Ok(Volume {
        options: decode("volume options", &options)?,
        labels: decode("volume labels", &labels)?,
        ..volume
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;
    use crate::engine::state::{Database, Durability};

    #[test]
    fn a_volume_is_an_intent_until_it_is_ready() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("s"), folder.path()).unwrap();
        let volume = Volume {
            name: "v".into(),
            driver: "local".into(),
            options: BTreeMap::new(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            stack: Some("s".into()),
            anonymous: false,
            phase: Phase::Creating,
            created_at: 1,
        };
        database.write(Durability::Process, |tx| insert(tx, &volume)).unwrap();
        assert_eq!(unfinished(database.read()).unwrap(), std::slice::from_ref(&volume));
        let again = database.write(Durability::Process, |tx| insert(tx, &volume));
        assert!(matches!(again, Err(StateError::NameTaken { .. })));
        database.write(Durability::Process, |tx| set_phase(tx, "v", Phase::Ready)).unwrap();
        assert!(unfinished(database.read()).unwrap().is_empty());
        database.write(Durability::Process, |tx| delete(tx, "v")).unwrap();
        assert_eq!(get(database.read(), "v").unwrap(), None);
    }
}
