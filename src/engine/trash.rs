//! Folders to be deleted: renamed away at once, so that their names are free, and emptied behind the answer.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::engine::check::Leaks;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;

impl Engine {
    /// Takes a folder away; its files go in the background. An absent one is fine.
    pub(crate) fn discard(&self, folder: &Path) -> Result<(), EngineError> {
        match self.move_to_trash(folder) {
            Ok(None) => {}
            Ok(Some(target)) => behind(vec![target], &self.leaks),
            // A full disk may have no room for the trash's own folder; what goes now makes some.
            Err(EngineError::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull => {
                delete(folder, &self.leaks);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn move_to_trash(&self, folder: &Path) -> Result<Option<PathBuf>, EngineError> {
        let trash = self.paths.trash();
        let doing = || format!("move {} to the trash", folder.display());
        fs::create_dir_all(&trash).map_err(EngineError::io(doing()))?;
        let target = trash.join(crate::engine::containers::random_hex());
        match fs::rename(folder, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(|()| Some(target)).map_err(EngineError::io(doing())),
        }
    }

    /// Empties the trash of what a crash left in it, in the background.
    pub(crate) fn empty_trash(&self) {
        behind(entries(&self.paths.trash()), &self.leaks);
    }
}

/// Deletes folders while nobody waits, or later when the machine has no thread to spare.
fn behind(folders: Vec<PathBuf>, leaks: &Leaks) {
    let for_thread = leaks.clone();
    let thread = std::thread::Builder::new().name("trash".to_owned());
    let work = move || folders.iter().for_each(|path| delete(path, &for_thread));
    if let Err(error) = thread.spawn(work) {
        tracing::warn!(%error, "deleted folders are left for now");
        leaks.collect_soon();
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    // A folder that is not there yet holds nothing.
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn delete(path: &Path, leaks: &Leaks) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "a deleted folder is left for now");
            leaks.collect_soon();
        }
        _ => {}
    }
}
