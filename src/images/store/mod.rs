//! The content store: blobs, unpacked layers, and a record of each image (its id is its config's digest).

pub(crate) mod blobs;
pub(crate) mod layers;
mod open;
#[cfg(test)]
mod tests;
mod transfer;

pub(crate) use blobs::digest_of;
pub use blobs::{BlobError, Ingested};
pub use open::{Loaded, Removed, Store, StoreError};
