//! Stacks, what of them the user stopped, and jobs that are done.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StateError;
use crate::spec::name::ServiceName;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    pub name: String,
    /// Where it comes from; another source may not take the name.
    pub source: String,
    /// False after `down`, until the row goes.
    pub wanted: bool,
    /// Why its loop stands still, if it does.
    pub frozen: Option<String>,
    pub created_at: i64,
}

/// Inserts the stack or replaces what is known of it; its revisions stay.
pub fn put(connection: &Connection, stack: &Stack) -> Result<(), StateError> {
    connection
        .execute(
            "INSERT INTO stacks (name, source, wanted, frozen, created_at) VALUES (?,?,?,?,?) \
             ON CONFLICT (name) DO UPDATE SET source = excluded.source, wanted = excluded.wanted, \
             frozen = excluded.frozen",
            params![stack.name, stack.source, stack.wanted, stack.frozen, stack.created_at],
        )
        .map(drop)
        .map_err(StateError::on("write a stack"))
}

pub fn get(connection: &Connection, name: &str) -> Result<Option<Stack>, StateError> {
    connection
        .prepare_cached(
            "SELECT name, source, wanted, frozen, created_at FROM stacks WHERE name = ?",
        )
        .and_then(|mut statement| statement.query_row([name], read).optional())
        .map_err(StateError::on("read a stack"))
}

/// Returns all stacks, by name.
pub fn list(connection: &Connection) -> Result<Vec<Stack>, StateError> {
    connection
        .prepare_cached("SELECT name, source, wanted, frozen, created_at FROM stacks ORDER BY name")
        .and_then(|mut statement| statement.query_map([], read)?.collect())
        .map_err(StateError::on("list the stacks"))
}

/// Removes a stack with its revisions. Finished jobs stay: their data is in volumes, which stay too.
pub fn delete(connection: &Connection, name: &str) -> Result<(), StateError> {
    connection
        .execute("DELETE FROM stacks WHERE name = ?", [name])
        .map(drop)
        .map_err(StateError::on("remove a stack's row"))
}

/// Returns the replicas, by service and number, that the user stopped and that have no container.
pub fn dismissed(
    connection: &Connection,
    stack: &str,
) -> Result<BTreeSet<(String, u32)>, StateError> {
    connection
        .prepare_cached("SELECT service, number FROM dismissed WHERE stack = ?")
        .and_then(|mut statement| {
            statement.query_map([stack], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(StateError::on("list a stack's dismissed replicas"))
}

/// Records that the user stopped replicas that have no container: nothing makes them until they are asked for.
pub fn dismiss(
    connection: &Connection,
    stack: &str,
    replicas: &[(ServiceName, u32)],
) -> Result<(), StateError> {
    for (service, number) in replicas {
        connection
            .execute(
                "INSERT OR IGNORE INTO dismissed (stack, service, number) VALUES (?, ?, ?)",
                params![stack, service.as_str(), number],
            )
            .map_err(StateError::on("record a stopped replica"))?;
    }
    Ok(())
}

/// Forgets that replicas of `service` (of all services when `None`) were dismissed.
pub fn recall(
    connection: &Connection,
    stack: &str,
    service: Option<&str>,
) -> Result<(), StateError> {
    connection
        .execute(
            "DELETE FROM dismissed WHERE stack = ?1 AND (?2 IS NULL OR service = ?2)",
            params![stack, service],
        )
        .map(drop)
        .map_err(StateError::on("forget dismissed replicas"))
}

/// Records a job that ended well, by the digest of everything it was made of.
pub fn finish_job(
    connection: &Connection,
    stack: &str,
    service: &str,
    input: &str,
    at: i64,
) -> Result<(), StateError> {
    connection
        .execute(
            "INSERT OR REPLACE INTO jobs (stack, service, input, finished_at) VALUES (?,?,?,?)",
            params![stack, service, input, at],
        )
        .map(drop)
        .map_err(StateError::on("write a finished job"))
}

/// Returns when this very job ended well, if it did.
pub fn job_finished(
    connection: &Connection,
    stack: &str,
    service: &str,
    input: &str,
) -> Result<Option<i64>, StateError> {
    connection
        .prepare_cached(
            "SELECT finished_at FROM jobs WHERE stack = ? AND service = ? AND input = ?",
        )
        .and_then(|mut statement| {
            statement.query_row([stack, service, input], |row| row.get(0)).optional()
        })
        .map_err(StateError::on("read a finished job"))
}

/// Returns the finished jobs of a stack, as service and input.
pub fn jobs(
    connection: &Connection,
    stack: &str,
) -> Result<BTreeSet<(String, String)>, StateError> {
    connection
        .prepare_cached("SELECT service, input FROM jobs WHERE stack = ?")
        .and_then(|mut statement| {
            statement.query_map([stack], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(StateError::on("list a stack's finished jobs"))
}

/// Forgets all finished jobs of a stack: it was taken down.
pub fn forget_jobs(connection: &Connection, stack: &str) -> Result<(), StateError> {
    connection
        .execute("DELETE FROM jobs WHERE stack = ?", [stack])
        .map(drop)
        .map_err(StateError::on("forget finished jobs"))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Stack> {
    Ok(Stack {
        name: row.get(0)?,
        source: row.get(1)?,
        wanted: row.get(2)?,
        frozen: row.get(3)?,
        created_at: row.get(4)?,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;
    use crate::engine::state::{Database, Durability};

    #[test]
    fn only_a_replica_that_was_stopped_before_its_removal_is_dismissed() {
        use crate::engine::state::containers::{self, Replica};
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("s"), folder.path()).unwrap();
        let replica = |service: &str, oneoff| {
            Some(Replica { stack: "shop".into(), service: service.into(), number: 1, oneoff })
        };
        database
            .write(Durability::Process, |tx| {
                for (id, stopped, replica) in [
                    ("stopped", true, replica("web", false)),
                    ("killed", false, replica("db", false)),
                    ("run", true, replica("job", true)),
                    ("alone", true, None),
                ] {
                    let row = containers::tests::container(id, id);
                    containers::put(
                        tx,
                        &containers::Container { stopped_by_user: stopped, replica, ..row },
                    )?;
                    containers::delete(tx, id)?;
                }
                Ok::<_, StateError>(())
            })
            .unwrap();
        let found = dismissed(database.read(), "shop").unwrap();
        assert_eq!(found, BTreeSet::from([("web".to_owned(), 1)]));
        recall(database.read(), "shop", Some("web")).unwrap();
        assert!(dismissed(database.read(), "shop").unwrap().is_empty());
    }
}
