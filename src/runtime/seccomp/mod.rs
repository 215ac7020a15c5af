//! Seccomp: docker's default profile as data, and our own compiler from OCI's `linux.seccomp` to BPF.
//!
//! Deciding ([`compile`], pure) is apart from doing ([`install`]), so the shim compiles before it clones.

mod compile;
mod profile;
mod sys;
mod table;

pub use compile::{CompileError, compile};
pub use profile::default_profile;
pub use sys::{InstallError, install};
