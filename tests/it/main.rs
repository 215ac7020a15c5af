//! Tests of the binary as a user meets it, a file per theme.

mod config;
mod containers;
mod healing;
mod images;
mod limits;
mod network;
mod recovery;
mod servers;
mod spec;
mod stacks;
mod support;
mod up;
