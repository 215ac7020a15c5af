//! One container in memory.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::names;
use crate::engine::state::containers::{self, Container};
use crate::engine::state::{Durability, StateError};

/// Until the first try to write what the database could not take; doubled each time up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// What a watcher of a container sees.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub row: Arc<Container>,
    /// The container is gone; nothing changes any more.
    pub removed: bool,
}

/// One container. Its row here and in the database are the same.
#[derive(Debug)]
pub struct Handle {
    id: String,
    state: watch::Sender<Snapshot>,
    /// Held from reading the row to publishing the changed one.
    changing: std::sync::Mutex<()>,
    /// Held while a verb changes the container: one at a time, others wait.
    pub(crate) verb: Arc<tokio::sync::Mutex<()>>,
    /// Held while a start or an exit is told, so that their events come in order. Never held for a verb's whole time.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// The control connection to its shim, while there is one.
    pub(crate) shim: std::sync::Mutex<Option<Arc<crate::engine::containers::shim::Shim>>>,
}

impl Handle {
    pub(crate) fn new(row: Container) -> Self {
        let id = row.id.clone();
        let state = watch::Sender::new(Snapshot { row: Arc::new(row), removed: false });
        Self {
            id,
            state,
            changing: std::sync::Mutex::default(),
            verb: Arc::default(),
            turn: tokio::sync::Mutex::default(),
            shim: std::sync::Mutex::default(),
        }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn row(&self) -> Arc<Container> {
        Arc::clone(&self.state.borrow().row)
    }

    /// Lets the caller wait for changes.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.state.subscribe()
    }
}

impl Engine {
    /// Returns the container that `word` means: id, name or unique prefix of an id.
    pub fn container(&self, word: &str) -> Result<Arc<Handle>, EngineError> {
        let all = self.handles();
        let rows: Vec<_> = all.iter().map(|handle| handle.row()).collect();
        let pairs = rows.iter().map(|row| (row.id.as_str(), row.name.as_str()));
        let id = names::resolve("container", word, pairs).map_err(|error| match error {
            names::ResolveError::NotFound { word, .. } => EngineError::NoContainer { word },
            other => other.into(),
        })?;
        let found = all.iter().find(|handle| handle.id() == id);
        Ok(Arc::clone(found.expect("the id was one of theirs")))
    }

    /// Returns the container whose id is exactly `id`, if it is still there.
    pub(crate) fn handle(&self, id: &str) -> Option<Arc<Handle>> {
        self.containers.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Returns all containers, oldest first.
    pub fn handles(&self) -> Vec<Arc<Handle>> {
        let map = self.containers.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = map.values().cloned().collect();
        all.sort_by_key(|handle| (handle.row().created_at, handle.id().to_owned()));
        all
    }

    /// Adds a container whose row is in the database already.
    pub(crate) fn insert_handle(&self, row: Container) -> Arc<Handle> {
        let handle = Arc::new(Handle::new(row));
        let mut map = self.containers.write().unwrap_or_else(PoisonError::into_inner);
        map.insert(handle.id.clone(), Arc::clone(&handle));
        handle
    }

    /// Changes a container's row in the database, then here.
    pub(crate) fn change(
        &self,
        handle: &Handle,
        durability: Durability,
        change: impl FnOnce(&mut Container),
    ) -> Result<Arc<Container>, StateError> {
        let _changing = handle.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut row = Container::clone(&handle.row());
        change(&mut row);
        self.write(durability, |tx| containers::put(tx, &row))?;
        let row = Arc::new(row);
        handle.state.send_replace(Snapshot { row: Arc::clone(&row), removed: false });
        Ok(row)
    }

    /// As [`Engine::change`], for what has happened and can't be refused: when the database can't take it, it holds here
    /// at once and is written as soon as it can be. The next engine would find it out by itself.
    pub(crate) fn note(self: &Arc<Self>, handle: &Arc<Handle>, change: impl Fn(&mut Container)) {
        let Err(error) = self.change(handle, Durability::Process, &change) else { return };
        tracing::error!(container = handle.id, %error, "what happened is not written down yet");
        {
            let _changing = handle.changing.lock().unwrap_or_else(PoisonError::into_inner);
            handle.state.send_modify(|snapshot| change(Arc::make_mut(&mut snapshot.row)));
        }
        let (engine, handle) = (Arc::downgrade(self), Arc::clone(handle));
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                tokio::time::sleep(pause).await;
                // A removal deletes the row under this lock, and it must not come back.
                let _verb = handle.verb.lock().await;
                let Some(engine) = engine.upgrade() else { return };
                let is_gone = handle.state.borrow().removed;
                if is_gone || engine.change(&handle, Durability::Process, |_| ()).is_ok() {
                    return;
                }
                pause = (pause * 2).min(LAST_PAUSE);
            }
        });
    }

    /// Forgets a container whose row is gone from the database, and tells those who wait for it.
    pub(crate) fn forget_handle(&self, handle: &Handle) {
        let mut map = self.containers.write().unwrap_or_else(PoisonError::into_inner);
        map.remove(&handle.id);
        drop(map);
        handle.state.send_modify(|snapshot| snapshot.removed = true);
    }
}
