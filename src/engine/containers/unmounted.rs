//! Notices that somebody unmounted a container's root or one of its mounts from outside, and restarts the container:
//! a program that has lost its files can't be given them back, while a new run finds all as it was.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::Handle;
use super::lifecycle::{By, StopOptions};
use crate::engine::core::Engine;
use crate::engine::mount_watch::MountWatch;

impl Engine {
    /// Watches the mounts of the container's present run to its end. Holds no engine while it waits.
    pub(super) fn watch_mounts(self: &Arc<Self>, handle: &Arc<Handle>) {
        let row = handle.row();
        // A program that may unmount something itself (capabilities(7)) knows what it does.
        if row.spec.adds_capability("SYS_ADMIN") {
            return;
        }
        let Some(runtime) = &row.runtime else { return };
        let mountinfo = PathBuf::from(format!("/proc/{}/mountinfo", runtime.pid));
        // One that has ended already has no mounts to lose.
        let Ok(watch) = MountWatch::open(&mountinfo) else { return };
        let Ok(present) = mount_points(&mountinfo) else { return };
        let targets = row.spec.mounts.iter().map(|mount| mount.target.clone());
        let mut wanted: BTreeSet<String> = targets.chain(["/".to_owned()]).collect();
        wanted.retain(|target| present.contains(target));
        let run = runtime.incarnation;
        let (engine, id) = (Arc::downgrade(self), handle.id().to_owned());
        let mut ended = handle.watch();
        tokio::spawn(async move {
            let is_over = ended.wait_for(|state| {
                let run_of = state.row.runtime.as_ref().map(|runtime| runtime.incarnation);
                state.removed || !super::lifecycle::is_up(state.row.phase) || run_of != Some(run)
            });
            let lost = tokio::select! {
                // Nothing is kept by either that matters after the other.
                _ = is_over => return,
                lost = first_loss(watch, &mountinfo, &wanted) => lost,
            };
            if let Some(lost) = lost {
                restart(&engine, &id, run, &lost).await;
            }
        });
    }
}

/// Returns the first mount of `wanted` that goes; `None` when the process ends.
async fn first_loss(
    mut watch: MountWatch,
    mountinfo: &Path,
    wanted: &BTreeSet<String>,
) -> Option<String> {
    loop {
        watch.next().await.ok()?;
        let present = mount_points(mountinfo).ok()?;
        if let Some(lost) = wanted.iter().find(|target| !present.contains(*target)) {
            // The mounts of a process that ends go too, and its end is told in its own way.
            return mountinfo.with_file_name("root").read_link().is_ok().then(|| lost.clone());
        }
    }
}

async fn restart(engine: &Weak<Engine>, id: &str, run: u64, lost: &str) {
    let Some(engine) = engine.upgrade() else { return };
    let Some(handle) = engine.handle(id) else { return };
    let run_of = handle.row().runtime.as_ref().map(|runtime| runtime.incarnation);
    if run_of != Some(run) {
        return;
    }
    tracing::warn!(container = id, lost, "somebody unmounted it; the container is restarted");
    engine.announce(&handle.row(), "repair", &[("unmounted", lost.to_owned())]);
    // Without its files a program may not be able to obey.
    let options = StopOptions { signal: None, grace: Some(0), drain: None };
    if let Err(error) = engine.restart_container(id, &options, By::Plan).await {
        tracing::error!(container = id, error = error.full(), "not restarted after a lost mount");
    }
}

/// Returns where a process has something mounted: field 5 of each line, in which odd letters are octal.
fn mount_points(mountinfo: &Path) -> std::io::Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(mountinfo)?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.map(|point| point.replace("\\040", " ").replace("\\011", "\t")).collect())
}
