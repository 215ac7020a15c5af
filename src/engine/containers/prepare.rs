//! What a start needs besides the bundle and may be gone after a boot.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::bundle::secrets;
use super::create::check_source;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::Container;
use crate::spec::container::MountKind;

impl Engine {
    /// Makes what a start needs besides the bundle and may be gone after a boot: run folder, sandbox,
    /// endpoints, mount sources. Doing it twice does no harm.
    pub(crate) async fn prepare_start(
        self: &Arc<Self>,
        handle: &super::Handle,
    ) -> Result<(), EngineError> {
        let row = handle.row();
        let run = self.paths.container_run(&row.id);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&run)
            .map_err(EngineError::io(format!("create the folder {}", run.display())))?;
        self.prepare_sources(&row)?;
        self.write_secrets(&row)?;
        self.connect_sandbox(handle).await
    }

    pub(super) fn prepare_sources(&self, row: &Container) -> Result<(), EngineError> {
        for mount in &row.spec.mounts {
            match &mount.kind {
                MountKind::Bind { source, create_host_path: true, .. } => {
                    if Path::new(source).symlink_metadata().is_err() {
                        fs::create_dir_all(source).map_err(EngineError::io(format!(
                            "create the folder {source} to bind on {}",
                            mount.target
                        )))?;
                    }
                }
                MountKind::Bind { source, .. } => check_source(source)?,
                MountKind::Volume { name, subpath, .. } => {
                    let name = name.as_deref().unwrap_or_default();
                    let folder = self.volume_source(name)?;
                    if !subpath.is_empty() {
                        check_inside(&folder, subpath, name)?;
                    }
                }
                MountKind::Tmpfs { .. } => {}
            }
        }
        Ok(())
    }

    /// Writes the secrets anew: they lie in the run folder, which the machine forgets.
    fn write_secrets(&self, row: &Container) -> Result<(), EngineError> {
        for (number, file) in secrets(&row.spec.files) {
            let path = self.secret(&row.id, number);
            let write = || -> io::Result<()> {
                let folder = path.parent().expect("a secret lies in a folder");
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
                let options = &mut OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                let mut made = options.open(&path)?;
                made.write_all(&file.content)?;
                chown(&path, Some(file.uid), Some(file.gid))?;
                made.set_permissions(fs::Permissions::from_mode(file.mode))
            };
            write().map_err(EngineError::io(format!("write the secret for {}", file.target)))?;
        }
        Ok(())
    }
}

/// Refuses a part of a volume that is missing. Init resolves it again in the same way and mounts what it finds.
fn check_inside(folder: &Path, subpath: &str, volume: &str) -> Result<(), EngineError> {
    let doing = || EngineError::io(format!("open {subpath} in the volume {volume}"));
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, folder, flags | OFlags::DIRECTORY, Mode::empty())
        .map_err(|error| doing()(error.into()))?;
    rustix::fs::openat2(&root, subpath, flags, Mode::empty(), ResolveFlags::IN_ROOT)
        .map(drop)
        .map_err(|error| doing()(error.into()))
}
