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
        if let Some(target) = self.move_to_trash(folder)? {
            let leaks = self.leaks.clone();
            std::thread::spawn(move || delete(&target, &leaks));
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
        let all = entries(&self.paths.trash());
        let leaks = self.leaks.clone();
        std::thread::spawn(move || all.iter().for_each(|path| delete(path, &leaks)));
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
