//! `docker save` archives: a `manifest.json` that names configs, layers and tags by member.

use serde::{Deserialize, Serialize};

use super::staged::{ArchiveError, Staged, checked_name};
use crate::archive::compression::Compression;
use crate::images::descriptor::{Descriptor, OCI_CONFIG, layer_media_type};
use crate::images::manifest::Manifest;
use crate::images::store::blobs::Blobs;

pub(crate) const MANIFEST: &str = "manifest.json";

/// One image of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Item {
    pub(crate) config: String,
    #[serde(default)]
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) layers: Vec<String>,
}

/// An image as an archive describes it: its manifest's exact bytes, and its names.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) manifest: Vec<u8>,
    pub(crate) names: Vec<String>,
}

/// Returns the images of a staged docker archive, each with a manifest of our own making.
pub(crate) fn images(staged: &Staged, blobs: &Blobs) -> Result<Vec<Described>, ArchiveError> {
    let items: Vec<Item> = staged.document(MANIFEST, blobs)?;
    items.iter().map(|item| describe(item, staged, blobs)).collect()
}

fn describe(item: &Item, staged: &Staged, blobs: &Blobs) -> Result<Described, ArchiveError> {
    let (digest, size) = staged.find(&item.config)?;
    let config = Descriptor::new(OCI_CONFIG, digest.clone(), size);
    let mut layers = Vec::with_capacity(item.layers.len());
    for name in &item.layers {
        let (digest, size) = staged.find(name)?;
        let kind = Compression::of(&blobs.start(digest)?);
        layers.push(Descriptor::new(layer_media_type(kind), digest.clone(), size));
    }
    let names =
        item.repo_tags.iter().flatten().map(|name| checked_name(name)).collect::<Result<_, _>>()?;
    let manifest =
        serde_json::to_vec(&Manifest::new(config, layers)).expect("a manifest is always JSON");
    Ok(Described { manifest, names })
}
