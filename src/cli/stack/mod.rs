//! Verbs that act on a stack: one a file, and what they share.

mod ansi;
mod choose;
mod log;
mod problems;
mod progress;
mod tell;
mod wanted;
