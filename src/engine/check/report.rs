//! The difference of both sides, once it has stayed for a while: what is under way is no fault.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::things::Thing;
use super::wanted::Wanted;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::protocol::{CheckReport, Fault};

/// How long a difference may take to go by itself: links go within a second of their answer, as netd does.
const PATIENCE: Duration = Duration::from_secs(3);
const BETWEEN: Duration = Duration::from_millis(50);

pub(super) type Differences = BTreeSet<(Fault, Thing)>;

impl Engine {
    /// Compares records, kernel and disk, and returns what differs for longer than work takes.
    pub async fn check(self: &Arc<Self>) -> Result<CheckReport, EngineError> {
        let (both, wanted) = self.lasting_differences(PATIENCE).await?;
        let findings = both.iter().map(|(fault, thing)| thing.finding(*fault)).collect();
        Ok(CheckReport { busy: wanted.busy.into_iter().collect(), findings })
    }

    /// Returns the differences that stayed for `patience`, and what was wanted at last.
    pub(super) async fn lasting_differences(
        self: &Arc<Self>,
        patience: Duration,
    ) -> Result<(Differences, Wanted), EngineError> {
        let deadline = Instant::now() + patience;
        let mut stayed: Option<Differences> = None;
        loop {
            let wanted = self.wanted_things()?;
            let now = differences(&wanted, &self.found_things(&wanted).await?);
            let both = stayed.map_or_else(|| now.clone(), |before| &before & &now);
            if both.is_empty() || Instant::now() >= deadline {
                return Ok((both, wanted));
            }
            stayed = Some(both);
            tokio::time::sleep(BETWEEN).await;
        }
    }
}

/// Returns what is there and belongs to nothing, and what should be there and is not. Pure.
pub(super) fn differences(wanted: &Wanted, found: &BTreeSet<Thing>) -> Differences {
    let leaks = found.iter().filter(|thing| !wanted.allows(thing));
    let missing = wanted.must.difference(found);
    leaks
        .map(|thing| (Fault::Leak, thing.clone()))
        .chain(missing.map(|thing| (Fault::Missing, thing.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_there_is_neither_a_leak_nor_missing() {
        let link = |name: &str| Thing::Link(name.to_owned());
        let wanted = Wanted {
            must: [link("bridge"), link("gone")].into(),
            may: [link("leaving"), link("left")].into(),
            ..Wanted::default()
        };
        let found = [link("bridge"), link("leaving"), link("stray")].into();
        let differences = differences(&wanted, &found);
        let expected = [(Fault::Leak, link("stray")), (Fault::Missing, link("gone"))];
        assert_eq!(differences, expected.into());
    }
}
