//! Images by the names that users give them: the store's content, and the database's tags.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::images::{Format, ImageConfig, ImportOptions};

/// An image as clients see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageView {
    /// `sha256:…` of its config.
    pub id: String,
    /// Familiar references with tags (`nginx:alpine`), sorted.
    pub tags: Vec<String>,
    /// `nginx@sha256:…`, sorted.
    pub digests: Vec<String>,
    /// Bytes.
    pub size: u64,
    pub config: ImageConfig,
    /// Ids of containers made of it.
    pub containers: Vec<String>,
}

/// What loading one image told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    pub id: String,
    /// Familiar; empty for an image without a name.
    pub references: Vec<String>,
}

/// One line of `rmi`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedImage {
    Untagged(String),
    Deleted(String),
}

impl Engine {
    /// Adds an archive's images, docker's or OCI's, and tags them. Blocking.
    pub fn load_images(&self, _archive: impl Read) -> Result<Vec<LoadedImage>, EngineError> {
        todo!()
    }

    /// Makes an image of a root file system's archive. Blocking.
    pub fn import_image(
        &self,
        _rootfs: impl Read,
        _options: &ImportOptions,
        _reference: Option<&str>,
    ) -> Result<String, EngineError> {
        todo!()
    }

    pub fn images(&self) -> Result<Vec<ImageView>, EngineError> {
        todo!()
    }

    /// Returns the image that `word` means: a reference, an id or a unique prefix of one. `bargee/hello` is made
    /// on demand.
    pub fn image(&self, _word: &str) -> Result<ImageView, EngineError> {
        todo!()
    }

    pub fn tag_image(&self, _word: &str, _reference: &str) -> Result<(), EngineError> {
        todo!()
    }

    /// Removes a name, and the image with its last name. Blocking.
    pub fn remove_image(
        &self,
        _word: &str,
        _force: bool,
    ) -> Result<Vec<RemovedImage>, EngineError> {
        todo!()
    }

    /// Writes images into one archive. Blocking.
    pub fn save_images(
        &self,
        _words: &[String],
        _output: impl Write,
        _format: Format,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Gets an image that is not here. Registries come later: today it makes `bargee/hello` and else says how to
    /// load an image.
    pub async fn pull_image(self: &Arc<Self>, _reference: &str) -> Result<(), EngineError> {
        todo!()
    }
}
