//! Containers: a handle each, and one verb a file.
//!
//! A verb takes the handle's `verb` lock, writes its intent, acts, and writes the end. Everybody else reads
//! the handle's row, which is the database's, or waits for it to change.

mod announce;
pub mod attach;
pub mod create;
mod exec_process;
pub mod execs;
mod facts;
mod handle;
mod health;
mod layered;
pub mod lifecycle;
pub mod logs;
mod probe;
mod recovery;
pub mod remove;
mod shim;
pub mod stats;
pub mod update;
pub(crate) mod users;
pub mod view;

pub use handle::{Handle, Snapshot};
pub use shim::ShimError;
