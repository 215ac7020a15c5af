//! From the text of stack files to a [`stack::Stack`]. Pure: all input comes in as arguments.

pub mod compose_hash;
pub mod container;
#[cfg(test)]
mod cpu_time;
pub mod digest;
mod document;
pub mod emit;
pub mod env_file;
mod extends;
pub mod hash;
mod include;
pub mod interpolate;
mod keys;
pub mod load;
mod merge;
pub mod name;
pub mod node;
pub mod origins;
pub(crate) mod parallel;
mod rebase;
pub mod reference;
pub mod schema;
pub mod stack;
pub mod toml;
mod unique;
pub mod validate;
pub mod value;
pub mod yaml;
