//! The bundle on disk: an OCI `config.json` and, beside it, what the OCI config has no words for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `shim.json`, written by the engine before the shim starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShimConfig {
    pub id: String,
    pub rootfs: Rootfs,
    pub log: LogConfig,
    /// Keep a pipe (or the pty) open for stdin.
    pub open_stdin: bool,
    pub stdin_once: bool,
    /// Become our own reaper as PID 1.
    pub init: bool,
    /// Cgroup below each hierarchy's root, e.g. `/bargee-1a2b3c/<id>`; equals the config's `cgroupsPath`.
    pub cgroup: String,
    /// `oom_score_adj` of the shim itself, where allowed.
    pub shim_oom_score_adj: i32,
    /// Files and folders made inside the rootfs when the rootfs is first mounted: secrets' targets etc.
    pub files: Vec<FileInside>,
    #[serde(default)]
    pub sources: Sources,
}

/// Where the sources of some binds are looked up, by the binds' targets; all others in the host's own tree.
pub type Sources = BTreeMap<PathBuf, Lookup>;

/// What a bind's source is resolved in, because somebody inside a container may have put links there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lookup {
    /// A folder that the source lies below; links lead nowhere out of it.
    Folder(PathBuf),
    /// Another container's mount namespace, by its path in `/proc`.
    Namespace(PathBuf),
}

/// A file written inside through `openat2(RESOLVE_IN_ROOT)` before the first start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileInside {
    pub target: String,
    pub content: Vec<u8>,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rootfs {
    /// Layers from the top down.
    Overlay { lower: Vec<PathBuf>, upper: PathBuf, work: PathBuf },
    /// A folder as it is.
    Directory { path: PathBuf },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogConfig {
    /// docker's json-file; rotated to `path.1`, `path.2` … when `max_size` bytes are reached (zero: never).
    JsonFile {
        path: PathBuf,
        max_size: u64,
        max_files: u32,
    },
    None,
}
