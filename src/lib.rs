//! Bargee: a container engine and a declarative supervisor in one static binary.
//!
//! Layers, left imported by right: `spec ← reconcile ← engine ← api`; `runtime`, `net` and `images` are
//! drivers below `engine` that never import each other; `diagnostic` lies below `spec` and `images`, `archive` (tar) below `images` and `cli`; `protocol` holds what
//! `cli` and `api` say to each other; `process` puts `engine` and `api` together.
//! `tests/tidy.rs` holds this table.

pub mod api;
pub mod archive;
pub mod cli;
pub mod diagnostic;
pub mod engine;
pub mod images;
pub mod net;
pub mod process;
pub mod protocol;
pub mod reconcile;
pub mod runtime;
pub mod spec;

// What all tests go by, here and in `tests/`.
#[cfg(test)]
#[path = "../tests/it/support/pace.rs"]
mod pace;
