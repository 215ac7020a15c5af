//! [`Engine`]: what it owns, how it starts, and the doors to its state that every verb uses.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::engine::check::Leaks;
use crate::engine::config::Config;
use crate::engine::containers::{Handle, execs::Execs};
use crate::engine::error::EngineError;
use crate::engine::events::{Actor, Bus, Event, Query};
use crate::engine::images::Images;
use crate::engine::limit_watch::LimitWatch;
use crate::engine::lock::RootLock;
use crate::engine::machine::Machine;
use crate::engine::networks::Networks;
use crate::engine::paths::Paths;
use crate::engine::stacks::Stacks;
use crate::engine::state::{self, Database, Durability, StateError};
use crate::images::Store;

/// Events that a late listener may still ask for.
const KEPT_EVENTS: u32 = 4096;

/// One engine: the owner of all that lies below its root.
#[derive(Debug)]
pub struct Engine {
    pub(crate) paths: Paths,
    pub(crate) config: Config,
    pub(crate) machine: Machine,
    pub(crate) store: Arc<Store>,
    pub(crate) bus: Bus,
    /// By id.
    pub(crate) containers: RwLock<BTreeMap<String, Arc<Handle>>>,
    pub(crate) execs: Execs,
    pub(crate) networks: Networks,
    pub(crate) images: Images,
    pub(crate) stacks: Stacks,
    /// Memory is about to be given back.
    trimming: AtomicBool,
    pub(crate) limit_watch: LimitWatch,
    pub(crate) leaks: Leaks,
    database: Mutex<Database>,
    _lock: RootLock,
}

impl Engine {
    /// Opens the engine's root, adopts what runs, and starts its loops. Needs a multi-threaded tokio runtime.
    ///
    /// # Errors
    /// Another engine has the root, its disk can't be used, or a kernel feature is missing.
    pub async fn open(paths: Paths, config: Config) -> Result<Arc<Self>, EngineError> {
        let program = std::env::current_exe().map_err(EngineError::io("find our own binary"))?;
        Self::open_with_program(paths, config, program).await
    }

    /// As [`Self::open`], for a process that is not our binary: `program` is the one that shims are made of.
    pub async fn open_with_program(
        paths: Paths,
        config: Config,
        program: PathBuf,
    ) -> Result<Arc<Self>, EngineError> {
        for folder in [paths.root(), paths.run()] {
            std::fs::create_dir_all(folder)
                .map_err(EngineError::io(format!("create the folder {}", folder.display())))?;
        }
        let holder = format!("pid {}", std::process::id());
        let lock = crate::engine::lock::take(&paths.lock(), &holder)?;
        let machine = Machine::read(program)?;
        let paths = crate::engine::home::settle(paths, &machine.cgroups)?;
        let database = Database::open(&paths.database(), paths.run())?;
        let past = state::events::since(database.read(), 0)?;
        let store = Arc::new(Store::open(paths.root())?);
        let networks = Networks::open(&paths, &config)?;
        let engine = Arc::new(Self {
            machine,
            store,
            bus: Bus::with_past(KEPT_EVENTS as usize, past),
            containers: RwLock::default(),
            execs: Execs::default(),
            networks,
            images: Images::default(),
            stacks: Stacks::default(),
            trimming: AtomicBool::new(false),
            limit_watch: LimitWatch::open().map_err(EngineError::io("watch cgroups"))?,
            leaks: Leaks::default(),
            database: Mutex::new(database),
            _lock: lock,
            paths,
            config,
        });
        engine.make_room_for_helpers()?;
        engine.limit_watch.start(Arc::downgrade(&engine));
        engine.load_containers()?;
        engine.restore_networks().await?;
        engine.recover_containers().await?;
        engine.watch_links();
        engine.watch_pins();
        engine.recover_volumes()?;
        engine.collect_leaks().await;
        engine.empty_trash();
        engine.start_stacks().await?;
        Ok(engine)
    }

    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Runs `work` in one transaction of the state database. `Durability::Power` waits for the disk.
    pub(crate) fn write<T, E: From<StateError>>(
        &self,
        durability: Durability,
        work: impl FnOnce(&state::Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        match durability {
            Durability::Process => self.database().write(durability, work),
            // Others' tasks go on while this thread waits for the disk.
            Durability::Power => {
                tokio::task::block_in_place(|| self.database().write(durability, work))
            }
        }
    }

    /// Reads the state database.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&state::Connection) -> T) -> T {
        work(self.database().read())
    }

    /// Returns once the state database can be used; a watchdog asks it.
    pub fn wait_for_database(&self) {
        drop(self.database());
    }

    /// Gives freed memory back to the kernel once the work of now is answered; many calls are one.
    pub(crate) fn give_memory_back_soon(self: &Arc<Self>) {
        if self.trimming.swap(true, Ordering::Relaxed) {
            return;
        }
        let engine = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if let Some(engine) = engine.upgrade() {
                engine.trimming.store(false, Ordering::Relaxed);
                crate::engine::sys::give_back_memory();
            }
        });
    }

    /// Where the state database is.
    pub(crate) fn state_place(&self) -> state::Place {
        self.database().place().clone()
    }

    fn database(&self) -> MutexGuard<'_, Database> {
        // A panic inside a transaction rolled it back.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the past events that the query wants, and a receiver of all later ones, to pass through
    /// [`Query::wants`].
    pub fn subscribe(&self, query: &Query) -> (Vec<Event>, broadcast::Receiver<Event>) {
        self.bus.subscribe(query)
    }

    /// Tells everybody what happened, and keeps it for those who ask later.
    /// Tells that what nobody used of a kind went, as docker does: even when nothing did.
    pub fn tell_prune(&self, kind: &str, reclaimed: u64) {
        let attributes = BTreeMap::from([("reclaimed".to_owned(), reclaimed.to_string())]);
        self.emit(kind, "prune", "", attributes);
    }

    pub(crate) fn emit(
        &self,
        kind: &str,
        action: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let actor = Actor { id: id.to_owned(), attributes };
        let event = Event::new(kind, action, actor, now());
        let kept =
            self.write(Durability::Process, |tx| state::events::append(tx, &event, KEPT_EVENTS));
        if let Err(error) = kept {
            tracing::warn!(%error, "an event is not kept for later");
        }
        self.bus.publish(event);
    }
}

/// Unix time in nanoseconds.
pub(crate) fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
