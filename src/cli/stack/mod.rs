//! Verbs that act on a stack: one a file, and what they share.

pub(crate) mod ansi;
pub(crate) mod log;
pub(crate) mod progress;
