//! Which stacks the engine works on right now, in files that outlive it: a stack that one engine after another was
//! working on when it crashed is what crashes them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::engine::error::EngineError;

/// At one crash anything may have been under way.
const SUSPICIOUS: u32 = 2;

/// Stacks that were worked on at the last crashes without a pause, and at how many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Suspects(BTreeMap<String, u32>);

impl Suspects {
    /// Takes in what the last engine left in `folder`, where each file is a stack that it was working on.
    pub(super) fn take(folder: &Path) -> Result<Self, EngineError> {
        let doing = || format!("read which stacks a crash interrupted in {}", folder.display());
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            entries => entries.map_err(EngineError::io(doing()))?,
        };
        let mut found = BTreeMap::new();
        for entry in entries {
            let path = entry.map_err(EngineError::io(doing()))?.path();
            let text = fs::read_to_string(&path).map_err(EngineError::io(doing()))?;
            fs::remove_file(&path).map_err(EngineError::io(doing()))?;
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            // An empty file was cut off while it was written, which is a crash all the same.
            let before: u32 = text.trim().parse().unwrap_or_default();
            found.insert(name.to_owned(), before.saturating_add(1));
        }
        Ok(Self(found))
    }

    /// Returns the stack that was worked on at most of the last crashes, when it was more than one.
    pub(super) fn guilty(&self) -> Option<(&str, u32)> {
        let worst = self.0.iter().max_by_key(|(_, crashes)| **crashes)?;
        (*worst.1 >= SUSPICIOUS).then_some((worst.0.as_str(), *worst.1))
    }

    /// Returns at how many crashes `stack` was worked on.
    pub(super) fn crashes(&self, stack: &str) -> u32 {
        self.0.get(stack).copied().unwrap_or_default()
    }
}

/// A stack that is worked on, until this is dropped.
#[derive(Debug)]
#[must_use = "the work ends when it is dropped"]
pub(super) struct AtWork(PathBuf);

impl AtWork {
    /// Notes that `stack` is worked on, which was so at `crashes` crashes before.
    pub(super) fn begin(folder: &Path, stack: &str, crashes: u32) -> Self {
        let path = folder.join(stack);
        let written =
            fs::create_dir_all(folder).and_then(|()| fs::write(&path, crashes.to_string()));
        if let Err(error) = written {
            // The work itself is worth more than knowing what a crash interrupted.
            tracing::warn!(%error, path = %path.display(), "cannot note what is worked on");
        }
        Self(path)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.0.display(), "cannot note the end of a stack's work");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    #[test]
    fn who_is_worked_on_at_one_crash_after_another_is_guilty() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("at-work");
        let mut suspects = Suspects::take(&folder).unwrap();
        for crash in 1..=3 {
            drop(AtWork::begin(&folder, "fine", suspects.crashes("fine")));
            let interrupted = AtWork::begin(&folder, "bad", suspects.crashes("bad"));
            std::mem::forget(interrupted);
            suspects = Suspects::take(&folder).unwrap();
            assert_eq!(suspects.guilty(), (crash >= 2).then_some(("bad", crash)));
        }
        assert_eq!(Suspects::take(&folder).unwrap(), Suspects::default());
    }
}
