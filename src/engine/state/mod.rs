//! The database: everything that must survive the engine. One writer, this process.
//!
//! A row is written in a state such as `creating` before its effect, and again after; what a crash leaves
//! in between is found by [`containers::unfinished`] and its siblings, and resumed or undone.
//! Table functions take a connection, so that one transaction may span several tables.

pub mod addresses;
pub mod containers;
mod database;
pub mod events;
pub mod images;
pub mod limits;
pub mod networks;
pub mod ports;
mod reserve;
pub mod restarts;
pub mod revisions;
mod schema;
pub mod stacks;
pub mod volumes;

pub use database::{Database, Durability, Place, StateError};
pub use rusqlite::{Connection, Transaction};
