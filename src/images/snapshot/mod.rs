//! Turning unpacked layers into the root of a container.

pub mod overlay;
