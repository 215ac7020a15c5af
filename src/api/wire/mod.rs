//! The JSON of the Docker Engine API, as clients send it.

pub mod create;
mod host_config;
pub mod image;
pub mod lenient;
pub mod network;
pub mod volume;
