//! Removing images as docker's `rmi` does (moby `daemon/images/image_delete.go`): same order, same words.

use super::{Known, RemovedImage, parsed};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::{Container, Phase};
use crate::engine::state::images::{self as tags, Tag};
use crate::engine::state::{Durability, StateError, containers};
use crate::spec::reference::Reference;

impl Engine {
    /// Removes a name, and the image with its last name. Blocking.
    pub fn remove_image(&self, word: &str, force: bool) -> Result<Vec<RemovedImage>, EngineError> {
        let _alone = self.images.using.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = self.find_image(word)?;
        let all = self.read(tags::list)?;
        let references: Vec<Reference> = parsed(&all)
            .filter(|(_, tag)| tag.image_id == known.id())
            .map(|(reference, _)| reference)
            .collect();
        let users = self.users_of(&known)?;
        let mut removed = Vec::new();
        match named(word, &all) {
            Some(reference) => {
                if let (false, [_], Some(user)) = (force, &references[..], users.first()) {
                    return Err(EngineError::Conflict { message: reference_in_use(word, user) });
                }
                removed.push(self.untag(&known, &reference)?);
                if references.len() > 1 {
                    return Ok(removed);
                }
                // The name is gone, which is what was asked for; the image stays while somebody uses it.
                if !users.is_empty() {
                    return Ok(removed);
                }
            }
            None => {
                if references.len() > 1 && !force {
                    let why = "image is referenced in multiple repositories";
                    let message = undeletable(&known, Forcible::Yes, why);
                    return Err(EngineError::Conflict { message });
                }
                if let Some(message) = in_use(&known, &users, force) {
                    return Err(EngineError::Conflict { message });
                }
                for reference in &references {
                    removed.push(self.untag(&known, reference)?);
                }
            }
        }
        if !users.is_empty() {
            return Ok(removed);
        }
        self.delete_image(&known, &mut removed)?;
        Ok(removed)
    }

    /// Removes an image with all its names unless a container is made of it. Blocking.
    pub fn prune_image(&self, id: &str) -> Result<Vec<RemovedImage>, EngineError> {
        let _alone = self.images.using.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = self.find_image(id)?;
        let users = self.users_of(&known)?;
        if let Some(message) = in_use(&known, &users, false) {
            return Err(EngineError::Conflict { message });
        }
        let all = self.read(tags::list)?;
        let mut removed = Vec::new();
        for (reference, _) in parsed(&all).filter(|(_, tag)| tag.image_id == known.id()) {
            removed.push(self.untag(&known, &reference)?);
        }
        self.delete_image(&known, &mut removed)?;
        Ok(removed)
    }

    fn users_of(&self, known: &Known) -> Result<Vec<Container>, EngineError> {
        // The rows, not the handles: a container that is being created has none yet.
        let rows = self.read(containers::list)?;
        Ok(rows.into_iter().filter(|container| container.image_id == known.id()).collect())
    }

    fn delete_image(
        &self,
        known: &Known,
        removed: &mut Vec<RemovedImage>,
    ) -> Result<(), EngineError> {
        let content = self.store.remove(&known.loaded.image_id)?.content;
        self.images.forget(&known.loaded.image_id);
        self.image_event("delete", known.id(), known.id());
        removed.push(RemovedImage::Deleted(known.id().to_owned()));
        removed.extend(content.layers.iter().map(|layer| RemovedImage::Deleted(layer.to_string())));
        Ok(())
    }

    fn untag(&self, known: &Known, reference: &Reference) -> Result<RemovedImage, EngineError> {
        let name = reference.to_string();
        self.write::<_, StateError>(Durability::Power, |tx| tags::untag(tx, &name))?;
        self.image_event("untag", known.id(), known.id());
        Ok(RemovedImage::Untagged(reference.familiar()))
    }
}

/// Returns the tag that `word` is, if it is none of an image's id.
fn named(word: &str, all: &[Tag]) -> Option<Reference> {
    let reference = Reference::try_from(word).ok()?;
    if let Some(digest) = reference.digest() {
        return parsed(all)
            .find(|(known, tag)| {
                known.repository() == reference.repository() && tag.manifest == digest.as_str()
            })
            .map(|(known, _)| known);
    }
    let text = reference.to_string();
    all.iter().any(|tag| tag.reference == text).then_some(reference)
}

#[derive(Clone, Copy)]
enum Forcible {
    Yes,
    No,
}

/// Says why an image that is asked for by its id can't go; `force` passes over stopped containers.
fn in_use(known: &Known, users: &[Container], force: bool) -> Option<String> {
    let running = |user: &&Container| {
        matches!(
            user.phase,
            Phase::Starting | Phase::Running | Phase::Paused | Phase::Stopping | Phase::Restarting
        )
    };
    if let Some(user) = users.iter().find(running) {
        let why = format!("image is being used by running container {}", short(&user.id));
        return Some(undeletable(known, Forcible::No, &why));
    }
    let user = users.first().filter(|_| !force)?;
    let why = format!("image is being used by stopped container {}", short(&user.id));
    Some(undeletable(known, Forcible::Yes, &why))
}

fn undeletable(known: &Known, forcible: Forcible, why: &str) -> String {
    let forcible = match forcible {
        Forcible::Yes => "must be forced",
        Forcible::No => "cannot be forced",
    };
    format!("conflict: unable to delete {} ({forcible}) - {why}", short(known.id()))
}

fn reference_in_use(word: &str, user: &Container) -> String {
    format!(
        "conflict: unable to remove repository reference \"{word}\" (must force) - container {} is using its \
         referenced image {}",
        short(&user.id),
        short(&user.image_id)
    )
}

/// Returns the twelve digits that docker prints of an id.
fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}
