//! What the engine does when a container exits, or its shim dies.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::is_up;
use crate::engine::containers::Handle;
use crate::engine::containers::remove::RemoveOptions;
use crate::engine::containers::shim::Happening;
use crate::engine::core::{Engine, now};
use crate::engine::state::containers::Phase;
use crate::runtime::shim::exit;
use crate::runtime::shim::protocol::{Event, Exit};

/// Of SIGKILL: what a container is given whose shim died.
const KILLED: i32 = 137;

impl Engine {
    /// Returns the task that acts on what the shim of the container `id` tells. It keeps no engine alive.
    pub(in crate::engine::containers) fn follower(
        self: &Arc<Self>,
        id: &str,
    ) -> impl FnOnce(
        mpsc::UnboundedReceiver<Happening>,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
    + use<> {
        let (engine, id) = (Arc::downgrade(self), id.to_owned());
        move |mut happenings| {
            Box::pin(async move {
                while let Some(happening) = happenings.recv().await {
                    let Some(engine) = engine.upgrade() else { return };
                    let Some(handle) = engine.handle(&id) else { return };
                    match happening {
                        Happening::Event(Event::Exited(exit)) => engine.exited(&handle, exit).await,
                        Happening::Event(Event::Oom) => engine.announce(&handle.row(), "oom", &[]),
                        Happening::Event(Event::ExecExited { id, .. }) => {
                            engine.announce_exec_end(&handle.row(), &id);
                        }
                        Happening::Died(pid) => {
                            engine.shim_died(&handle, pid).await;
                            return;
                        }
                    }
                }
            })
        }
    }

    /// The shim `pid` is gone, and with it the container that it ran. A start that is under way sees it by itself.
    async fn shim_died(self: &Arc<Self>, handle: &Arc<Handle>, pid: i32) {
        if handle.shim().is_some_and(|shim| shim.pid() == pid) {
            handle.set_shim(None);
        }
        // A start that was answered just before writes down first that it runs, or nobody would hear of its end.
        drop(handle.turn.lock().await);
        let row = handle.row();
        let Some(runtime) = row.runtime.as_ref().filter(|runtime| runtime.shim_pid == pid) else {
            return;
        };
        if !is_up(row.phase) {
            return;
        }
        self.kill_orphans(handle).await;
        for exec in self.execs.abandon(handle.id(), KILLED) {
            self.announce_exec_end(&row, &exec);
        }
        self.exited(handle, self.missed_exit(handle.id(), runtime.incarnation)).await;
    }

    /// Returns the record that the shim left of this run, or what is known without one.
    pub(in crate::engine::containers) fn missed_exit(&self, id: &str, incarnation: u64) -> Exit {
        let run = self.paths.container_run(id);
        match exit::load(&run) {
            Ok(Some(exit)) if exit.incarnation == incarnation => exit,
            // An unreadable record is as good as none.
            _ => Exit { incarnation, code: KILLED, oom: false, at: now() },
        }
    }

    /// Writes an exit down and tells it, then restarts the container or lets it rest. Twice does no harm.
    pub(in crate::engine::containers) async fn exited(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
        exit: Exit,
    ) {
        let _turn = handle.turn.lock().await;
        let row = handle.row();
        let Some(runtime) = row.runtime.as_ref() else { return };
        if runtime.incarnation != exit.incarnation || !is_up(row.phase) {
            return;
        }
        if let Err(error) = self.unpublish_container(handle).await {
            tracing::warn!(
                container = handle.id(),
                error = error.full(),
                "ports or names are not free"
            );
            self.leaks.collect_soon();
        }
        let up_for = up_for(runtime.started_at, exit.at);
        let restart = self.decide_restart(&row, exit.code, up_for);
        if let Err(error) = self.note_job(&row, &exit) {
            tracing::error!(container = handle.id(), %error, "a finished job is not written down");
        }
        self.note(handle, |row| {
            row.phase = if restart.is_some() { Phase::Restarting } else { Phase::Exited };
            row.exit = Some(exit.clone());
            row.restart_count += u32::from(restart.is_some());
        });
        let attributes =
            [("exitCode", exit.code.to_string()), ("execDuration", up_for.as_secs().to_string())];
        self.announce(&handle.row(), "die", &attributes);
        match restart {
            Some(after) => self.restart_later(handle, after),
            None => self.rest_later(handle),
        }
    }

    /// Lets the shim go, or removes the container, unless a verb that waits for the exit starts it again.
    pub(super) fn rest_later(self: &Arc<Self>, handle: &Arc<Handle>) {
        let (engine, handle) = (Arc::clone(self), Arc::clone(handle));
        tokio::spawn(async move {
            let _verb = handle.verb.lock().await;
            let row = handle.row();
            if row.phase != Phase::Exited {
                return;
            }
            if row.spec.auto_remove {
                engine.remove_exited(&handle).await;
            } else if let Err(error) = engine.shut_shim(&handle).await {
                tracing::warn!(container = handle.id(), error = error.full(), "a shim stays");
                engine.leaks.collect_soon();
            }
        });
    }

    /// Removes a container that asked for it. The caller holds the lock.
    pub(super) async fn remove_exited(self: &Arc<Self>, handle: &Arc<Handle>) {
        let options = RemoveOptions { force: false, volumes: true };
        if let Err(error) = self.remove_locked(handle, options).await {
            tracing::warn!(
                container = handle.id(),
                error = error.full(),
                "a container is not removed after its exit"
            );
        }
    }
}

/// A clock that was set back counts as no time.
fn up_for(started_at: i64, ended_at: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ended_at - started_at).unwrap_or(0))
}
