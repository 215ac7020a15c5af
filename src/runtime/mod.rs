//! One container as Linux processes. Synchronous; no tokio.

pub mod bundle;
pub mod capabilities;
pub mod cgroup;
pub mod devices;
pub(crate) mod exec;
pub(crate) mod init;
pub mod mounted;
pub(crate) mod mounts;
pub mod rlimits;
pub mod seccomp;
pub mod shim;
pub(crate) mod sys;
