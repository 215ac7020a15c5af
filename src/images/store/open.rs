//! [`Store`]: what is in it, adding an image whole or not at all, and removing one.

use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::blobs::{BlobError, Blobs, Ingested, io_error, sync_folder};
use super::layers::{Layers, Unpacked};
use crate::archive::{ApplyError, Limits};
use crate::images::archive::ArchiveError;
use crate::images::config::ImageConfig;
use crate::images::gc::{self, Content};
use crate::images::import::ChangeError;
use crate::images::manifest::{MAX_DOCUMENT, Manifest};
use crate::spec::digest::Digest;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("cannot unpack layer {layer}")]
    Unpack { layer: Digest, source: Box<ApplyError> },
    #[error("cannot read layer {layer}")]
    ReadLayer { layer: Digest, source: io::Error },
    #[error("there is no image {id}")]
    NoImage { id: Digest },
    #[error("{what} {digest} is no valid document")]
    Document { what: &'static str, digest: Digest, source: serde_json::Error },
    #[error("image {id} has {layers} layers and {diff_ids} diff ids")]
    LayerCount { id: Digest, layers: usize, diff_ids: usize },
}

/// An image that is in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub image_id: Digest,
    /// References as the archive has them; which tags they move is the engine's to decide.
    pub names: Vec<String>,
    /// Digest of the manifest, as kept in the store.
    pub manifest: Digest,
    /// Bytes of all blobs.
    pub size: u64,
    pub config: ImageConfig,
}

/// What [`Store::remove`] deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    pub content: Content,
}

/// `images/<hex of the id>`.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    manifest: Digest,
}

/// One per root and process: opening it empties its `tmp`.
#[derive(Debug)]
pub struct Store {
    images: PathBuf,
    pub(crate) blobs: Blobs,
    layers: Layers,
    limits: Limits,
    /// Read by whoever adds an image, written by whoever deletes content: a blob found present must stay
    /// until the record that needs it is there.
    pub(crate) content: RwLock<()>,
}

/// Removes what is in a folder. The folder stays: on a full disk there may be no room for a new one.
fn empty(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

impl Store {
    /// Opens the store at `root`, making what is missing and removing what a crash left half done.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let (tmp, images) = (root.join("tmp"), root.join("images"));
        let store = Self {
            blobs: Blobs::new(root, &tmp),
            layers: Layers::new(root, &tmp),
            limits: Limits::default(),
            content: RwLock::new(()),
            images,
        };
        match empty(&tmp) {
            // Neither is anything put there.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            other => other.map_err(io_error("empty", &tmp))?,
        }
        for folder in [&tmp, &store.images, store.blobs.folder(), store.layers.folder()] {
            // Set-user-id files of images must not be reachable by the host's users.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(io_error("create", folder))?;
        }
        Ok(store)
    }

    /// Replaces the limits that layers are unpacked within.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Stores one blob of a pull; `digest` and `size` come from its descriptor and must be right.
    pub fn ingest(
        &self,
        input: impl Read,
        digest: &Digest,
        size: u64,
    ) -> Result<Ingested, StoreError> {
        Ok(self.blobs.ingest(input, Some((digest, size)))?)
    }

    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains(digest)
    }

    /// Returns the ids of all images, sorted.
    pub fn images(&self) -> Result<Vec<Digest>, StoreError> {
        listed(&self.images)
    }

    pub fn manifest(&self, id: &Digest) -> Result<Manifest, StoreError> {
        Ok(self.record(id)?.1)
    }

    pub fn config(&self, id: &Digest) -> Result<ImageConfig, StoreError> {
        self.record(id)?;
        self.read_config(id)
    }

    /// Returns the config as it came, for `inspect` and for builds on top of it.
    pub fn raw_config(&self, id: &Digest) -> Result<Vec<u8>, StoreError> {
        Ok(self.blobs.read(id, MAX_DOCUMENT)?)
    }

    /// Returns an image as `load` would have.
    pub fn image(&self, id: &Digest) -> Result<Loaded, StoreError> {
        let (digest, manifest) = self.record(id)?;
        let size =
            manifest.config.size + manifest.layers.iter().map(|layer| layer.size).sum::<u64>();
        Ok(Loaded {
            image_id: id.clone(),
            names: Vec::new(),
            manifest: digest,
            size,
            config: self.read_config(id)?,
        })
    }

    /// Returns the image's layer folders from the top down, unpacking those that are missing.
    pub fn unpack(&self, id: &Digest) -> Result<Vec<PathBuf>, StoreError> {
        let _content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        let (_, manifest) = self.record(id)?;
        let config = self.read_config(id)?;
        self.unpack_layers(&manifest, &config)?;
        Ok(config.chain_ids().iter().rev().map(|chain| self.layers.path(chain)).collect())
    }

    /// Adds the image that `manifest` (its exact bytes) describes. Its blobs must be in the store; its
    /// record is written last, after every digest was checked.
    pub fn commit(&self, manifest: &[u8]) -> Result<Loaded, StoreError> {
        let _content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        self.commit_locked(manifest)
    }

    pub(crate) fn commit_locked(&self, bytes: &[u8]) -> Result<Loaded, StoreError> {
        let digest = super::digest_of(bytes);
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|source| {
            StoreError::Document { what: "manifest", digest: digest.clone(), source }
        })?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            let found = self.blobs.size(&blob.digest)?;
            if found != blob.size {
                let digest = blob.digest.clone();
                return Err(BlobError::WrongSize { digest, expected: blob.size, found }.into());
            }
        }
        let id = manifest.config.digest.clone();
        let config = self.read_config(&id)?;
        self.unpack_layers(&manifest, &config)?;
        self.blobs.ingest(bytes, Some((&digest, bytes.len() as u64)))?;
        self.write_record(&id, &Record { version: 1, manifest: digest })?;
        self.image(&id)
    }

    /// Removes an image and all content that no other image needs. Removing twice does no harm.
    pub fn remove(&self, id: &Digest) -> Result<Removed, StoreError> {
        let _content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        let own = match self.needed(id) {
            Err(StoreError::NoImage { .. }) => return Ok(Removed::default()),
            other => other?,
        };
        let path = self.images.join(id.hex());
        fs::remove_file(&path).map_err(io_error("remove", &path))?;
        sync_folder(&self.images)?;
        self.delete_unneeded(&own)
    }

    /// Deletes everything that no image needs: what crashes and failed pulls left.
    pub fn collect(&self) -> Result<Removed, StoreError> {
        let _content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        let blobs = listed(self.blobs.folder())?.into_iter().collect();
        let layers = listed(self.layers.folder())?.into_iter().collect();
        self.delete_unneeded(&Content { blobs, layers })
    }

    /// Returns the files that no image needs; `None` while an image is being added or removed.
    pub fn leftovers(&self) -> Result<Option<Vec<PathBuf>>, StoreError> {
        let Ok(_content) = self.content.try_write() else { return Ok(None) };
        let blobs = listed(self.blobs.folder())?.into_iter().collect();
        let layers = listed(self.layers.folder())?.into_iter().collect();
        let unneeded = gc::plan(&Content { blobs, layers }, &self.all_needed()?);
        let mut found: Vec<PathBuf> =
            unneeded.layers.iter().map(|layer| self.layers.path(layer)).collect();
        found.extend(unneeded.blobs.iter().map(|blob| self.blobs.path(blob)));
        let tmp = self.images.with_file_name("tmp");
        for entry in fs::read_dir(&tmp).map_err(io_error("list", &tmp))? {
            found.push(entry.map_err(io_error("list", &tmp))?.path());
        }
        Ok(Some(found))
    }

    fn all_needed(&self) -> Result<Vec<Content>, StoreError> {
        self.images()?.iter().map(|id| self.needed(id)).collect()
    }

    /// Deletes those of `blobs` that no image needs.
    pub(crate) fn delete_leftovers(&self, blobs: &[Digest]) -> Result<(), StoreError> {
        let blobs = blobs.iter().cloned().collect();
        self.delete_unneeded(&Content { blobs, ..Content::default() }).map(drop)
    }

    fn delete_unneeded(&self, present: &Content) -> Result<Removed, StoreError> {
        let content = gc::plan(present, &self.all_needed()?);
        for layer in &content.layers {
            self.layers.remove(layer)?;
        }
        for blob in &content.blobs {
            self.blobs.remove(blob)?;
        }
        Ok(Removed { content })
    }

    fn needed(&self, id: &Digest) -> Result<Content, StoreError> {
        let (digest, manifest) = self.record(id)?;
        let mut content = Content::default();
        content.blobs.extend([digest, id.clone()]);
        content.blobs.extend(manifest.layers.into_iter().map(|layer| layer.digest));
        content.layers.extend(self.read_config(id)?.chain_ids());
        Ok(content)
    }

    /// Returns the manifest of an image and its digest.
    fn record(&self, id: &Digest) -> Result<(Digest, Manifest), StoreError> {
        let path = self.images.join(id.hex());
        let text = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::NoImage { id: id.clone() },
            _ => io_error("read", &path)(source).into(),
        })?;
        let record: Record = serde_json::from_slice(&text).map_err(|source| {
            StoreError::Document { what: "the record of image", digest: id.clone(), source }
        })?;
        let bytes = self.blobs.read(&record.manifest, MAX_DOCUMENT)?;
        let manifest = serde_json::from_slice(&bytes).map_err(|source| StoreError::Document {
            what: "manifest",
            digest: record.manifest.clone(),
            source,
        })?;
        Ok((record.manifest, manifest))
    }

    fn write_record(&self, id: &Digest, record: &Record) -> Result<(), BlobError> {
        let text = serde_json::to_vec(record).expect("a record is always JSON");
        let (path, new) =
            (self.images.join(id.hex()), super::blobs::scratch(&self.images.with_file_name("tmp")));
        let mut file = fs::File::create_new(&new).map_err(io_error("create", &new))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(io_error("write", &new))?;
        fs::rename(&new, &path).map_err(io_error("rename into the store", &path))?;
        sync_folder(&self.images)
    }

    fn read_config(&self, id: &Digest) -> Result<ImageConfig, StoreError> {
        let bytes = self.blobs.read(id, MAX_DOCUMENT)?;
        serde_json::from_slice(&bytes).map_err(|source| StoreError::Document {
            what: "image config",
            digest: id.clone(),
            source,
        })
    }

    /// Unpacks the missing layers, several at a time, and names them after one sync of the file system.
    fn unpack_layers(&self, manifest: &Manifest, config: &ImageConfig) -> Result<(), StoreError> {
        let (layers, diff_ids) = (&manifest.layers, &config.rootfs.diff_ids);
        if layers.len() != diff_ids.len() {
            let id = manifest.config.digest.clone();
            return Err(StoreError::LayerCount {
                id,
                layers: layers.len(),
                diff_ids: diff_ids.len(),
            });
        }
        let chains = config.chain_ids();
        let missing: Vec<usize> =
            (0..layers.len()).filter(|at| !self.layers.contains(&chains[*at])).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let queue = Mutex::new(missing.iter().copied());
        let done: Mutex<Vec<(usize, Result<Unpacked, StoreError>)>> = Mutex::new(Vec::new());
        let threads =
            std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        let work = || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(at) = next else { return };
                let blob = self.blobs.open(&layers[at].digest).map_err(StoreError::from);
                let result =
                    blob.and_then(|blob| self.layers.unpack(blob, &diff_ids[at], &self.limits));
                done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        let unpacked = done
            .into_iter()
            .map(|(at, result)| result.map(|layer| (at, layer)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        // A name must never outlive a power cut that its files did not.
        let folder =
            fs::File::open(self.layers.folder()).map_err(io_error("open", self.layers.folder()))?;
        rustix::fs::syncfs(&folder)
            .map_err(|error| io_error("sync", self.layers.folder())(error.into()))?;
        for (at, layer) in unpacked {
            self.layers.publish(layer, &chains[at])?;
        }
        Ok(sync_folder(self.layers.folder())?)
    }
}

/// Returns the digests that are file names in `folder`.
fn listed(folder: &Path) -> Result<Vec<Digest>, StoreError> {
    let mut digests = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let name = entry.map_err(io_error("list", folder))?.file_name();
        digests.extend(Digest::try_from(format!("sha256:{}", name.to_string_lossy())).ok());
    }
    digests.sort();
    Ok(digests)
}
