//! Tags: which image a reference means. The images themselves are blobs of the content store.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StateError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Canonical, such as `docker.io/library/nginx:1`.
    pub reference: String,
    /// Digest of the manifest (or index) that the registry gave.
    pub manifest: String,
    /// Digest of the image's config.
    pub image_id: String,
    pub tagged_at: i64,
}

/// Sets a tag; one that pointed elsewhere moves.
pub fn tag(connection: &Connection, tag: &Tag) -> Result<(), StateError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO tags (reference, manifest, image_id, tagged_at) VALUES (?, ?, ?, ?)")
        .and_then(|mut statement| {
            statement.execute(params![tag.reference, tag.manifest, tag.image_id, tag.tagged_at])
        })
        .map(drop)
        .map_err(StateError::on("write a tag"))
}

/// Removes a tag and tells whether there was one.
pub fn untag(connection: &Connection, reference: &str) -> Result<bool, StateError> {
    connection
        .execute("DELETE FROM tags WHERE reference = ?", [reference])
        .map(|rows| rows > 0)
        .map_err(StateError::on("remove a tag"))
}

pub fn find(connection: &Connection, reference: &str) -> Result<Option<Tag>, StateError> {
    connection
        .prepare_cached(
            "SELECT reference, manifest, image_id, tagged_at FROM tags WHERE reference = ?",
        )
        .and_then(|mut statement| statement.query_row([reference], read).optional())
        .map_err(StateError::on("read a tag"))
}

/// Returns all tags, by reference.
pub fn list(connection: &Connection) -> Result<Vec<Tag>, StateError> {
    connection
        .prepare_cached(
            "SELECT reference, manifest, image_id, tagged_at FROM tags ORDER BY reference",
        )
        .and_then(|mut statement| statement.query_map([], read)?.collect())
        .map_err(StateError::on("list the tags"))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Tag> {
    Ok(Tag {
        reference: row.get(0)?,
        manifest: row.get(1)?,
        image_id: row.get(2)?,
        tagged_at: row.get(3)?,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;
    use crate::engine::state::{Database, Durability};

    #[test]
    fn a_tag_moves_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("s"), folder.path()).unwrap();
        let old =
            Tag { reference: "r".into(), manifest: "m".into(), image_id: "1".into(), tagged_at: 1 };
        let new = Tag { image_id: "2".into(), tagged_at: 2, ..old.clone() };
        database
            .write(Durability::Power, |tx| {
                tag(tx, &old)?;
                tag(tx, &new)?;
                assert_eq!(find(tx, "r")?, Some(new.clone()));
                assert!(untag(tx, "r")?);
                assert!(!untag(tx, "r")?);
                Ok::<_, StateError>(())
            })
            .unwrap();
    }
}
