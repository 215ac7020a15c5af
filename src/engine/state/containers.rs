//! Containers: what was asked for, how far it is, and what the last run left.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::StateError;
use super::database::{decode, encode};
use crate::engine::health::Monitor;
use crate::runtime::shim::protocol::Exit;
use crate::spec::container::{ContainerSpec, PortSpec};

/// A container's row.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub spec: ContainerSpec,
    /// Digest of the image's config.
    pub image_id: String,
    /// The stack that owns it; a column and no label, as anybody can set a label.
    pub replica: Option<Replica>,
    /// Of the desired service, to tell whether it changed.
    pub hash: String,
    pub phase: Phase,
    pub stopped_by_user: bool,
    /// The run that is, or was last.
    pub runtime: Option<Runtime>,
    pub exit: Option<Exit>,
    pub health: Option<Monitor>,
    /// Published ports with the host port that each one got: `host` is `(p, p)`.
    pub bound_ports: Vec<PortSpec>,
    /// Restarts by the restart policy since the last explicit start.
    pub restart_count: u32,
    /// Why the last start failed.
    pub error: Option<String>,
    pub created_at: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub stack: String,
    pub service: String,
    pub number: u32,
    pub oneoff: bool,
}

/// How far a container is. `creating`, `starting`, `stopping` and `removing` are intents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Creating,
    Created,
    Starting,
    Running,
    Paused,
    Stopping,
    Restarting,
    Exited,
    Removing,
}

impl Phase {
    /// Tells whether an effect may be half done.
    pub fn is_intent(self) -> bool {
        matches!(self, Self::Creating | Self::Starting | Self::Stopping | Self::Removing)
    }
}

/// One run, as the kernel can be asked about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// Of /proc/sys/kernel/random/boot_id. Another one means that the machine was booted and no pid holds.
    pub boot_id: String,
    pub incarnation: u64,
    pub shim_pid: i32,
    /// In clock ticks since boot, as proc_pid_stat(5) field 22 has it.
    pub shim_start_time: u64,
    pub pid: i32,
    pub start_time: u64,
    pub started_at: i64,
}

impl Container {
    /// Tells whether the last run was before this boot.
    pub fn is_from_another_boot(&self, boot_id: &str) -> bool {
        self.runtime.as_ref().is_some_and(|runtime| runtime.boot_id != boot_id)
    }
}

const COLUMNS: &str = "id, name, spec, image_id, stack, service, number, oneoff, hash, phase, stopped_by_user, \
                       runtime, exit, health, ports, restart_count, error, created_at";

/// Inserts the row or replaces the one with its id.
pub fn put(connection: &Connection, container: &Container) -> Result<(), StateError> {
    if let Some(holder) =
        holder_of_name(connection, &container.name)?.filter(|holder| *holder != container.id)
    {
        return Err(StateError::NameTaken {
            kind: "container",
            name: container.name.clone(),
            by: holder,
        });
    }
    let spec = encode("container spec", &container.spec)?;
    let phase = word(container.phase)?;
    let runtime =
        container.runtime.as_ref().map(|runtime| encode("runtime record", runtime)).transpose()?;
    let exit = container.exit.as_ref().map(|exit| encode("exit record", exit)).transpose()?;
    let health = container.health.as_ref().map(|health| encode("health", health)).transpose()?;
    let ports = encode("ports", &container.bound_ports)?;
    let replica = container.replica.as_ref();
    let sql = format!(
        "INSERT OR REPLACE INTO containers ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
    );
    connection
        .prepare_cached(&sql)
        .and_then(|mut statement| {
            statement.execute(params![
                container.id,
                container.name,
                spec,
                container.image_id,
                replica.map(|replica| &replica.stack),
                replica.map(|replica| &replica.service),
                replica.map_or(0, |replica| replica.number),
                replica.is_some_and(|replica| replica.oneoff),
                container.hash,
                phase,
                container.stopped_by_user,
                runtime,
                exit,
                health,
                ports,
                container.restart_count,
                container.error,
                container.created_at,
            ])
        })
        .map(drop)
        .map_err(StateError::on("write a container"))
}

/// Changes the phase alone: an intent before an effect, or its end.
pub fn set_phase(connection: &Connection, id: &str, phase: Phase) -> Result<(), StateError> {
    let phase = word(phase)?;
    let rows = connection
        .prepare_cached("UPDATE containers SET phase = ? WHERE id = ?")
        .and_then(|mut statement| statement.execute(params![phase, id]))
        .map_err(StateError::on("write a container's phase"))?;
    if rows == 0 {
        return Err(StateError::NotFound { kind: "container", id: id.to_owned() });
    }
    Ok(())
}

/// Removes the row, which is the last thing of a removal. Addresses and ports are given back by their own.
pub fn delete(connection: &Connection, id: &str) -> Result<(), StateError> {
    connection
        .execute("DELETE FROM containers WHERE id = ?", [id])
        .map(drop)
        .map_err(StateError::on("remove a container's row"))
}

pub fn get(connection: &Connection, id: &str) -> Result<Option<Container>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM containers WHERE id = ?");
    let raw = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_row([id], Raw::read).optional())
        .map_err(StateError::on("read a container"))?;
    raw.map(Raw::parse).transpose()
}

/// Returns all containers, oldest first.
pub fn list(connection: &Connection) -> Result<Vec<Container>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM containers ORDER BY created_at, id");
    let raw: Vec<Raw> = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_map([], Raw::read)?.collect())
        .map_err(StateError::on("list the containers"))?;
    raw.into_iter().map(Raw::parse).collect()
}

/// Returns those whose last effect may be half done, for recovery to resume or undo.
pub fn unfinished(connection: &Connection) -> Result<Vec<Container>, StateError> {
    Ok(list(connection)?.into_iter().filter(|container| container.phase.is_intent()).collect())
}

fn holder_of_name(connection: &Connection, name: &str) -> Result<Option<String>, StateError> {
    connection
        .prepare_cached("SELECT id FROM containers WHERE name = ?")
        .and_then(|mut statement| statement.query_row([name], |row| row.get(0)).optional())
        .map_err(StateError::on("look for a container's name"))
}

fn word(phase: Phase) -> Result<String, StateError> {
    encode("phase", &phase)
}

/// A row before its JSON is read.
struct Raw {
    container: Container,
    spec: String,
    phase: String,
    runtime: Option<String>,
    exit: Option<String>,
    health: Option<String>,
    ports: String,
}

impl Raw {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let replica = match (row.get(4)?, row.get(5)?) {
            (Some(stack), Some(service)) => {
                Some(Replica { stack, service, number: row.get(6)?, oneoff: row.get(7)? })
            }
            _ => None,
        };
        let container = Container {
            id: row.get(0)?,
            name: row.get(1)?,
            spec: ContainerSpec::default(),
            image_id: row.get(3)?,
            replica,
            hash: row.get(8)?,
            phase: Phase::Created,
            stopped_by_user: row.get(10)?,
            runtime: None,
            exit: None,
            health: None,
            bound_ports: Vec::new(),
            restart_count: row.get(15)?,
            error: row.get(16)?,
            created_at: row.get(17)?,
        };
        Ok(Self {
            container,
            spec: row.get(2)?,
            phase: row.get(9)?,
            runtime: row.get(11)?,
            exit: row.get(12)?,
            health: row.get(13)?,
            ports: row.get(14)?,
        })
    }

    fn parse(self) -> Result<Container, StateError> {
        Ok(Container {
            spec: decode("container spec", &self.spec)?,
            phase: decode("phase", &self.phase)?,
            runtime: self.runtime.map(|text| decode("runtime record", &text)).transpose()?,
            exit: self.exit.map(|text| decode("exit record", &text)).transpose()?,
            health: self.health.map(|text| decode("health", &text)).transpose()?,
            bound_ports: decode("ports", &self.ports)?,
            ..self.container
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use std::time::SystemTime;

    use super::*;
    use crate::engine::state::{Database, Durability};

    pub(in crate::engine::state) fn container(id: &str, name: &str) -> Container {
        Container {
            id: id.into(),
            name: name.into(),
            spec: ContainerSpec { image: "nginx".into(), ..ContainerSpec::default() },
            image_id: "sha256:i".into(),
            replica: Some(Replica {
                stack: "s".into(),
                service: "web".into(),
                number: 2,
                oneoff: false,
            }),
            hash: "h".into(),
            phase: Phase::Running,
            stopped_by_user: false,
            runtime: Some(Runtime {
                boot_id: "boot-1".into(),
                incarnation: 3,
                shim_pid: 4,
                shim_start_time: 5,
                pid: 6,
                start_time: 7,
                started_at: 8,
            }),
            exit: Some(Exit { incarnation: 2, code: 137, oom: true, at: 9 }),
            health: Some(Monitor::new(SystemTime::UNIX_EPOCH)),
            bound_ports: Vec::new(),
            restart_count: 2,
            error: Some("no such file".into()),
            created_at: 1,
        }
    }

    #[test]
    fn a_row_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("s"), folder.path()).unwrap();
        let written = container("1", "web");
        database.write(Durability::Power, |tx| put(tx, &written)).unwrap();
        let read = get(database.read(), "1").unwrap().unwrap();
        assert_eq!(read, written);
        assert!(read.is_from_another_boot("boot-2") && !read.is_from_another_boot("boot-1"));
    }

    #[test]
    fn a_name_has_one_holder() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("s"), folder.path()).unwrap();
        database.write(Durability::Process, |tx| put(tx, &container("1", "web"))).unwrap();
        let error =
            database.write(Durability::Process, |tx| put(tx, &container("2", "web"))).unwrap_err();
        assert!(matches!(error, StateError::NameTaken { by, .. } if by == "1"));
        assert_eq!(list(database.read()).unwrap().len(), 1);
    }

    #[test]
    fn an_intent_is_unfinished_until_its_end_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("s"), folder.path()).unwrap();
        let mut write = |work: &dyn Fn(&Connection) -> Result<(), StateError>| {
            database.write(Durability::Process, |tx| work(tx)).unwrap();
            unfinished(database.read()).unwrap().len()
        };
        assert_eq!(
            write(&|tx| put(tx, &Container { phase: Phase::Creating, ..container("1", "web") })),
            1
        );
        assert_eq!(write(&|tx| set_phase(tx, "1", Phase::Created)), 0);
        assert_eq!(write(&|tx| set_phase(tx, "1", Phase::Removing)), 1);
        assert_eq!(write(&|tx| delete(tx, "1")), 0);
        assert!(set_phase(database.read(), "1", Phase::Created).is_err());
    }
}
