//! The real host: containers, volumes, state, events, health, logs.

pub mod config;
pub mod events;
pub mod health;
pub mod lock;
pub mod logs;
pub mod merge;
pub mod names;
pub mod paths;
pub mod profile;
pub mod state;
pub mod translate;
