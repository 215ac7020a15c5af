//! Tests of the binary as a user meets it, a file per theme.

mod config;
mod containers;
mod images;
mod network;
mod servers;
mod spec;
mod stacks;
mod support;
mod up;
