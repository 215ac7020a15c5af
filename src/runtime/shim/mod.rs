//! The parent of a container's init: owns its streams, log, attach socket and exit record.

pub mod protocol;
