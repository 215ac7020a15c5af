//! `__netd`: one process per engine root that outlives the engine. It answers names inside every sandbox and carries
//! published ports that the kernel can't translate: `[::1]`, and IPv6 addresses before IPv4 containers.
//!
//! Its input is a JSON file, replaced atomically by the engine, so it knows all after a crash of either. The engine
//! then asks through a socket beside the file to have it obeyed, and learns which ports others hold.

mod client;
mod obey;
mod proxy;
mod serve;
mod state;

pub use client::{AskError, ask};
pub use obey::ports;
pub use serve::{follow, run};
pub use state::{
    NetdError, NetdState, Refused, Report, Request, Sandbox, socket_path, write_state,
};

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests;
