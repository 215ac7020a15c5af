//! The real host: containers, images, networks, volumes, state, events, health, logs.
//!
//! [`Engine`] owns them all; its verbs are spread over `containers/`, `images`, `networks`, `volumes` and
//! `stacks/`, one idea a file. It is the only writer of the state database.

mod awake;
pub(crate) mod background;
mod check;
pub mod config;
pub mod containers;
mod core;
pub mod counters;
mod error;
pub mod events;
pub mod health;
mod helpers;
mod home;
mod host;
pub mod images;
mod limit_watch;
pub mod lock;
pub mod logs;
pub(crate) mod machine;
pub mod merge;
mod mount_watch;
pub mod names;
pub mod networks;
mod observe;
pub mod paths;
pub mod profile;
mod rollout;
mod shutdown;
pub mod signals;
pub mod stacks;
pub mod state;
pub mod status;
mod sys;
pub mod translate;
mod trash;
pub mod volumes;
mod warnings;

pub use self::core::Engine;
pub use error::{EngineError, Kind};
