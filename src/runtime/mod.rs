//! One container as Linux processes. Synchronous; no tokio.

pub mod bundle;
pub mod capabilities;
pub mod cgroup;
pub mod devices;
pub mod rlimits;
pub mod seccomp;
pub mod shim;
