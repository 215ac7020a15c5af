//! Room on the disk that the database has before it needs it: a full disk keeps no container from being stopped or
//! removed.
//!
//! Commits go to the write-ahead log, which is allocated ahead and never given back; a checkpoint overwrites pages of
//! the main file, which has spare ones (sqlite.org/wal.html, sqlite.org/pragma.html#pragma_freelist_count).

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

/// Bytes of the log. A checkpoint is tried each time that a quarter of it is used.
const LOG: i64 = 2 << 20;
const CHECKPOINT_PAGES: u32 = 128;
/// Bytes of spare pages, and how few are made more of when the database is opened.
const SPARE: u32 = 1 << 20;
const FEW_PAGES: u32 = 64;

/// Makes room for the database at `path`, as far as the disk has any.
pub(super) fn make(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    // Else a clean end would take the log away, and its room with it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    if let Err(error) = spare_pages(connection) {
        if error.sqlite_error_code() != Some(rusqlite::ErrorCode::DiskFull) {
            return Err(error);
        }
        tracing::warn!(path = %path.display(), "the disk is full: the database has no spare room");
    }
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if let Err(error) = allocate(Path::new(&log)) {
        tracing::warn!(%error, path = %path.display(), "the database's log has no room of its own");
    }
    Ok(())
}

fn spare_pages(connection: &Connection) -> rusqlite::Result<()> {
    let spare: u32 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if spare >= FEW_PAGES {
        return Ok(());
    }
    // Pages that are freed in the transaction that made them are never written.
    connection.execute_batch(&format!(
        "BEGIN; CREATE TABLE spare (room); INSERT INTO spare VALUES (zeroblob({SPARE})); COMMIT;"
    ))
    .inspect_err(|_| undo(connection))?;
    let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
    connection.query_row(checkpoint, [], |_| Ok(()))?;
    connection.execute_batch("DROP TABLE spare")
}

/// A statement that finds the disk full may leave its transaction open.
fn undo(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        tracing::debug!(%error, "SQLite rolled back by itself");
    }
}

/// Nothing that SQLite finds behind its last commit is valid, so the file may be longer.
fn allocate(log: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(log)?;
    match fallocate(&file, FallocateFlags::empty(), 0, LOG) {
        // Such as NFS; a full disk is then told by the write itself.
        Err(Errno::EOPNOTSUPP) => Ok(()),
        other => other.map_err(io::Error::from),
    }
}
