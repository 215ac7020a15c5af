//! Opening the database, its migrations, and its two kinds of commit.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::reserve;
use super::schema::MIGRATIONS;

/// The open database. Others are kept out by SQLite's exclusive locking mode.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    place: Place,
}

/// Where what we write ends up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Disk,
    /// The disk is read-only: a copy in the run folder, lost at the next boot.
    Copy {
        of: PathBuf,
        at: PathBuf,
    },
}

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the engine. For intents, written before their effect.
    Process,
    /// A loss of power, with all commits before it. For what a client is then told.
    Power,
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot open the database {}", path.display())]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("cannot create the database {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot copy the database of a read-only disk to {}", to.display())]
    Copy { to: PathBuf, source: io::Error },
    #[error("another process has the database {} open", path.display())]
    InUse { path: PathBuf },
    #[error("the database {} is of version {found}, this engine knows {known}: use a newer one", path.display())]
    TooNew { path: PathBuf, found: usize, known: usize },
    #[error(
        "the disk of the database {} is full ({free} bytes free): make room there, such as by `bargee system prune`",
        path.display()
    )]
    Full { path: PathBuf, free: u64 },
    #[error("cannot migrate the database {} from version {version}", path.display())]
    Migrate { path: PathBuf, version: usize, source: rusqlite::Error },
    #[error("cannot {action}")]
    Query { action: &'static str, source: rusqlite::Error },
    #[error("BUG: cannot write {what} as JSON")]
    Encode { what: &'static str, source: serde_json::Error },
    #[error("the database holds an unreadable {what}")]
    Decode { what: &'static str, source: serde_json::Error },
    #[error("the {kind} name {name} is already in use by {by}")]
    NameTaken { kind: &'static str, name: String, by: String },
    #[error("no such {kind}: {id}")]
    NotFound { kind: &'static str, id: String },
    #[error("subnet {subnet} overlaps {other}, {holder}")]
    SubnetTaken { subnet: ipnet::IpNet, other: ipnet::IpNet, holder: String },
    #[error("address {address} is in use by {holder}")]
    AddressTaken { address: std::net::IpAddr, holder: String },
    #[error("network {network} has no subnet that holds {address}")]
    AddressOutside { network: String, address: std::net::IpAddr },
    #[error(
        "network {network} has no free address in {subnet}: remove a container from it, or make it with a larger subnet"
    )]
    Exhausted { network: String, subnet: ipnet::IpNet },
    #[error("port {port}/{protocol} is already allocated to {holder}")]
    PortTaken { port: u16, protocol: &'static str, holder: String },
}

impl StateError {
    fn full(path: &Path) -> Self {
        let free = rustix::fs::statvfs(path).map_or(0, |disk| disk.f_bavail * disk.f_frsize);
        Self::Full { path: path.to_owned(), free }
    }

    /// Names what a statement was to do, for `map_err`.
    pub(super) fn on(action: &'static str) -> impl Fn(rusqlite::Error) -> StateError {
        move |source| StateError::Query { action, source }
    }
}

pub(super) fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<String, StateError> {
    serde_json::to_string(value).map_err(|source| StateError::Encode { what, source })
}

pub(super) fn decode<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StateError> {
    serde_json::from_str(text).map_err(|source| StateError::Decode { what, source })
}

impl Database {
    /// Opens the database at `path`, makes it if it's missing, and migrates it.
    ///
    /// On a read-only disk a copy in the folder `scratch` is used; [`Database::place`] tells.
    pub fn open(path: &Path, scratch: &Path) -> Result<Self, StateError> {
        Self::open_with(path, scratch, MIGRATIONS)
    }

    fn open_with(path: &Path, scratch: &Path, migrations: &[&str]) -> Result<Self, StateError> {
        let place = match create(path) {
            Ok(()) => Place::Disk,
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                let at = scratch.join("state-copy.db");
                copy(path, &at).map_err(|source| StateError::Copy { to: at.clone(), source })?;
                Place::Copy { of: path.to_owned(), at }
            }
            Err(source) => return Err(StateError::Create { path: path.to_owned(), source }),
        };
        let used = match &place {
            Place::Disk => path,
            Place::Copy { at, .. } => at,
        };
        let mut connection = connect(used).map_err(|source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy) => StateError::InUse { path: used.to_owned() },
            _ => StateError::Open { path: used.to_owned(), source },
        })?;
        migrate(&mut connection, used, migrations)?;
        if place == Place::Disk {
            reserve::make(&connection, used).map_err(StateError::on("make room"))?;
        }
        Ok(Self { connection, place })
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Runs `work` in one transaction; an error of it undoes all.
    pub fn write<T, E: From<StateError>>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        // In WAL mode NORMAL leaves the log unsynced at a commit; FULL syncs it, older commits included.
        let level = match durability {
            Durability::Process => "NORMAL",
            Durability::Power => "FULL",
        };
        self.connection
            .pragma_update(None, "synchronous", level)
            .map_err(StateError::on("set the durability"))?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(StateError::on("begin a transaction"))?;
        let answer = work(&transaction)?;
        let committed = transaction.commit();
        committed.map_err(|source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => StateError::full(self.used()),
            _ => StateError::Query { action: "commit a transaction", source },
        })?;
        Ok(answer)
    }

    fn used(&self) -> &Path {
        self.connection.path().map(Path::new).unwrap_or(Path::new("/"))
    }

    /// Gives the connection for reading; nobody else writes.
    pub fn read(&self) -> &Connection {
        &self.connection
    }
}

/// Makes the file with its mode before SQLite does, as it holds environments and secrets.
fn create(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map(drop)
}

/// Copies the database and its write-ahead log: commits that never reached the main file are in the log.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to.parent().unwrap_or(Path::new("/")))?;
    for suffix in ["", "-wal"] {
        let name = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let target = name(to);
        match std::fs::remove_file(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        create(&target)?;
        match std::fs::read(name(from)) {
            Ok(content) => std::fs::write(&target, content)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::remove_file(&target)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::ZERO)?;
    // Before WAL: an exclusive holder needs no `-shm` file, which a full disk could not give.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    // The lock is taken by the first access, not by the pragma.
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT;")?;
    Ok(connection)
}

/// Runs each missing step in a transaction of its own, with the new version in it.
fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
) -> Result<(), StateError> {
    let found: u32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(StateError::on("read the database's version"))?;
    let found = found as usize;
    if found > migrations.len() {
        return Err(StateError::TooNew { path: path.to_owned(), found, known: migrations.len() });
    }
    for (version, step) in migrations.iter().enumerate().skip(found) {
        let failed = |source| StateError::Migrate { path: path.to_owned(), version, source };
        let next = u32::try_from(version + 1).expect("there are fewer than 2^32 migrations");
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(step).map_err(failed)?;
        transaction.pragma_update(None, "user_version", next).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::engine::state::{images, restarts};

    fn tag(database: &mut Database, reference: &str) {
        let tag = images::Tag {
            reference: reference.into(),
            manifest: "sha256:m".into(),
            image_id: "sha256:i".into(),
            tagged_at: 1,
        };
        database.write(Durability::Process, |tx| images::tag(tx, &tag)).unwrap();
    }

    fn tags(database: &Database) -> Vec<String> {
        images::list(database.read()).unwrap().into_iter().map(|tag| tag.reference).collect()
    }

    #[test]
    fn the_file_is_private_and_a_second_process_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let mut database = Database::open(&path, folder.path()).unwrap();
        tag(&mut database, "a");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!folder.path().join("state.db-shm").exists());
        assert!(matches!(Database::open(&path, folder.path()), Err(StateError::InUse { .. })));
    }

    /// Also runs as the victim of the next test, which names the folder in the environment.
    #[test]
    fn a_killed_writer_loses_nothing_that_it_committed() {
        const FOLDER: &str = "BARGEE_TEST_STATE_VICTIM";
        if let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) {
            let mut database = Database::open(&folder.join("state.db"), &folder).unwrap();
            tag(&mut database, "committed");
            let _: Result<(), StateError> = database.write(Durability::Process, |tx| {
                tx.execute("DELETE FROM tags", []).unwrap();
                std::fs::write(folder.join("ready"), "").unwrap();
                loop {
                    std::thread::park();
                }
            });
        }
        let folder = tempfile::tempdir().unwrap();
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "engine::state::database::tests::a_killed_writer_loses_nothing_that_it_committed",
            ])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while !folder.path().join("ready").exists() {
            assert!(victim.try_wait().unwrap().is_none(), "the victim ended by itself");
            std::thread::yield_now();
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        let database = Database::open(&folder.path().join("state.db"), folder.path()).unwrap();
        assert_eq!(tags(&database), ["committed"]);
    }

    #[test]
    fn an_older_database_is_migrated_and_a_newer_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let mut database = Database::open(&path, folder.path()).unwrap();
        tag(&mut database, "old");
        drop(database);
        let longer =
            [MIGRATIONS, &["ALTER TABLE tags ADD COLUMN note TEXT NOT NULL DEFAULT 'new'"]]
                .concat();
        let database = Database::open_with(&path, folder.path(), &longer).unwrap();
        let note: String =
            database.read().query_row("SELECT note FROM tags", [], |row| row.get(0)).unwrap();
        assert_eq!(note, "new");
        drop(database);
        let refused = Database::open(&path, folder.path()).unwrap_err();
        let StateError::TooNew { found, known, .. } = &refused else { panic!("{refused}") };
        assert_eq!(*found, known + 1);
    }

    #[test]
    fn a_failed_migration_leaves_the_version_it_came_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        drop(Database::open(&path, folder.path()).unwrap());
        let broken = [MIGRATIONS, &["CREATE TABLE half (a); SELECT nonsense"]].concat();
        let error = Database::open_with(&path, folder.path(), &broken).unwrap_err();
        let StateError::Migrate { version, .. } = &error else { panic!("{error}") };
        assert_eq!(*version, MIGRATIONS.len());
        drop(Database::open(&path, folder.path()).unwrap());
    }

    #[test]
    fn an_error_undoes_the_whole_transaction() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("state.db"), folder.path()).unwrap();
        tag(&mut database, "kept");
        let result: Result<(), StateError> = database.write(Durability::Power, |tx| {
            images::untag(tx, "kept")?;
            restarts::reset(tx, "x")?;
            Err(StateError::NotFound { kind: "image", id: "y".into() })
        });
        assert!(result.is_err());
        assert_eq!(tags(&database), ["kept"]);
    }

    #[test]
    fn on_a_read_only_disk_a_copy_is_used_and_told() {
        // The unshared thread's mounts vanish with it; without privilege there is nothing to try.
        if !nix::unistd::geteuid().is_root()
            || std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNS)).join().unwrap().is_err()
        {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                let none = None::<&str>;
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
                mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), none).unwrap();
                let path = folder.path().join("state.db");
                let mut database = Database::open(&path, scratch.path()).unwrap();
                assert_eq!(database.place(), &Place::Disk);
                tag(&mut database, "a");
                drop(database);
                mount(none, folder.path(), none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)
                    .unwrap();
                let mut database = Database::open(&path, scratch.path()).unwrap();
                assert!(matches!(database.place(), Place::Copy { of, .. } if *of == path));
                tag(&mut database, "b");
                assert_eq!(tags(&database), ["a", "b"]);
            });
        });
    }
}
