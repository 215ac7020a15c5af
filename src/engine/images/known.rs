//! What was read of each image, kept in memory: an image never changes under its id.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::merge::ImageFacts;
use crate::images::{Loaded, Store, StoreError};
use crate::spec::digest::Digest;

/// The engine's memory of images.
#[derive(Debug, Default)]
pub(crate) struct Images {
    known: Mutex<BTreeMap<Digest, Arc<Known>>>,
    /// Read from looking an image up until a container's row names it; written while one is deleted.
    pub(super) using: RwLock<()>,
}

/// One image.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) loaded: Loaded,
    pub(crate) facts: ImageFacts,
    layers: OnceLock<Vec<PathBuf>>,
}

impl Known {
    pub(crate) fn id(&self) -> &str {
        self.loaded.image_id.as_str()
    }

    /// Returns the layers' folders from the top down; the first call unpacks what is missing. Blocking.
    pub(crate) fn layers(&self, store: &Store) -> Result<&[PathBuf], StoreError> {
        if let Some(layers) = self.layers.get() {
            return Ok(layers);
        }
        let layers = store.unpack(&self.loaded.image_id)?;
        Ok(self.layers.get_or_init(|| layers))
    }
}

impl Images {
    pub(super) fn forget(&self, id: &Digest) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Keeps images from being deleted while the guard lives.
    pub(crate) fn hold(&self) -> std::sync::RwLockReadGuard<'_, ()> {
        self.using.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Returns an image by its whole id.
    pub(crate) fn known_image(&self, id: &Digest) -> Result<Arc<Known>, EngineError> {
        let known =
            self.images.known.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let loaded = self.store.image(id).map_err(|error| match error {
            StoreError::NoImage { id } => EngineError::NoImage { reference: id.to_string() },
            other => other.into(),
        })?;
        let facts = ImageFacts::from(&loaded.config.config);
        let known = Arc::new(Known { loaded, facts, layers: OnceLock::new() });
        let mut all = self.images.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(all.entry(id.clone()).or_insert(known)))
    }

    /// Returns the image of a container's row.
    pub(crate) fn image_of(&self, image_id: &str) -> Result<Arc<Known>, EngineError> {
        let missing = || EngineError::NoImage { reference: image_id.to_owned() };
        self.known_image(&Digest::try_from(image_id).map_err(|_| missing())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::config::{Empty, HealthConfig, RunConfig};

    #[test]
    fn a_config_becomes_the_facts_that_containers_start_from() {
        let config = RunConfig {
            cmd: Some(vec!["run".into()]),
            volumes: [("/data".to_owned(), Empty {})].into(),
            stop_signal: Some(String::new()),
            healthcheck: Some(HealthConfig {
                test: vec!["NONE".into()],
                ..HealthConfig::default()
            }),
            ..RunConfig::default()
        };
        let facts = ImageFacts::from(&config);
        assert_eq!((facts.cmd.join(" "), facts.volumes.join(" ")), ("run".into(), "/data".into()));
        assert_eq!(facts.stop_signal, None);
        assert_eq!(facts.healthcheck.map(|check| check.test), Some(vec!["NONE".to_owned()]));
    }
}
