//! Opening the files that a container's processes see, whether it runs or not.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use oci_spec::runtime::Mount;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::OwnedMutexGuard;

use crate::engine::background;
use crate::engine::containers::bundle::lookups;
use crate::engine::containers::layered::Root;
use crate::engine::containers::lifecycle::is_up;
use crate::engine::containers::shim::start_time;
use crate::engine::containers::{Handle, Snapshot};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::{Container, Phase, Runtime};
use crate::engine::translate::ResolvedMount;
use crate::runtime::mounted::{self, Mounted};

/// The files of a container. While they are open, a container that does not run stays so.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) handle: Arc<Handle>,
    pub(super) row: Arc<Container>,
    pub(super) root: Root,
    /// Fields are dropped in order: the mounts go before another verb may begin.
    _namespace: Option<OwnedFd>,
    verb: Option<OwnedMutexGuard<()>>,
}

/// Whether a container can't be started or removed while its files are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    Free,
    Held,
}

impl Hold {
    pub(super) fn by(verb: Option<&OwnedMutexGuard<()>>) -> Self {
        if verb.is_some() { Self::Held } else { Self::Free }
    }
}

impl Files {
    pub(super) fn hold(&self) -> Hold {
        Hold::by(self.verb.as_ref())
    }

    /// Fails when the container was removed since it was opened, and its files with it.
    pub(super) fn check_whole(&self) -> std::io::Result<()> {
        check_whole(&self.handle)
    }
}

/// Fails when a container was removed while its files were read: some were missed then.
pub(super) fn check_whole(handle: &Handle) -> std::io::Result<()> {
    let Snapshot { row, removed } = handle.watch().borrow().clone();
    if removed || row.phase == Phase::Removing {
        let message = format!("container {} was removed meanwhile", row.id);
        return Err(std::io::Error::other(message));
    }
    Ok(())
}

impl Engine {
    pub(super) async fn open_files(self: &Arc<Self>, word: &str) -> Result<Files, EngineError> {
        let handle = self.container(word)?;
        let verb = match self.hold_still(&handle).await? {
            Stillness::Runs(row, root) => {
                return Ok(Files { handle, row, root, _namespace: None, verb: None });
            }
            Stillness::Held(verb) => verb,
        };
        // One that waits for its restart still has its root mounted by the shim.
        self.shut_shim(&handle).await?;
        let row = handle.row();
        let (engine, of) = (Arc::clone(self), Arc::clone(&row));
        let mounted = background::run(move || engine.mount_files(&of)).await??;
        let Mounted { root, namespace } = mounted;
        let root = Root::of(root);
        Ok(Files { handle, row, root, _namespace: Some(namespace), verb: Some(verb) })
    }

    /// Returns the root of a container that runs, or the lock that keeps it from being started.
    pub(super) async fn hold_still(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
    ) -> Result<Stillness, EngineError> {
        let mut state = handle.watch();
        loop {
            let Snapshot { row, removed } = state.borrow_and_update().clone();
            if removed {
                return Err(EngineError::NoContainer { word: row.id.clone() });
            }
            if is_up(row.phase) {
                if let Some(root) = row.runtime.as_ref().map(root_of).transpose()?.flatten() {
                    return Ok(Stillness::Runs(row, root));
                }
                // Its exit is about to be told.
                if state.changed().await.is_err() {
                    return Err(EngineError::NoContainer { word: row.id.clone() });
                }
                continue;
            }
            let verb = Arc::clone(&handle.verb).lock_owned().await;
            match handle.row().phase {
                Phase::Created | Phase::Exited | Phase::Restarting => {
                    return Ok(Stillness::Held(verb));
                }
                Phase::Creating | Phase::Removing => {
                    let message = format!(
                        "the files of container {} can't be reached while it is created or removed",
                        row.id
                    );
                    return Err(EngineError::Conflict { message });
                }
                // It was started while we waited.
                _ => {}
            }
        }
    }

    fn mount_files(&self, row: &Container) -> Result<Mounted, EngineError> {
        self.prepare_sources(row)?;
        let mut asked: Vec<ResolvedMount> = self.resolved_mounts(row)?;
        // What is in memory is empty now, and some files of ours are made at the first start.
        asked.retain(|mount| mount.kind == "bind" && Path::new(&mount.source).exists());
        // A mount below another one must come after it.
        asked.sort_by_key(|mount| mount.target.matches('/').count());
        let sources = lookups(&asked);
        let mounts = asked.into_iter().map(|asked| {
            let mut mount = Mount::default();
            mount.set_destination(asked.target.into()).set_typ(Some(asked.kind));
            mount.set_source(Some(asked.source.into())).set_options(Some(asked.options));
            mount
        });
        let rootfs = self.rootfs_of(row)?;
        let target = self.paths.container(&row.id).join("rootfs");
        let read_only = row.spec.read_only;
        let mounted = mounted::mount(&rootfs, mounts.collect(), &sources, read_only, &target);
        mounted.map_err(|error| {
            let doing = format!("mount the files of container {}", row.id);
            EngineError::Io { doing, source: std::io::Error::other(error) }
        })
    }
}

/// How a container is kept from changing under a reader.
pub(super) enum Stillness {
    /// It runs, and this is what its init sees.
    Runs(Arc<Container>, Root),
    /// It does not, and can't be started while the guard lives.
    Held(OwnedMutexGuard<()>),
}

/// Opens the root of a process; `None` when it has ended.
fn root_of(runtime: &Runtime) -> Result<Option<Root>, EngineError> {
    let path = format!("/proc/{}/root", runtime.pid);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        Err(error) => return Err(EngineError::io(format!("open {path}"))(error.into())),
    };
    // The number may be another process's by now.
    let is_it = start_time(runtime.pid).is_ok_and(|time| time == runtime.start_time);
    Ok(is_it.then(|| Root::of(root)))
}
