//! The JSON of the Docker Engine API, as clients send and read it.

pub mod create;
mod host_config;
pub mod host_config_out;
pub mod image;
pub mod lenient;
pub mod network;
pub mod path_stat;
pub mod time;
pub mod update;
pub mod volume;
