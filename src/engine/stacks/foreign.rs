//! Writes of other clients into a stack of ours through the Docker API: its loop freezes visibly instead of fighting
//! them, until the next `up`.

use std::sync::Arc;

use super::at_work::Suspects;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::{Durability, stacks};
use crate::spec::container::ContainerSpec;

const PROJECT: &str = "com.docker.compose.project";
const ONEOFF: &str = "com.docker.compose.oneoff";

impl Engine {
    /// Renames a container for a client of the API.
    pub async fn rename_for_client(
        self: &Arc<Self>,
        word: &str,
        to: &str,
    ) -> Result<(), EngineError> {
        let row = self.container(word)?.row();
        let replica = row.replica.as_ref().filter(|replica| !replica.oneoff);
        let froze = match replica {
            // Frozen first: the loop would give it its name back at once.
            Some(replica) => self.freeze(
                &replica.stack,
                &format!("another client renamed container {} to {to}", row.name),
            )?,
            None => false,
        };
        let renamed = self.rename_container(word, to).await;
        if let (true, Err(_), Some(replica)) = (froze, &renamed, replica) {
            self.thaw(&replica.stack)?;
        }
        renamed
    }

    /// Freezes the stack that a container made by a client of the API says it belongs to. One-off containers harm
    /// nothing.
    pub fn note_foreign_container(
        self: &Arc<Self>,
        name: &str,
        spec: &ContainerSpec,
    ) -> Result<(), EngineError> {
        let oneoff = spec.labels.get(ONEOFF).is_some_and(|text| text == "True");
        match spec.labels.get(PROJECT) {
            Some(stack) if !oneoff => {
                self.freeze(stack, &format!("another client created container {name} in it"))?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns whether the stack is ours, was kept, and is frozen from here on.
    fn freeze(self: &Arc<Self>, name: &str, reason: &str) -> Result<bool, EngineError> {
        let row = self.stack_row(name)?.filter(|row| row.wanted && row.frozen.is_none());
        let Some(row) = row else { return Ok(false) };
        let row = stacks::Stack { frozen: Some(reason.to_owned()), ..row };
        self.write(Durability::Power, |tx| stacks::put(tx, &row))?;
        self.tell_stack(name, "frozen", &[("reason", reason)]);
        Ok(true)
    }

    fn thaw(&self, name: &str) -> Result<(), EngineError> {
        let Some(row) = self.stack_row(name)? else { return Ok(()) };
        let row = stacks::Stack { frozen: None, ..row };
        Ok(self.write(Durability::Power, |tx| stacks::put(tx, &row))?)
    }

    /// Freezes every stack that is kept, as the engine that kept them crashed again and again, and names the one that
    /// it was working on.
    pub(super) fn freeze_after_crashes(
        self: &Arc<Self>,
        suspects: &Suspects,
    ) -> Result<(), EngineError> {
        for row in self.read(stacks::list)? {
            let reason = match suspects.guilty() {
                Some((guilty, crashes)) if guilty == row.name => {
                    format!("the engine crashed {crashes} times while it worked on this stack")
                }
                Some((guilty, crashes)) => {
                    format!("the engine crashed {crashes} times while it worked on stack {guilty}")
                }
                None => "the engine crashed again and again; its log says why".to_owned(),
            };
            tracing::error!(stack = row.name, "the stack is frozen: {reason}");
            self.freeze(&row.name, &reason)?;
        }
        Ok(())
    }
}
