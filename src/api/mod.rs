//! The HTTP server: the Docker Engine API, and our own words below `/bargee/v1`.

pub mod answer;
pub mod body;
mod detach;
pub mod docker;
pub mod error;
pub mod hijack;
mod process;
pub mod query;
mod request_line;
mod route;
pub mod server;
mod stacks;
mod transfer;
mod websocket;
pub mod wire;
