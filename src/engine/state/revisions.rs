//! Every revision of a stack that was applied.
//!
//! What a revision holds is its submitter's business: JSON with sources, used variables, the resolved stack
//! and the pinned digests, so that a boot needs no environment.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StateError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    pub entry: Entry,
    pub content: String,
}

/// A revision without its content, which may be large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub stack: String,
    /// From 1, without gaps.
    pub number: u32,
    /// Of the content; tells a revision that failed before.
    pub digest: String,
    pub outcome: Outcome,
    pub created_at: i64,
    /// Who asked for it, as the command line tells it.
    pub author: Option<String>,
    /// Why, in the words of who asked.
    pub message: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Applying,
    Good,
    Bad,
    /// Its new containers are not good: what was not replaced stays, until somebody asks again.
    Paused,
}

impl Outcome {
    pub fn word(self) -> &'static str {
        match self {
            Self::Applying => "applying",
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Paused => "paused",
        }
    }
}

/// A revision to be.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    pub stack: &'a str,
    pub digest: &'a str,
    pub content: &'a str,
    pub at: i64,
    pub author: Option<&'a str>,
    pub message: Option<&'a str>,
}

/// Adds a revision in the state `applying` and returns its number.
pub fn add(connection: &Connection, new: New<'_>) -> Result<u32, StateError> {
    connection
        .query_row(
            "INSERT INTO revisions (stack, number, digest, content, outcome, created_at, author, message) \
             SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3, 'applying', ?4, ?5, ?6 FROM revisions \
             WHERE stack = ?1 RETURNING number",
            params![new.stack, new.digest, new.content, new.at, new.author, new.message],
            |row| row.get(0),
        )
        .map_err(StateError::on("write a revision"))
}

pub fn set_outcome(
    connection: &Connection,
    stack: &str,
    number: u32,
    outcome: Outcome,
) -> Result<(), StateError> {
    connection
        .execute(
            "UPDATE revisions SET outcome = ? WHERE stack = ? AND number = ?",
            params![outcome.word(), stack, number],
        )
        .map(drop)
        .map_err(StateError::on("write a revision's outcome"))
}

/// Returns a stack's revisions, newest first.
pub fn list(connection: &Connection, stack: &str) -> Result<Vec<Entry>, StateError> {
    connection
        .prepare_cached(
            "SELECT stack, number, digest, outcome, created_at, author, message FROM revisions \
             WHERE stack = ? ORDER BY number DESC",
        )
        .and_then(|mut statement| statement.query_map([stack], read)?.collect())
        .map_err(StateError::on("list a stack's revisions"))
}

/// Returns a stack's newest revision.
pub fn latest(connection: &Connection, stack: &str) -> Result<Option<Revision>, StateError> {
    connection
        .prepare_cached(
            "SELECT stack, number, digest, outcome, created_at, author, message, content FROM revisions \
             WHERE stack = ? ORDER BY number DESC LIMIT 1",
        )
        .and_then(|mut statement| statement.query_row([stack], read_whole).optional())
        .map_err(StateError::on("read a stack's revision"))
}

/// Returns one revision of a stack.
pub fn get(
    connection: &Connection,
    stack: &str,
    number: u32,
) -> Result<Option<Revision>, StateError> {
    connection
        .prepare_cached(
            "SELECT stack, number, digest, outcome, created_at, author, message, content FROM revisions \
             WHERE stack = ? AND number = ?",
        )
        .and_then(|mut statement| statement.query_row(params![stack, number], read_whole).optional())
        .map_err(StateError::on("read a stack's revision"))
}

/// Replaces what a revision holds: the digests of images that were pulled for it are known only then.
pub fn set_content(
    connection: &Connection,
    stack: &str,
    number: u32,
    digest: &str,
    content: &str,
) -> Result<(), StateError> {
    connection
        .execute(
            "UPDATE revisions SET digest = ?, content = ? WHERE stack = ? AND number = ?",
            params![digest, content, stack, number],
        )
        .map(drop)
        .map_err(StateError::on("write a revision's content"))
}

fn read_whole(row: &Row<'_>) -> rusqlite::Result<Revision> {
    Ok(Revision { entry: read(row)?, content: row.get(7)? })
}

fn read(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let outcome = match row.get::<_, String>(3)?.as_str() {
        "good" => Outcome::Good,
        "bad" => Outcome::Bad,
        "paused" => Outcome::Paused,
        _ => Outcome::Applying,
    };
    Ok(Entry {
        stack: row.get(0)?,
        number: row.get(1)?,
        digest: row.get(2)?,
        outcome,
        created_at: row.get(4)?,
        author: row.get(5)?,
        message: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;
    use crate::engine::state::stacks::{self, Stack};
    use crate::engine::state::{Database, Durability};

    #[test]
    fn revisions_count_up_and_survive_a_change_of_their_stack() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("s"), folder.path()).unwrap();
        let stack = Stack {
            name: "s".into(),
            source: "/f".into(),
            wanted: true,
            frozen: None,
            created_at: 1,
        };
        let new = |digest, at, message| New {
            stack: "s",
            digest,
            content: "{}",
            at,
            author: Some("ann"),
            message,
        };
        database
            .write(Durability::Power, |tx| {
                stacks::put(tx, &stack)?;
                assert_eq!(add(tx, new("d1", 1, None))?, 1);
                set_outcome(tx, "s", 1, Outcome::Good)?;
                stacks::put(tx, &Stack { frozen: Some("flaps".into()), ..stack.clone() })?;
                assert_eq!(add(tx, new("d2", 2, Some("bigger cache")))?, 2);
                stacks::finish_job(tx, "s", "migrate", "x", 3)
            })
            .unwrap();
        let found = list(database.read(), "s").unwrap();
        let found: Vec<_> =
            found.iter().map(|it| (it.number, it.outcome, it.message.as_deref())).collect();
        assert_eq!(found, [(2, Outcome::Applying, Some("bigger cache")), (1, Outcome::Good, None)]);
        assert_eq!(
            get(database.read(), "s", 1).unwrap().unwrap().entry.author.as_deref(),
            Some("ann")
        );
        assert_eq!(get(database.read(), "s", 3).unwrap(), None);
        let kept = stacks::get(database.read(), "s").unwrap().unwrap();
        assert_eq!(kept.frozen.as_deref(), Some("flaps"));
        database.write(Durability::Power, |tx| stacks::delete(tx, "s")).unwrap();
        assert!(list(database.read(), "s").unwrap().is_empty());
        let finished = stacks::job_finished(database.read(), "s", "migrate", "x").unwrap();
        assert_eq!(finished, Some(3));
    }
}
