//! Bridges, endpoints, rules and names.
//!
//! `model` is the plain data; `driver` turns it into kernel objects: bridges and veth pairs by rtnetlink, packet
//! rules by our own nf_tables encoder, one table per engine root. Nothing here runs another program, where the machine
//! has no rules of iptables-legacy (see `legacy`).

pub mod bridge;
pub mod claim;
pub mod conntrack;
pub mod driver;
pub mod endpoint;
pub mod firewall;
mod foreign;
mod forwarding;
mod hooks;
pub mod hosts;
mod legacy;
pub mod model;
pub mod names;
pub mod netd;
mod netfilter;
pub mod netlink;
pub mod nft;
pub mod ports;
mod repair;
pub mod sandbox;
mod sys;
pub mod watch;

pub use driver::Driver;
pub use repair::Repair;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests;
