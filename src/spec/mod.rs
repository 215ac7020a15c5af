//! From the text of stack files to a [`stack::Stack`]. Pure: all input comes in as arguments.

pub mod container;
pub mod digest;
pub mod env_file;
pub mod interpolate;
pub mod name;
pub mod node;
pub mod stack;
pub mod toml;
pub mod yaml;
