//! Packet rules: `ruleset` decides them (pure), `encode` writes them as nf_tables messages (pure), `apply` sends a
//! batch, `dump` reads what is there, `watch` hears of others' changes.

pub mod apply;
pub mod dump;
pub mod encode;
pub mod ruleset;
pub mod watch;
