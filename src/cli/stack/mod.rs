//! Verbs that act on a stack: one a file, and what they share.

mod addresses;
mod ansi;
mod choose;
mod containers;
mod convergence;
pub(crate) mod down;
pub(crate) mod events;
pub(crate) mod exec;
mod foreground;
pub(crate) mod images;
pub(crate) mod list;
mod log;
pub(crate) mod logs;
pub(crate) mod pause;
pub(crate) mod plan;
mod plan_text;
pub(crate) mod port;
mod problems;
mod progress;
pub(crate) mod ps;
mod requests;
pub(crate) mod services;
mod show;
mod tell;
pub(crate) mod top;
pub(crate) mod up;
mod wanted;
