//! YAML text as [`Node`](super::node::Node) trees.

mod offsets;
mod read;

pub use read::read;
pub(crate) use read::{MAX_DEPTH, MAX_TEXT, weight};
