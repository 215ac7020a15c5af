//! One container as Linux processes. Synchronous; no tokio.

pub mod bundle;
pub mod shim;
