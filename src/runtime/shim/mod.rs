//! The parent of a container's init: owns its streams, log, attach socket and exit record.
//!
//! One thread waits in poll(2); every descriptor is non-blocking. `server` is that loop and its requests,
//! `container` the processes, `connection` a client that has not become an attach client.

mod attach;
mod connection;
mod container;
pub mod exit;
mod log;
pub mod protocol;
mod server;
mod stdio;

pub use server::run;
