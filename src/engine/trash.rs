//! Folders to be deleted: renamed away at once, so that their names are free, and emptied behind the answer.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::{containers, volumes};

impl Engine {
    /// Takes a folder away; its files go in the background. An absent one is fine.
    pub(crate) fn discard(&self, folder: &Path) -> Result<(), EngineError> {
        if let Some(target) = self.move_to_trash(folder)? {
            std::thread::spawn(move || delete(&target));
        }
        Ok(())
    }

    fn move_to_trash(&self, folder: &Path) -> Result<Option<PathBuf>, EngineError> {
        let trash = self.trash();
        let doing = || format!("move {} to the trash", folder.display());
        fs::create_dir_all(&trash).map_err(EngineError::io(doing()))?;
        let target = trash.join(crate::engine::containers::random_hex());
        match fs::rename(folder, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(|()| Some(target)).map_err(EngineError::io(doing())),
        }
    }

    /// Empties the trash, and deletes folders of containers and volumes that no row knows: what a crash left.
    ///
    /// For the start of the engine, after recovery and before anything is created.
    pub(crate) fn clear_trash(self: &Arc<Self>) -> Result<(), EngineError> {
        let rows = self.read(containers::list)?;
        let ids: BTreeSet<String> = rows.into_iter().map(|row| row.id).collect();
        let volumes = self.read(volumes::list)?;
        let names: BTreeSet<String> = volumes.into_iter().map(|volume| volume.name).collect();
        for (folder, known) in [("containers", &ids), ("volumes", &names)] {
            let all = entries(&self.paths.root().join(folder));
            for lost in all.iter().filter(|path| !is_named_in(path, known)) {
                super::volumes::unmount_data(&lost.join("_data"))?;
                // Its name may be wanted again before its files are gone.
                self.move_to_trash(lost)?;
            }
        }
        let all = entries(&self.trash());
        std::thread::spawn(move || all.iter().for_each(|path| delete(path)));
        Ok(())
    }

    fn trash(&self) -> PathBuf {
        self.paths.root().join("trash")
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    // A folder that is not there yet holds nothing.
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn is_named_in(path: &Path, known: &BTreeSet<String>) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| known.contains(name))
}

fn delete(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "a deleted folder is left for the next start");
        }
        _ => {}
    }
}
