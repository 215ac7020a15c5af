//! Getting a container's shim, and letting it go.

use std::os::unix::fs::DirBuilderExt;
use std::sync::{Arc, PoisonError};

use crate::engine::background;
use crate::engine::containers::Handle;
use crate::engine::containers::shim::{Place, Shim, ShimError};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::Container;
use crate::runtime::cgroup::Cgroup;

impl Handle {
    /// Returns the connection to the shim, if there is one.
    pub(in crate::engine) fn shim(&self) -> Option<Arc<Shim>> {
        self.shim.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(in crate::engine::containers) fn set_shim(&self, shim: Option<Arc<Shim>>) {
        *self.shim.lock().unwrap_or_else(PoisonError::into_inner) = shim;
    }

    /// Names the container in an error about its shim.
    pub(in crate::engine::containers) fn of_shim(&self, error: ShimError) -> EngineError {
        EngineError::Shim { id: self.id().to_owned(), source: error }
    }
}

impl Engine {
    /// Returns the container's shim, a new one if need be. The caller holds the `verb` lock.
    pub(in crate::engine::containers) async fn ensure_shim(
        self: &Arc<Self>,
        handle: &Handle,
    ) -> Result<Arc<Shim>, EngineError> {
        if let Some(shim) = handle.shim() {
            return Ok(shim);
        }
        let (bundle, run) =
            (self.paths.container(handle.id()), self.paths.container_run(handle.id()));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&run)
            .map_err(EngineError::io(format!("create the folder {}", run.display())))?;
        let follow = self.follower(handle.id());
        let cgroup = self.cgroup_of_helpers();
        let program = &self.machine.program;
        let place = Place { program, bundle: &bundle, run: &run, cgroup: cgroup.as_ref() };
        let shim = Shim::start(&place, self.execs.clone(), follow)
            .await
            .map_err(|error| handle.of_shim(error))?;
        handle.set_shim(Some(Arc::clone(&shim)));
        Ok(shim)
    }

    /// Ends the shim of a container that doesn't run: cgroup gone. The caller holds the lock.
    pub(crate) async fn shut_shim(self: &Arc<Self>, handle: &Handle) -> Result<(), EngineError> {
        let Some(shim) = handle.shim() else {
            // One that died between two verbs, or in the middle of a start, has left its cgroup.
            self.kill_orphans(handle).await;
            return Ok(());
        };
        match shim.shut_down().await {
            Ok(()) => {
                handle.set_shim(None);
                Ok(())
            }
            Err(ShimError::Gone { .. }) => {
                handle.set_shim(None);
                self.kill_orphans(handle).await;
                Ok(())
            }
            Err(error) => Err(handle.of_shim(error)),
        }
    }

    /// Removes the cgroup that the containers of this root lie in, after the last of them went.
    pub(in crate::engine) fn leave_cgroups(&self) {
        if self.handles().is_empty()
            && let Ok(parent) = Cgroup::open(&self.machine.cgroups, &self.paths.cgroup_parent())
        {
            parent.remove_if_empty();
            if Cgroup::open(&self.machine.cgroups, &self.paths.cgroup_parent()).is_ok() {
                self.leaks.collect_soon();
            }
        }
    }

    /// Opens the container's cgroup, if it is there.
    pub(in crate::engine) fn cgroup(&self, row: &Container) -> Option<Cgroup> {
        Cgroup::open(&self.machine.cgroups, &self.cgroup_of(row)).ok()
    }

    /// Kills whatever of the container lives without a shim, and removes its cgroup.
    pub(in crate::engine::containers) async fn kill_orphans(&self, handle: &Handle) {
        let id = handle.id();
        let Some(cgroup) = self.cgroup(&handle.row()) else { return };
        let cleared = background::run(move || {
            cgroup.kill()?;
            // Tasks that version 1 froze die only once they are thawed.
            let thawed = cgroup.thaw();
            cgroup.remove().and(thawed)
        });
        match cleared.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(container = id, %error, "a cgroup is left for now"),
            Err(error) => {
                tracing::warn!(container = id, error = error.full(), "a cgroup is left for now");
            }
        }
        if self.cgroup(&handle.row()).is_some() {
            self.leaks.collect_soon();
        }
    }
}
