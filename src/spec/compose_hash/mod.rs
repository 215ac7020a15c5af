//! Compose's `config-hash` of a service: by it `docker compose up` tells whether a container is still what the
//! file says. It is the SHA-256 of the service as compose-go's JSON: the keys in the order of its structs, what is
//! empty left out, `build`, `depends_on`, `profiles`, `pull_policy`, `scale` and the number of replicas cleared.
//!
//! The hash is that of compose 2.30 to 2.40. A service whose JSON can't be known here has none: see [`Inexact`].

mod go;
mod mounts;
mod ports;
mod service;
mod shape;
mod tables;

pub use service::{ComposeHash, Inexact, add, of_text};

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests;
