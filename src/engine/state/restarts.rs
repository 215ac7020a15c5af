//! How often something was restarted and when it may be again: it survives the engine, so that a new one
//! doesn't start a crash loop from zero.

use rusqlite::{Connection, OptionalExtension, params};

use super::StateError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// A container's id, or `stack/service.number` of a replica.
    pub subject: String,
    /// In a row.
    pub failures: u32,
    /// Of the next start; dependents remember the one they saw.
    pub incarnation: u32,
    /// When the next start is due.
    pub next_at: Option<i64>,
}

pub fn put(connection: &Connection, backoff: &Backoff) -> Result<(), StateError> {
    connection
        .execute(
            "INSERT OR REPLACE INTO restarts (subject, failures, incarnation, next_at) VALUES (?,?,?,?)",
            params![backoff.subject, backoff.failures, backoff.incarnation, backoff.next_at],
        )
        .map(drop)
        .map_err(StateError::on("write a backoff"))
}

pub fn get(connection: &Connection, subject: &str) -> Result<Option<Backoff>, StateError> {
    connection
        .prepare_cached(
            "SELECT subject, failures, incarnation, next_at FROM restarts WHERE subject = ?",
        )
        .and_then(|mut statement| {
            statement
                .query_row([subject], |row| {
                    Ok(Backoff {
                        subject: row.get(0)?,
                        failures: row.get(1)?,
                        incarnation: row.get(2)?,
                        next_at: row.get(3)?,
                    })
                })
                .optional()
        })
        .map_err(StateError::on("read a backoff"))
}

/// Forgets the failures, as an explicit `up` or `start` wants; the incarnation goes on counting.
pub fn reset(connection: &Connection, subject: &str) -> Result<(), StateError> {
    connection
        .execute("UPDATE restarts SET failures = 0, next_at = NULL WHERE subject = ?", [subject])
        .map(drop)
        .map_err(StateError::on("reset a backoff"))
}

/// Forgets all about something that is gone.
pub fn delete(connection: &Connection, subject: &str) -> Result<(), StateError> {
    connection
        .execute("DELETE FROM restarts WHERE subject = ?", [subject])
        .map(drop)
        .map_err(StateError::on("remove a backoff"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;
    use crate::engine::state::{Database, Durability};

    #[test]
    fn a_reset_keeps_the_incarnation() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("s"), folder.path()).unwrap();
        let backoff =
            Backoff { subject: "s/web.1".into(), failures: 4, incarnation: 9, next_at: Some(7) };
        database.write(Durability::Process, |tx| put(tx, &backoff)).unwrap();
        database.write(Durability::Process, |tx| reset(tx, "s/web.1")).unwrap();
        let expected = Backoff { failures: 0, next_at: None, ..backoff };
        assert_eq!(get(database.read(), "s/web.1").unwrap(), Some(expected));
    }
}
