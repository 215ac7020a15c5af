//! What the suites share: an engine of their own, and HTTP over its socket.

pub mod clients;
pub mod docker;
pub mod engine;
pub mod folder;
pub mod http;
pub mod image;
pub mod kept;
pub mod machines;
pub mod neighbour;
pub mod pace;
pub mod process;
pub mod remains;
pub mod screen;
pub mod stack;
pub mod terminal;
