//! Tar archives: reading their headers, unpacking a layer, and images packed in one file.

pub(crate) mod apply;
pub(crate) mod compression;
pub(crate) mod docker;
#[cfg(test)]
mod hostile;
pub(crate) mod oci;
pub(crate) mod pack;
pub(crate) mod read;
pub(crate) mod staged;
pub(crate) mod write;

pub use apply::{ApplyError, Extraction, Limits, extract};
pub use pack::Packer;
pub use staged::ArchiveError;

/// How `save` packs images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// What `docker save` writes since version 25: an OCI layout with docker's `manifest.json` beside it.
    Docker,
    /// An OCI image layout alone.
    Oci,
}
