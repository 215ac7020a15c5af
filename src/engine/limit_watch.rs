//! Notices a limit that somebody else changed in a container's cgroup: inotify on the folders of its limit files.
//!
//! The kernel tells each write through the filesystem, on version 1 and 2; what the kernel itself changes is nobody's
//! drift. A notice only means "look again", so that a lost one costs no more than time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use crate::engine::core::Engine;
use crate::engine::sys;
use crate::runtime::cgroup;

/// The watches of one engine.
#[derive(Debug)]
pub(crate) struct LimitWatch {
    shared: Arc<Shared>,
    reader: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
struct Shared {
    inotify: AsyncFd<OwnedFd>,
    watches: Mutex<Watches>,
}

#[derive(Debug, Default)]
struct Watches {
    /// By watch descriptor, the container.
    containers: BTreeMap<i32, String>,
    /// The incarnation whose cgroup is watched.
    watched: BTreeMap<String, u64>,
}

impl LimitWatch {
    /// Needs a tokio runtime.
    pub(crate) fn open() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let shared = Shared { inotify: sys::readable(inotify)?, watches: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), reader: Mutex::default() })
    }

    /// Hands what is noticed to `engine`, until this is dropped.
    pub(crate) fn start(&self, engine: Weak<Engine>) {
        let reader = tokio::spawn(read(Arc::clone(&self.shared), engine)).abort_handle();
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader);
    }

    /// Watches the cgroup of one run of a container; again does nothing.
    pub(crate) fn watch(&self, container: &str, incarnation: u64, folders: &[PathBuf]) {
        let mut watches = self.shared.watches();
        if watches.watched.get(container) == Some(&incarnation) {
            return;
        }
        for folder in folders {
            match inotify::add_watch(self.shared.inotify.get_ref(), folder, WatchFlags::MODIFY) {
                Ok(watch) => drop(watches.containers.insert(watch, container.to_owned())),
                // A hierarchy that lacks it has no limits there. Without a watch the rare full check sees a change.
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "a change of limits is noticed late");
                }
            }
        }
        watches.watched.insert(container.to_owned(), incarnation);
    }
}

impl Drop for LimitWatch {
    fn drop(&mut self) {
        let reader = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = reader.take() {
            reader.abort();
        }
    }
}

impl Shared {
    fn watches(&self) -> std::sync::MutexGuard<'_, Watches> {
        // It is changed by single inserts and removals only.
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the containers whose limits somebody wrote.
    fn take_events(&self) -> BTreeSet<String> {
        let mut touched = BTreeSet::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
        // An error is EAGAIN: all is read.
        while let Ok(event) = events.next() {
            let mut watches = self.watches();
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                touched.extend(watches.containers.values().cloned());
            } else if event.events().contains(ReadFlags::IGNORED) {
                // The folder is gone, or is watched again under another number.
                if let Some(container) = watches.containers.remove(&event.wd())
                    && !watches.containers.values().any(|other| *other == container)
                {
                    watches.watched.remove(&container);
                }
            } else if let Some(container) = watches.containers.get(&event.wd())
                && event
                    .file_name()
                    .and_then(|name| name.to_str().ok())
                    .is_some_and(cgroup::is_limit_file)
            {
                touched.insert(container.clone());
            }
        }
        touched
    }
}

async fn read(shared: Arc<Shared>, engine: Weak<Engine>) {
    loop {
        let Ok(mut ready) = shared.inotify.readable().await else { return };
        // Cleared first: an event that comes while we read makes it ready again.
        ready.clear_ready();
        let touched = shared.take_events();
        let Some(engine) = engine.upgrade() else { return };
        for container in touched {
            engine.look_at_stack_of(&container);
        }
    }
}
