//! `commit`: an image of a container's image and what the container changed.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::stat_of;
use super::changes::{Change, ChangeKind};
use super::open::{Stillness, check_whole};
use crate::archive::Packer;
use crate::engine::background;
use crate::engine::containers::Handle;
use crate::engine::containers::layered::{Found, Root};
use crate::engine::core::{Engine, now};
use crate::engine::error::{EngineError, Kind};
use crate::engine::images::RunConfig;
use crate::engine::merge::{self, ImageFacts};
use crate::engine::state::containers::{Container, Phase};
use crate::images::StoreError;
use crate::images::commit::{CommitOptions, over};
use crate::images::config::Empty;
use crate::images::import::apply_changes;
use crate::spec::container::{ContainerSpec, MountKind};
use crate::spec::digest::Digest;

/// What an image is to be made of.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    pub container: String,
    /// The name to give it.
    pub reference: Option<String>,
    pub author: Option<String>,
    pub comment: Option<String>,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Stops its processes while its files are read.
    pub pause: bool,
    /// What the image's configuration says before the container's own.
    pub config: ContainerSpec,
}

impl Engine {
    /// Makes the image and returns its id.
    pub async fn commit_container(
        self: &Arc<Self>,
        request: CommitRequest,
    ) -> Result<String, EngineError> {
        let handle = self.container(&request.container)?;
        let engine = Arc::clone(self);
        // A client that leaves must not leave the container paused.
        tokio::spawn(async move { engine.commit_now(&handle, request).await })
            .await
            .unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
    }

    async fn commit_now(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
        request: CommitRequest,
    ) -> Result<String, EngineError> {
        let still = self.hold_still(handle).await?;
        let row = handle.row();
        let pause =
            request.pause && matches!(still, Stillness::Runs(..)) && row.phase != Phase::Paused;
        if pause {
            self.pause_container(handle.id()).await?;
        }
        let (engine, of) = (Arc::clone(self), Arc::clone(handle));
        let made = background::run(move || engine.image_of_changes(&of, &request)).await;
        if pause {
            match self.unpause_container(handle.id()).await {
                // It was killed or removed meanwhile.
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                other => other?,
            }
        }
        drop(still);
        made?
    }

    fn image_of_changes(
        &self,
        handle: &Handle,
        request: &CommitRequest,
    ) -> Result<String, EngineError> {
        let row = handle.row();
        // The base stays at least as long as the container's row names it.
        let base = Digest::try_from(row.image_id.as_str())
            .map_err(|_| EngineError::NoImage { reference: row.image_id.clone() })?;
        let facts = self.image_of(&row.image_id)?.facts.clone();
        let mut new = run_config(&request.config, &ImageFacts::default());
        apply_changes(&mut new, &request.changes).map_err(StoreError::from)?;
        let options = CommitOptions {
            author: request.author.clone(),
            comment: request.comment.clone(),
            created: jiff::Timestamp::from_nanosecond(now().into())
                .expect("the clock is within the ten thousand years that a timestamp has")
                .to_string(),
            created_by: merge::arguments(&row.spec, &facts).join(" "),
            run: over(new, run_config(&row.spec, &facts)),
        };
        let changes = self.changes_of(&row)?;
        let upper = self.paths.container(&row.id).join("upper");
        let layer = |output: &mut dyn Write| {
            pack(&upper, &changes, output)?;
            check_whole(handle)
        };
        let layer = (!changes.is_empty()).then_some(layer);
        let id = self.extend_image(&base, layer, &options, request.reference.as_deref())?;
        self.tell_commit(&row, &id, request);
        Ok(id)
    }

    fn tell_commit(&self, row: &Container, id: &str, request: &CommitRequest) {
        let attributes = [
            ("comment", request.comment.clone().unwrap_or_default()),
            ("imageID", id.to_owned()),
            ("imageRef", request.reference.clone().unwrap_or_default()),
        ];
        self.announce(row, "commit", &attributes);
    }
}

/// Writes changes as a layer (OCI image spec, `layer.md`).
fn pack(upper: &Path, changes: &[Change], output: &mut dyn Write) -> io::Result<()> {
    let root = Root::open(&[upper])?;
    let mut packer = Packer::new(output);
    for change in changes {
        let name = change.path.strip_prefix("/").unwrap_or(&change.path);
        if change.kind == ChangeKind::Deleted {
            packer.mark(whiteout(name).as_os_str().as_bytes())?;
            continue;
        }
        match root.entry(&change.path)? {
            Some(found @ Found::Folder(_)) => {
                packer.folder(&stat_of(&found)?, &[name.as_os_str().as_bytes(), b"/"].concat())?;
            }
            Some(Found::File { folder, name: own, stat }) => {
                packer.file(folder.as_fd(), &own, &stat, name.as_os_str().as_bytes())?;
            }
            // Without a pause a program may have removed it since.
            None => {}
        }
    }
    packer.finish().map(drop)
}

fn whiteout(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".wh.");
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// Returns what an image says of the containers that are to be like this one.
fn run_config(spec: &ContainerSpec, facts: &ImageFacts) -> RunConfig {
    let set = |keys: Vec<&String>| keys.into_iter().map(|key| (key.clone(), Empty {})).collect();
    let (entrypoint, cmd) = merge::program(spec, facts);
    let some = |words: Vec<String>| (!words.is_empty()).then_some(words);
    let anonymous = spec.mounts.iter().filter_map(|mount| match mount.kind {
        MountKind::Volume { name: None, .. } => Some(&mount.target),
        _ => None,
    });
    RunConfig {
        user: merge::user(spec, facts).to_owned(),
        exposed_ports: set(facts.exposed.iter().chain(&spec.exposed).collect()),
        env: merge::own_environment(spec, facts),
        entrypoint: some(entrypoint),
        cmd: some(cmd),
        volumes: set(facts.volumes.iter().chain(anonymous).collect()),
        working_dir: spec.working_dir.clone().unwrap_or_else(|| facts.workdir.clone()),
        labels: merge::labels(spec, facts),
        stop_signal: spec.stop_signal.clone().or_else(|| facts.stop_signal.clone()),
        healthcheck: spec.healthcheck.as_ref().or(facts.healthcheck.as_ref()).map(Into::into),
        on_build: Vec::new(),
        shell: None,
    }
}
