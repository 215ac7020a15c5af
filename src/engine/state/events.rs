//! Past events, for `events --since` and `why` after the engine was restarted.

use rusqlite::{Connection, params};

use super::StateError;
use super::database::{decode, encode};
use crate::engine::events::Event;

/// Appends an event and forgets all but the last `keep`.
pub fn append(connection: &Connection, event: &Event, keep: u32) -> Result<(), StateError> {
    let text = encode("event", event)?;
    let on = StateError::on("write an event");
    connection
        .prepare_cached("INSERT INTO events (at, event) VALUES (?, ?)")
        .and_then(|mut statement| statement.execute(params![event.time_nano, text]))
        .map_err(&on)?;
    connection
        .prepare_cached("DELETE FROM events WHERE serial <= ?")
        .and_then(|mut statement| {
            statement.execute([connection.last_insert_rowid() - i64::from(keep)])
        })
        .map(drop)
        .map_err(&on)
}

/// Returns the events from `since` on, oldest first.
pub fn since(connection: &Connection, since: i64) -> Result<Vec<Event>, StateError> {
    let texts: Vec<String> = connection
        .prepare_cached("SELECT event FROM events WHERE at >= ? ORDER BY serial")
        .and_then(|mut statement| statement.query_map([since], |row| row.get(0))?.collect())
        .map_err(StateError::on("read past events"))?;
    texts.iter().map(|text| decode("event", text)).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;
    use crate::engine::events::Actor;
    use crate::engine::state::{Database, Durability};

    #[test]
    fn only_the_last_events_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("s"), folder.path()).unwrap();
        for at in 1..=5 {
            let actor = Actor { id: "c".into(), attributes: [].into() };
            let event = Event::new("container", "start", actor, at);
            database.write(Durability::Process, |tx| append(tx, &event, 3)).unwrap();
        }
        let times = |from| -> Vec<i64> {
            since(database.read(), from).unwrap().iter().map(|event| event.time_nano).collect()
        };
        assert_eq!(times(0), [3, 4, 5]);
        assert_eq!(times(5), [5]);
    }
}
