//! Images by the names that users give them: the store's content, and the database's tags.

mod known;
mod remove;
mod usage;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

pub(crate) use known::{Images, Known};
pub use usage::LayerUsage;

use crate::engine::background;
use crate::engine::core::{Engine, now};
use crate::engine::error::EngineError;
use crate::engine::state::images::{self as tags, Tag};
use crate::engine::state::{Durability, StateError};
use crate::images::Loaded;
use crate::images::commit::CommitOptions;
pub use crate::images::config::RunConfig;
pub use crate::images::platform::Platform;
pub use crate::images::{Format, ImageConfig, ImportOptions};
use crate::spec::digest::Digest;
use crate::spec::reference::Reference;

/// Why an image that is not here can't be had.
const NO_REGISTRY: &str = "this version has no access to registries";

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
    pub fn load_images(&self, archive: impl Read) -> Result<Vec<LoadedImage>, EngineError> {
        let mut told = Vec::new();
        for loaded in self.store.load(archive)? {
            let references =
                loaded.names.iter().map(|name| parse(name)).collect::<Result<Vec<_>, _>>()?;
            self.set_tags(&loaded, &references)?;
            let names: Vec<String> = references.iter().map(Reference::familiar).collect();
            let id = loaded.image_id.to_string();
            self.image_event("load", &id, names.first().unwrap_or(&id));
            told.push(LoadedImage { id, references: names });
        }
        Ok(told)
    }

    /// Makes an image of a root file system's archive. Blocking.
    pub fn import_image(
        &self,
        rootfs: impl Read,
        options: &ImportOptions,
        reference: Option<&str>,
    ) -> Result<String, EngineError> {
        let reference = reference.map(tagged).transpose()?;
        let loaded = self.store.import(rootfs, options)?;
        self.set_tags(&loaded, reference.as_slice())?;
        let id = loaded.image_id.to_string();
        self.image_event("import", &id, &reference.map_or(id.clone(), |name| name.familiar()));
        Ok(id)
    }

    /// Makes an image of another one and one more layer, and names it. Blocking.
    pub(crate) fn extend_image<L>(
        &self,
        base: &Digest,
        layer: Option<L>,
        options: &CommitOptions,
        reference: Option<&str>,
    ) -> Result<String, EngineError>
    where
        L: FnOnce(&mut dyn Write) -> std::io::Result<()>,
    {
        let reference = reference.map(tagged).transpose()?;
        let loaded = self.store.extend(base, layer, options)?;
        self.set_tags(&loaded, reference.as_slice())?;
        Ok(loaded.image_id.to_string())
    }

    pub fn images(&self) -> Result<Vec<ImageView>, EngineError> {
        let tags = self.read(tags::list)?;
        let mut all = Vec::new();
        for id in self.store.images()? {
            let known = self.known_image(&id)?;
            all.push(self.image_view(&known, &tags));
        }
        Ok(all)
    }

    /// Returns the image that `word` means: a reference, an id or a unique prefix of one. `bargee/hello` is made
    /// on demand.
    pub fn image(&self, word: &str) -> Result<ImageView, EngineError> {
        let known = self.find_image(word)?;
        Ok(self.image_view(&known, &self.read(tags::list)?))
    }

    pub fn tag_image(&self, word: &str, reference: &str) -> Result<(), EngineError> {
        let known = self.find_image(word)?;
        let reference = tagged(reference)?;
        self.set_tags(&known.loaded, std::slice::from_ref(&reference))?;
        self.image_event("tag", known.id(), &reference.familiar());
        Ok(())
    }

    /// Writes images into one archive; a repository without a tag means all of its tags. Blocking.
    pub fn save_images(
        &self,
        words: &[String],
        output: impl Write,
        format: Format,
    ) -> Result<(), EngineError> {
        let tags = self.read(tags::list)?;
        let mut images: Vec<(Digest, Vec<String>)> = Vec::new();
        for word in words {
            for (id, name) in self.named_by(word, &tags)? {
                let known = images.iter().position(|(known, _)| *known == id);
                let place = known.unwrap_or_else(|| {
                    images.push((id, Vec::new()));
                    images.len() - 1
                });
                let names = &mut images[place].1;
                names.extend(name.filter(|name| !names.contains(name)));
            }
        }
        for (id, names) in &images {
            let id = id.to_string();
            self.image_event("save", &id, names.first().unwrap_or(&id));
        }
        Ok(self.store.save(&images, output, format)?)
    }

    /// Fails as `save` would when an image is not there.
    pub fn check_saveable(&self, words: &[String]) -> Result<(), EngineError> {
        let tags = self.read(tags::list)?;
        words.iter().try_for_each(|word| self.named_by(word, &tags).map(drop))
    }

    /// Unix nanoseconds of the last time that the image got a name.
    pub fn image_tagged_at(&self, id: &str) -> Result<Option<i64>, EngineError> {
        let tags = self.read(tags::list)?;
        Ok(tags.iter().filter(|tag| tag.image_id == id).map(|tag| tag.tagged_at).max())
    }

    /// Bytes of each layer as it was loaded, from the bottom up.
    pub fn image_layer_sizes(&self, id: &str) -> Result<Vec<u64>, EngineError> {
        let known = self.find_image(id)?;
        let manifest = self.store.manifest(&known.loaded.image_id)?;
        Ok(manifest.layers.iter().map(|layer| layer.size).collect())
    }

    /// Gets an image that is not here. Registries come later: today it makes `bargee/hello` and else says how to
    /// load an image.
    pub async fn pull_image(self: &Arc<Self>, reference: &str) -> Result<(), EngineError> {
        let wanted = parse(reference)?;
        if is_hello(&wanted) {
            let engine = Arc::clone(self);
            return background::run(move || engine.make_hello().map(drop)).await?;
        }
        let message = format!(
            "cannot pull {}: {NO_REGISTRY}; load an archive with `bargee load -i FILE` \
             or import a root file system with `bargee import FILE {}`",
            wanted.familiar(),
            wanted.familiar()
        );
        Err(EngineError::NotImplemented { message })
    }

    /// Returns why [`Engine::pull_image`] can't bring `reference`; a phrase.
    pub(crate) fn obstacle_to_pull(&self, reference: &str) -> Option<&'static str> {
        let made_here = Reference::try_from(reference).is_ok_and(|wanted| is_hello(&wanted));
        (!made_here).then_some(NO_REGISTRY)
    }

    /// Returns id and name of every image that `word` means to `save`.
    fn named_by(
        &self,
        word: &str,
        tags: &[Tag],
    ) -> Result<Vec<(Digest, Option<String>)>, EngineError> {
        let bare = Reference::try_from(word).ok().filter(|_| !has_version(word));
        if let Some(bare) = bare {
            let of_repository: Vec<_> = parsed(tags)
                .filter(|(reference, _)| reference.repository() == bare.repository())
                .filter_map(|(reference, tag)| {
                    let id = Digest::try_from(tag.image_id.as_str()).ok()?;
                    Some((id, Some(reference.familiar())))
                })
                .collect();
            if !of_repository.is_empty() {
                return Ok(of_repository);
            }
        }
        let known = self.find_image(word)?;
        let name = Reference::try_from(word)
            .ok()
            .filter(|reference| tags.iter().any(|tag| tag.reference == reference.to_string()))
            .map(|reference| reference.familiar());
        Ok(vec![(known.loaded.image_id.clone(), name)])
    }

    pub(crate) fn find_image(&self, word: &str) -> Result<Arc<Known>, EngineError> {
        let missing = || EngineError::NoImage { reference: with_latest(word) };
        if let Ok(id) = Digest::try_from(word) {
            return self.known_image(&id).map_err(|error| match error.kind() {
                crate::engine::Kind::NotFound => missing(),
                _ => error,
            });
        }
        if let Ok(reference) = Reference::try_from(word)
            && let Some(id) = self.id_of(&reference)?
        {
            return self.known_image(&id);
        }
        if let Some(id) = self.id_of_prefix(word)? {
            return self.known_image(&id);
        }
        match Reference::try_from(word) {
            Ok(reference) if is_hello(&reference) => self.make_hello(),
            _ => Err(missing()),
        }
    }

    fn id_of(&self, reference: &Reference) -> Result<Option<Digest>, EngineError> {
        let id = match reference.digest() {
            None => self.read(|db| tags::find(db, &reference.to_string()))?.map(|tag| tag.image_id),
            // A digest decides alone; a tag beside it is for people.
            Some(digest) => {
                let all = self.read(tags::list)?;
                parsed(&all)
                    .find(|(known, tag)| {
                        known.repository() == reference.repository()
                            && (tag.manifest == digest.as_str() || tag.image_id == digest.as_str())
                    })
                    .map(|(_, tag)| tag.image_id.clone())
            }
        };
        Ok(id.and_then(|id| Digest::try_from(id).ok()))
    }

    fn id_of_prefix(&self, word: &str) -> Result<Option<Digest>, EngineError> {
        let prefix = word.strip_prefix("sha256:").unwrap_or(word);
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let mut matching =
            self.store.images()?.into_iter().filter(|id| id.hex().starts_with(prefix));
        match (matching.next(), matching.next()) {
            (Some(_), Some(_)) => {
                let message = format!("multiple images found with provided prefix: {word}");
                Err(EngineError::Invalid { message })
            }
            (only, _) => Ok(only),
        }
    }

    /// Makes `bargee/hello` of our own program and tags it.
    fn make_hello(&self) -> Result<Arc<Known>, EngineError> {
        let loaded = self.store.hello(&self.machine.program)?;
        self.set_tags(&loaded, &[parse(crate::images::hello::NAME)?])?;
        self.known_image(&loaded.image_id)
    }

    fn set_tags(&self, image: &Loaded, references: &[Reference]) -> Result<(), EngineError> {
        let tagged_at = now();
        let set = |tx: &crate::engine::state::Transaction<'_>| -> Result<(), StateError> {
            for reference in references {
                let tag = Tag {
                    reference: reference.to_string(),
                    manifest: image.manifest.to_string(),
                    image_id: image.image_id.to_string(),
                    tagged_at,
                };
                tags::tag(tx, &tag)?;
            }
            Ok(())
        };
        if !references.is_empty() {
            self.write(Durability::Power, set)?;
        }
        Ok(())
    }

    fn image_view(&self, known: &Known, tags: &[Tag]) -> ImageView {
        let id = known.id();
        let mut view = ImageView {
            id: id.to_owned(),
            tags: Vec::new(),
            digests: Vec::new(),
            size: known.loaded.size,
            config: known.loaded.config.clone(),
            containers: Vec::new(),
        };
        for (reference, tag) in parsed(tags).filter(|(_, tag)| tag.image_id == id) {
            if reference.tag().is_some() {
                view.tags.push(reference.familiar());
            }
            view.digests.push(format!("{}@{}", reference.familiar_name(), tag.manifest));
        }
        view.tags.sort();
        view.digests.sort();
        view.digests.dedup();
        let made_of_it =
            |handle: &Arc<crate::engine::containers::Handle>| handle.row().image_id == id;
        let containers = self.handles().into_iter().filter(made_of_it);
        view.containers = containers.map(|handle| handle.id().to_owned()).collect();
        view
    }

    fn image_event(&self, action: &str, id: &str, name: &str) {
        self.emit("image", action, id, BTreeMap::from([("name".to_owned(), name.to_owned())]));
    }
}

fn parsed(tags: &[Tag]) -> impl Iterator<Item = (Reference, &Tag)> {
    // Every tag was a reference when it was written.
    tags.iter().filter_map(|tag| Some((Reference::try_from(tag.reference.as_str()).ok()?, tag)))
}

fn parse(text: &str) -> Result<Reference, EngineError> {
    Reference::try_from(text).map_err(|error| EngineError::Invalid { message: error.to_string() })
}

/// Reads a reference to give: a digest is what an image has, not what it is given.
fn tagged(text: &str) -> Result<Reference, EngineError> {
    let reference = parse(text)?;
    if reference.digest().is_some() {
        let message = "refusing to create a tag with a digest reference".to_owned();
        return Err(EngineError::Invalid { message });
    }
    Ok(reference)
}

fn is_hello(reference: &Reference) -> bool {
    Reference::try_from(crate::images::hello::NAME).is_ok_and(|hello| hello == *reference)
}

/// Tells whether a reference's text ends with a tag or a digest.
fn has_version(text: &str) -> bool {
    text.contains('@') || text.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

/// Returns what docker calls an image that it doesn't have: `nginx:latest`.
fn with_latest(word: &str) -> String {
    match Reference::try_from(word) {
        Ok(_) if !has_version(word) => format!("{word}:latest"),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_image_is_named_as_docker_names_it() {
        assert_eq!(with_latest("nginx"), "nginx:latest");
        assert_eq!(with_latest("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(with_latest("nginx:1"), "nginx:1");
        let digest = format!("nginx@sha256:{}", "a".repeat(64));
        assert_eq!(with_latest(&digest), digest);
    }

    #[test]
    fn a_tag_is_no_digest() {
        assert!(tagged(&format!("a@sha256:{}", "a".repeat(64))).is_err());
        assert_eq!(tagged("a").map(|tag| tag.familiar()).ok().as_deref(), Some("a:latest"));
        assert!(is_hello(&Reference::try_from("bargee/hello").expect("a name")));
    }
}
