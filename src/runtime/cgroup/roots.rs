//! Which hierarchies a host has, found by looking at the folder where they are mounted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::CgroupError;

/// The mounted hierarchies of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Version 1: a controller's name to its mount; co-mounted ones (`cpu,cpuacct`) share a mount.
    pub(super) v1: BTreeMap<String, PathBuf>,
    /// The version 2 tree.
    pub(super) v2: Option<PathBuf>,
}

impl Roots {
    /// Finds the hierarchies below `mount`, usually `/sys/fs/cgroup`.
    ///
    /// `cgroup.controllers` exists only in a version 2 tree, `cgroup.procs` in both (cgroups(7)).
    pub fn detect(mount: &Path) -> Result<Roots, CgroupError> {
        if mount.join("cgroup.controllers").exists() {
            return Ok(Roots { v1: BTreeMap::new(), v2: Some(mount.to_owned()) });
        }
        let read_error = |source| CgroupError::Read { file: mount.to_owned(), source };
        let mut roots = Roots { v1: BTreeMap::new(), v2: None };
        for entry in fs::read_dir(mount).map_err(read_error)? {
            let dir = entry.map_err(read_error)?.path();
            // `cpu` may be a link to `cpu,cpuacct`: one directory must be joined once.
            let Ok(dir) = dir.canonicalize() else { continue };
            if dir.join("cgroup.controllers").exists() {
                roots.v2 = Some(dir);
                continue;
            }
            let Some(name) = dir.file_name().and_then(|name| name.to_str()) else { continue };
            if dir.join("cgroup.procs").exists() {
                for controller in name.split(',') {
                    roots.v1.insert(controller.to_owned(), dir.clone());
                }
            }
        }
        if roots.v1.is_empty() && roots.v2.is_none() {
            return Err(CgroupError::NoHierarchy { root: mount.to_owned() });
        }
        Ok(roots)
    }

    /// Tells whether version 1 and version 2 are mounted side by side.
    pub fn is_hybrid(&self) -> bool {
        !self.v1.is_empty() && self.v2.is_some()
    }

    /// Returns the mount of a version 1 controller.
    pub fn v1_controller(&self, name: &str) -> Option<&Path> {
        self.v1.get(name).map(PathBuf::as_path)
    }

    /// Returns the mount of the version 2 tree.
    pub fn v2_mount(&self) -> Option<&Path> {
        self.v2.as_deref()
    }

    /// Returns each version 1 mount once.
    pub(super) fn v1_mounts(&self) -> Vec<&Path> {
        let mut mounts: Vec<&Path> = self.v1.values().map(PathBuf::as_path).collect();
        mounts.sort_unstable();
        mounts.dedup();
        mounts
    }
}
