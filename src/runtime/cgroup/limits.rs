//! The limits of a cgroup as the kernel tells them, to compare with what it told before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Cgroup, CgroupError, files};

/// The files of version 1 by controller (kernel: `Documentation/admin-guide/cgroup-v1`).
const V1: &[(&str, &[&str])] = &[
    (
        "memory",
        &[
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            "memory.soft_limit_in_bytes",
            "memory.swappiness",
        ],
    ),
    ("cpu", &["cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us"]),
    ("cpuset", &["cpuset.cpus", "cpuset.mems"]),
    ("pids", &["pids.max"]),
    ("blkio", &["blkio.weight", "blkio.bfq.weight"]),
];

/// The files of the version 2 tree (kernel: `Documentation/admin-guide/cgroup-v2.rst`).
const V2: &[&str] = &[
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "cpu.weight",
    "cpu.max",
    "cpuset.cpus",
    "cpuset.mems",
    "pids.max",
    "io.weight",
];

impl Cgroup {
    /// Reads every limit file that this host has, by file name.
    ///
    /// # Errors
    /// A file is there and can't be read. A cgroup that is gone has no limits, which is no error.
    pub fn limits(&self) -> Result<BTreeMap<String, String>, CgroupError> {
        let mut limits = BTreeMap::new();
        for (controller, names) in V1 {
            let Some(dir) = self.v1_dir(controller) else { continue };
            for name in *names {
                if let Some(text) = files::read_optional(&dir.join(name))? {
                    limits.insert((*name).to_owned(), text.trim().to_owned());
                }
            }
        }
        if let Some(dir) = self.v2_dir() {
            for name in V2 {
                if let Some(text) = files::read_optional(&dir.join(name))? {
                    limits.insert((*name).to_owned(), text.trim().to_owned());
                }
            }
        }
        Ok(limits)
    }

    /// Returns the folders that hold limit files, to watch them.
    pub fn limit_folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> =
            V1.iter().filter_map(|(controller, _)| self.v1_dir(controller)).collect();
        folders.extend(self.v2_dir().map(Path::to_owned));
        // `cpu` and `cpuset` may share one hierarchy.
        folders.sort();
        folders.dedup();
        folders
    }
}

/// Returns whether a file of this name holds a limit.
pub fn is_limit_file(name: &str) -> bool {
    V2.contains(&name) || V1.iter().any(|(_, names)| names.contains(&name))
}
