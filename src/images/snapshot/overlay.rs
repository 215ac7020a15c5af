//! Overlay snapshots: shared layer folders below, a container's own `upper` and `work` above.
//! Paths only: mounting is the runtime's.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// From the top down, as overlayfs's `lowerdir` wants them.
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot prepare the snapshot folder {}", path.display())]
pub struct SnapshotError {
    pub path: PathBuf,
    pub source: io::Error,
}

/// Makes a fresh `upper` and `work` in `container`; what an earlier, half-done attempt left there stays.
pub fn prepare(container: &Path, lower: Vec<PathBuf>) -> Result<Overlay, SnapshotError> {
    let (upper, work) = (container.join("upper"), container.join("work"));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SnapshotError { path, source }
    };
    for folder in [&upper, &work] {
        fs::create_dir_all(folder).map_err(failed(folder))?;
    }
    // The root of an overlay has the owner and mode of its upper folder, so take the image's.
    let (mode, uid, gid) = match lower.first() {
        Some(top) => {
            let metadata = fs::symlink_metadata(top).map_err(failed(top))?;
            (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
        }
        None => (0o755, 0, 0),
    };
    std::os::unix::fs::chown(&upper, Some(uid), Some(gid)).map_err(failed(&upper))?;
    fs::set_permissions(&upper, fs::Permissions::from_mode(mode)).map_err(failed(&upper))?;
    Ok(Overlay { lower, upper, work })
}
