//! What the database holds of a stack: everything that a boot needs, without the user's files and environment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::StackError;
use crate::engine::core::{Engine, now};
use crate::engine::error::EngineError;
use crate::engine::state::containers::Container;
use crate::engine::state::revisions::{self, Entry, New, Outcome, Revision};
use crate::engine::state::stacks::{self, Stack as StackRow};
use crate::engine::state::{Durability, StateError, restarts};
use crate::protocol::{ApplyOptions, Submission};
use crate::reconcile::desired::Desired;
use crate::spec::digest::Digest;
use crate::spec::name::ServiceName;
use crate::spec::stack::{RestartLimits, Stack};

/// A revision's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Content {
    /// Its stack is the merged one: what was wanted before and not selected now is in it.
    pub(super) submission: Submission,
    /// Image references and the config digests that they meant: a moved tag changes nothing until the next `up`.
    pub(super) images: BTreeMap<String, String>,
}

/// What is wanted of a stack, as stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) row: StackRow,
    pub(super) number: u32,
    pub(super) outcome: Outcome,
    pub(super) content: Content,
}

impl Stored {
    pub(super) fn stack(&self) -> &Stack {
        &self.content.submission.stack
    }

    pub(super) fn desired(&self) -> Desired {
        Desired::resolve(self.stack(), &self.content.images)
    }
}

/// Who asks for a revision, and why.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked<'a> {
    pub(super) author: Option<&'a str>,
    pub(super) message: Option<&'a str>,
    /// Another source may lose the stack to this one.
    pub(super) take_over: bool,
}

impl<'a> Asked<'a> {
    pub(super) fn of(options: &'a ApplyOptions) -> Self {
        let (author, message) = (options.author.as_deref(), options.message.as_deref());
        Self { author, message, take_over: options.take_over }
    }
}

impl Engine {
    pub(super) fn stack_row(&self, name: &str) -> Result<Option<StackRow>, StateError> {
        self.read(|connection| stacks::get(connection, name))
    }

    /// Returns what is stored of a stack; `None` when it was never brought up.
    pub(super) fn stored_stack(&self, name: &str) -> Result<Option<Stored>, EngineError> {
        let (row, revision) = self.read(|connection| {
            Ok::<_, StateError>((
                stacks::get(connection, name)?,
                revisions::latest(connection, name)?,
            ))
        })?;
        let (Some(row), Some(revision)) = (row, revision) else { return Ok(None) };
        let content = decode(&revision)?;
        let Entry { number, outcome, .. } = revision.entry;
        Ok(Some(Stored { row, number, outcome, content }))
    }

    /// Stores what is wanted from now on, and forgets the stops and backoffs of `resumed`, in one transaction
    /// that survives a loss of power. A content that is stored already makes no new revision.
    pub(super) fn store_stack(
        &self,
        content: &Content,
        resumed: &[ServiceName],
        asked: Asked<'_>,
    ) -> Result<u32, EngineError> {
        let stack = &content.submission.stack;
        let (name, source) = (stack.name.as_str(), content.submission.source.as_str());
        let text = encode(content);
        let digest = digest(&text);
        let replicas = stack.services.values().map(|service| (&service.name, service.replicas));
        let subjects: Vec<String> = replicas
            .filter(|(service, _)| resumed.contains(service))
            .flat_map(|(service, count)| {
                (1..=count).map(|n| crate::engine::observe::subject(name, service.as_str(), n))
            })
            .collect();
        self.write(Durability::Power, |tx| {
            let before = stacks::get(tx, name)?;
            check_owner(before.as_ref(), name, source, asked.take_over)?;
            let row = StackRow {
                name: name.to_owned(),
                source: source.to_owned(),
                wanted: true,
                frozen: None,
                created_at: before.map_or_else(now, |row| row.created_at),
            };
            stacks::put(tx, &row)?;
            for service in resumed {
                stacks::recall(tx, name, Some(service.as_str()))?;
            }
            for subject in &subjects {
                restarts::reset(tx, subject)?;
            }
            let latest = revisions::latest(tx, name)?.map(|latest| latest.entry);
            if let Some(latest) = latest.filter(|latest| latest.digest == digest) {
                revisions::set_outcome(tx, name, latest.number, Outcome::Applying)?;
                return Ok(latest.number);
            }
            let Asked { author, message, .. } = asked;
            let (digest, content) = (digest.as_str(), text.as_str());
            let new = New { stack: name, digest, content, at: now(), author, message };
            Ok(revisions::add(tx, new)?)
        })
    }

    /// Pins the images that came with the revision's own run.
    pub(super) fn pin_images(&self, number: u32, content: &Content) -> Result<(), StateError> {
        let name = content.submission.stack.name.as_str();
        let text = encode(content);
        self.write(Durability::Process, |tx| {
            revisions::set_content(tx, name, number, &digest(&text), &text)
        })
    }

    pub(super) fn set_outcome(
        &self,
        name: &str,
        number: u32,
        outcome: Outcome,
    ) -> Result<(), StateError> {
        self.write(Durability::Power, |tx| revisions::set_outcome(tx, name, number, outcome))
    }

    /// Returns what the container's stack says of its restarts, over the engine's defaults.
    pub(crate) fn restart_limits(&self, row: &Container) -> RestartLimits {
        let Some(replica) = &row.replica else { return RestartLimits::default() };
        // Without a readable revision its restarts go on by the defaults.
        let stored = self.stored_stack(&replica.stack).ok().flatten();
        let services = stored.as_ref().map(|stored| &stored.stack().services);
        let service =
            services.into_iter().flatten().find(|(name, _)| name.as_str() == replica.service);
        service.map_or_else(RestartLimits::default, |(_, service)| service.restart_limits)
    }

    /// Returns the digests of those of `stack`'s images that are here.
    pub(super) fn current_images(&self, stack: &Stack) -> BTreeMap<String, String> {
        let references = stack.services.values().map(|service| &service.container.image);
        let mut images = BTreeMap::new();
        for reference in references {
            if !images.contains_key(reference)
                && let Some(id) = self.image_id(reference)
            {
                images.insert(reference.clone(), id);
            }
        }
        images
    }
}

/// A stack is its name and its source: another file must not replace it by accident.
pub(super) fn check_owner(
    row: Option<&StackRow>,
    name: &str,
    source: &str,
    take_over: bool,
) -> Result<(), StackError> {
    match row {
        Some(row) if row.source != source && !take_over => Err(StackError::OtherSource {
            name: name.to_owned(),
            owner: row.source.clone(),
            asker: source.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// # Errors
/// A newer engine wrote it.
pub(super) fn decode(revision: &Revision) -> Result<Content, StackError> {
    serde_json::from_str(&revision.content).map_err(|error| StackError::BadRevision {
        name: revision.entry.stack.clone(),
        number: revision.entry.number,
        reason: error.to_string(),
    })
}

fn encode(content: &Content) -> String {
    serde_json::to_string(content).expect("a revision has only string keys")
}

fn digest(text: &str) -> String {
    Digest::from_bytes(&Sha256::digest(text.as_bytes()).into()).as_str().to_owned()
}
