//! What can go wrong with a cgroup, each with the file it went wrong on.

use std::io;
use std::path::PathBuf;

/// A failed operation on a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("no cgroup hierarchy is mounted below {}", root.display())]
    NoHierarchy { root: PathBuf },
    #[error("cgroup path {path:?} is empty or leaves its root")]
    BadPath { path: String },
    #[error("cannot read {}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{} holds {text:?}, not a number", file.display())]
    Parse { file: PathBuf, text: String },
    #[error("cannot write {value:?} to {}", file.display())]
    Write { file: PathBuf, value: String, source: io::Error },
    #[error("cannot create the cgroup {}", dir.display())]
    Create { dir: PathBuf, source: io::Error },
    #[error("the cgroup {} already holds processes", dir.display())]
    Occupied { dir: PathBuf },
    #[error("there is no cgroup {path}")]
    NotFound { path: String },
    #[error("`unified` has {key:?}, but this host has no cgroup v2 tree with it")]
    NoUnified { key: String },
    #[error("`unified` key {key:?} is not the name of a cgroup file")]
    BadUnifiedKey { key: String },
    #[error("device rule `{rule}` is none: the access is of r, w and m, and numbers fit 31 bits")]
    BadDeviceRule { rule: String },
    #[error("cannot put the device rules on {}: bpf(2) needs CAP_SYS_ADMIN and a kernel with CONFIG_CGROUP_BPF", dir.display())]
    DeviceRules { dir: PathBuf, source: io::Error },
    #[error("cannot freeze: no freezer holds the cgroup {path}")]
    NoFreezer { path: String },
    #[error("the cgroup {} did not reach the state {wanted:?}", dir.display())]
    StateNotReached { dir: PathBuf, wanted: &'static str },
    #[error("cannot wait for changes of {}", file.display())]
    Watch { file: PathBuf, source: io::Error },
    #[error("cannot kill process {pid} of the cgroup {}", dir.display())]
    Kill { pid: i32, dir: PathBuf, source: io::Error },
    #[error("cannot remove the cgroup {}", dir.display())]
    Remove { dir: PathBuf, source: io::Error },
}

/// A wish that this host cannot enforce; the caller decides whether that is a warning or an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unenforced {
    /// The key of OCI's `linux.resources`, such as `memory.swap`.
    pub key: &'static str,
    /// Why, as a lower-case fragment.
    pub reason: &'static str,
}
