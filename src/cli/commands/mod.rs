//! One verb a file: its arguments beside what it does.

pub(crate) mod attach;
pub mod config;
pub(crate) mod create;
pub(crate) mod exec;
pub(crate) mod kill;
pub(crate) mod logs;
mod many;
pub(crate) mod pause;
pub(crate) mod port;
mod pull;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod unpause;
pub(crate) mod update;
pub(crate) mod wait;

use many::{each, path};
