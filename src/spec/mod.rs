//! From the text of stack files to a [`stack::Stack`]. Pure: all input comes in as arguments.

pub mod container;
pub mod digest;
pub mod emit;
pub mod name;
pub mod node;
pub mod stack;
