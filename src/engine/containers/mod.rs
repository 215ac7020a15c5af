//! Containers: a handle each, and one verb a file.
//!
//! A verb takes the handle's `verb` lock, writes its intent, acts, and writes the end. Everybody else reads
//! the handle's row, which is the database's, or waits for it to change.

mod announce;
pub mod attach;
mod bundle;
mod cgroups;
mod copy_up;
pub mod create;
mod devices;
mod exec_process;
pub mod execs;
mod facts;
pub mod files;
mod handle;
mod health;
mod layered;
pub mod lifecycle;
mod logging;
pub mod logs;
mod prepare;
mod probe;
mod recovery;
pub mod remove;
mod seccomp;
mod shim;
pub mod stats;
mod unmounted;
pub mod update;
pub(crate) mod users;
pub mod view;

pub(crate) use create::random_hex;
pub use handle::{Handle, Snapshot};
pub use shim::ShimError;
pub(super) use shim::start_time;
