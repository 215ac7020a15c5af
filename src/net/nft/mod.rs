//! Packet rules: `ruleset` decides them (pure), `encode` writes them as nf_tables messages (pure), `apply` sends a
//! batch, `watch` hears of others' changes.

pub mod apply;
pub mod encode;
pub mod ruleset;
pub mod watch;
