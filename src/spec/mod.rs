//! From the text of stack files to a [`stack::Stack`]. Pure: all input comes in as arguments.

pub mod container;
pub mod digest;
pub mod hash;
pub mod name;
pub mod node;
pub mod reference;
pub mod stack;
pub mod value;
