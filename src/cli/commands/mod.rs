//! One verb a file: its arguments beside what it does.

pub mod config;
