//! What the Docker API's JSON says: requests as values of `spec`, and the other way round.

pub mod create;
mod host_config;
pub mod host_config_out;
pub mod lenient;
pub mod time;
pub mod update;
