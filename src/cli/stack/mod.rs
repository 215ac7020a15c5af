//! Verbs that act on a stack: one a file, and what they share.

mod addresses;
mod ansi;
mod choose;
mod convergence;
pub(crate) mod down;
mod foreground;
mod log;
pub(crate) mod plan;
mod plan_text;
mod problems;
mod progress;
mod requests;
pub(crate) mod services;
mod show;
mod tell;
pub(crate) mod up;
mod wanted;
