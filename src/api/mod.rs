//! The Docker Engine API: how its JSON and ours say the same thing.

pub mod wire;
