//! Containers: a handle each, and one verb a file.
//!
//! A verb takes the handle's `verb` lock, writes its intent, acts, and writes the end. Everybody else reads
//! the handle's row, which is the database's, or waits for it to change.

pub mod attach;
pub mod create;
pub mod execs;
mod handle;
pub mod lifecycle;
pub mod logs;
pub mod remove;
pub mod stats;
pub mod update;
pub mod view;

pub use handle::{Handle, Snapshot};
