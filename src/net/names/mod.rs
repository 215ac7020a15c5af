//! Names inside networks: `records` says who is visible to whom (pure), `message` reads and writes DNS (pure),
//! `server` answers from a sandbox's sockets.

pub mod message;
pub mod records;
pub mod server;
