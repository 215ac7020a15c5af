//! What images take on the disk: a layer that several have counts once.

use std::collections::BTreeMap;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::spec::digest::Digest;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerUsage {
    /// Bytes of the layers that an image has in common with others, by its id.
    pub shared: BTreeMap<String, u64>,
    /// Bytes of all layers and configurations.
    pub total: u64,
}

impl Engine {
    /// Returns the sizes of layers, as they were loaded. Blocking.
    pub fn layer_usage(&self) -> Result<LayerUsage, EngineError> {
        let mut images: BTreeMap<String, BTreeMap<Digest, u64>> = BTreeMap::new();
        for id in self.store.images()? {
            let manifest = self.store.manifest(&id)?;
            // An image's size counts its configuration too, which no other image has.
            let blobs = manifest.layers.into_iter().chain([manifest.config]);
            let sizes = blobs.map(|blob| (blob.digest, blob.size)).collect();
            images.insert(id.to_string(), sizes);
        }
        Ok(count(&images))
    }
}

fn count(images: &BTreeMap<String, BTreeMap<Digest, u64>>) -> LayerUsage {
    let mut users: BTreeMap<&Digest, (u64, usize)> = BTreeMap::new();
    for (digest, size) in images.values().flatten() {
        users.entry(digest).or_insert((*size, 0)).1 += 1;
    }
    let shared = images.iter().map(|(id, layers)| {
        let common = layers.iter().filter(|(digest, _)| users[digest].1 > 1);
        (id.clone(), common.map(|(_, size)| size).sum())
    });
    let shared = shared.collect();
    LayerUsage { shared, total: users.values().map(|(size, _)| size).sum() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_layer_is_shared_and_counts_once() {
        let layer = |byte: u8, size| (Digest::from_bytes(&[byte; 32]), size);
        let images = BTreeMap::from([
            ("base".to_owned(), BTreeMap::from([layer(1, 100)])),
            ("app".to_owned(), BTreeMap::from([layer(1, 100), layer(2, 10)])),
            ("other".to_owned(), BTreeMap::from([layer(3, 1)])),
        ]);
        let usage = count(&images);
        assert_eq!(usage.total, 111);
        let shared = [("app", 100), ("base", 100), ("other", 0)];
        assert_eq!(usage.shared, shared.map(|(id, bytes)| (id.to_owned(), bytes)).into());
    }
}
