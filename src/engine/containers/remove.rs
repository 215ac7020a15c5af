//! Removing a container with everything that is its own.

use std::sync::Arc;

use super::Handle;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::{self, Container, Phase};
use crate::engine::state::{Durability, restarts, volumes};
use crate::spec::container::MountKind;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
}

impl Engine {
    /// Removes a container: kills (`force`), gives name, addresses and ports back, and clears its folders in the
    /// background. A removal that a crash interrupted goes on from where it was.
    pub async fn remove_container(
        self: &Arc<Self>,
        word: &str,
        options: RemoveOptions,
    ) -> Result<(), EngineError> {
        let handle = self.container(word)?;
        let _verb = match handle.verb.try_lock() {
            Ok(verb) => verb,
            Err(_) => {
                if options.force {
                    // A stop that waits for its grace ends at once.
                    self.cut_short(&handle).await?;
                }
                handle.verb.lock().await
            }
        };
        if handle.watch().borrow().removed {
            // Another removal was first.
            return Err(EngineError::NoContainer { word: word.to_owned() });
        }
        self.remove_locked(&handle, options).await
    }

    /// As [`Engine::remove_container`], for a caller that holds the `verb` lock: an exit with `--rm`, recovery.
    pub(crate) async fn remove_locked(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
        options: RemoveOptions,
    ) -> Result<(), EngineError> {
        let row = handle.row();
        if let Some(state) = alive(&row)
            && !options.force
        {
            return Err(EngineError::Conflict { message: still_alive(&row, state) });
        }
        if alive(&row).is_some() {
            self.kill_and_wait(handle).await?;
        }
        if row.phase == Phase::Creating {
            self.undo_creation(&row)?;
            self.forget_handle(handle);
            return Ok(());
        }
        let row = self.change(handle, Durability::Process, |row| row.phase = Phase::Removing)?;
        self.shut_shim(handle).await?;
        self.remove_sandbox(&row.id).await?;
        let run = self.paths.container_run(&row.id);
        match std::fs::remove_dir_all(&run) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(EngineError::io(format!("remove {}", run.display()))(error));
            }
            _ => {}
        }
        self.discard(&self.paths.container(&row.id))?;
        let durability = if row.spec.auto_remove { Durability::Process } else { Durability::Power };
        self.write::<_, EngineError>(durability, |tx| {
            self.release_endpoints(tx, &row.id)?;
            restarts::delete(tx, &row.id)?;
            Ok(containers::delete(tx, &row.id)?)
        })?;
        self.announce(&row, "destroy", &[]);
        self.forget_handle(handle);
        if self.cgroup(&row).is_some() {
            self.leaks.collect_soon();
        } else {
            self.forget_cgroup(&row.id)?;
        }
        self.leave_cgroups();
        if options.volumes {
            self.remove_anonymous_volumes(&row).await?;
        }
        Ok(())
    }

    async fn remove_anonymous_volumes(&self, row: &Container) -> Result<(), EngineError> {
        for mount in &row.spec.mounts {
            let MountKind::Volume { name: Some(name), .. } = &mount.kind else { continue };
            let anonymous = self.read(|db| volumes::get(db, name))?;
            if !anonymous.is_some_and(|volume| volume.anonymous) {
                continue;
            }
            match self.remove_volume(name, true).await {
                // Another container took it over with `--volumes-from`.
                Err(EngineError::Conflict { .. }) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// Returns docker's word for what a container does that keeps it from being removed.
fn alive(row: &Container) -> Option<&'static str> {
    match row.phase {
        Phase::Starting | Phase::Running | Phase::Stopping => Some("running"),
        Phase::Paused => Some("paused"),
        Phase::Restarting => Some("restarting"),
        Phase::Creating | Phase::Created | Phase::Exited | Phase::Removing => None,
    }
}

fn still_alive(row: &Container, state: &str) -> String {
    let what = format!("cannot remove container \"/{}\": container is {state}", row.name);
    match state {
        "paused" => format!("{what} and must be unpaused first"),
        _ => format!("{what}: stop the container before removing or force remove"),
    }
}
