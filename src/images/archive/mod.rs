//! Images packed in one file: docker's archives and OCI layouts.

pub(crate) mod docker;
pub(crate) mod oci;
pub(crate) mod staged;
pub(crate) mod write;

pub use staged::ArchiveError;

/// How `save` packs images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// What `docker save` writes since version 25: an OCI layout with docker's `manifest.json` beside it.
    Docker,
    /// An OCI image layout alone.
    Oci,
}
