//! Where the cgroups of containers lie whose parent is their user's choice. It is written down before one is made: there
//! nobody could tell a leak of ours from what other programs have.

use std::fs;
use std::io;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::Container;

impl Engine {
    /// Writes down where the container's cgroup is about to be made, unless that is our own place.
    pub(in crate::engine::containers) fn note_cgroup(
        &self,
        row: &Container,
    ) -> Result<(), EngineError> {
        let path = self.cgroup_of(row);
        if path.strip_prefix(&self.paths.cgroup_parent()).is_some_and(|rest| rest.starts_with('/'))
        {
            return Ok(());
        }
        let file = self.paths.cgroups_elsewhere().join(&row.id);
        fs::create_dir_all(self.paths.cgroups_elsewhere())
            .and_then(|()| fs::write(&file, path))
            .map_err(EngineError::io(format!("write {}", file.display())))
    }

    /// Forgets where the cgroup of this container was, once it is gone.
    pub(in crate::engine) fn forget_cgroup(&self, container: &str) -> Result<(), EngineError> {
        let file = self.paths.cgroups_elsewhere().join(container);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(EngineError::io(format!("remove {}", file.display()))(error))
            }
            _ => Ok(()),
        }
    }

    /// Returns ids of containers, each with the cgroup that was noted. What can't be read was not written whole: no
    /// cgroup was made for it.
    pub(in crate::engine) fn cgroups_elsewhere(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.paths.cgroups_elsewhere()).into_iter().flatten().flatten();
        let noted = entries.filter_map(|entry| {
            let id = entry.file_name().into_string().ok()?;
            Some((id, fs::read_to_string(entry.path()).unwrap_or_default()))
        });
        noted.collect()
    }
}
