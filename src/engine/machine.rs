//! What this machine is, read once at the engine's start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::engine::error::EngineError;
use crate::runtime::cgroup::Roots;

/// Facts that don't change while the machine runs.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// Of /proc/sys/kernel/random/boot_id.
    pub(crate) boot_id: String,
    pub(crate) cgroups: Roots,
    /// Capabilities that we may give at all.
    pub(crate) bounding: BTreeSet<String>,
    /// Hard limits that we can't raise, by name (`nofile`); see setrlimit(2).
    pub(crate) hard_limits: BTreeMap<String, u64>,
    /// `thermal_throttle` of each CPU, which docker hides too.
    pub(crate) masked_too: Vec<String>,
    /// Path of our own binary.
    pub(crate) program: PathBuf,
    pub(crate) cpus: usize,
    /// Bytes.
    pub(crate) memory: u64,
}

impl Machine {
    pub(crate) fn read() -> Result<Self, EngineError> {
        todo!()
    }
}

#[expect(dead_code, reason = "used by read")]
const CGROUP_MOUNT: &str = "/sys/fs/cgroup";

#[expect(dead_code, reason = "used by read")]
fn boot_id(path: &Path) -> Result<String, EngineError> {
    std::fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(EngineError::io(format!("read {}", path.display())))
}
