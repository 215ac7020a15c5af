//! Networks of this root: their rows, the driver below them, published ports, and netd.
//!
//! A container that starts is connected (`sandbox`), then published (`publish`); both are undone when it stops.
//! Addresses that the engine chose belong to a container for its life, static ones and host ports for a run, as in
//! docker, where a second container with the same port may be created and only fails to start.

mod account;
mod choose;
mod collisions;
mod files;
mod live;
mod members;
mod open;
mod ports;
mod publish;
mod purge;
mod repair;
mod reserve;
mod resolver;
mod rows;
mod sandbox;
mod view;

pub(crate) use account::Account;
pub use open::Networks;
pub use rows::CreateNetwork;
pub use view::Member;

/// The network of a container that names none.
pub const DEFAULT_NETWORK: &str = "bridge";
/// Docker's own networks, which nobody removes.
pub const PREDEFINED: [&str; 3] = [DEFAULT_NETWORK, "host", "none"];
