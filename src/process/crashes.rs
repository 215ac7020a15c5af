//! Crashes that come too fast: whatever crashed the engine may be one of its stacks, so the next one leaves them alone.
//!
//! A keeper counts in memory. Under a service manager nobody keeps count, so the engine notes its own starts.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// So many crashes within this time are too many.
pub(super) const CRASHES: usize = 3;
const WITHIN: Duration = Duration::from_secs(60);

/// When the engine crashed last.
#[derive(Debug, Default)]
pub(super) struct Crashes(VecDeque<SystemTime>);

impl Crashes {
    /// Notes one at `now` and tells whether to stop trying.
    pub(super) fn are_too_many(&mut self, now: SystemTime) -> bool {
        self.0.push_back(now);
        // A clock that was set back makes old ones look new, never the other way round.
        let old = |first: &SystemTime| now.duration_since(*first).is_ok_and(|age| age > WITHIN);
        while self.0.front().is_some_and(old) {
            self.0.pop_front();
        }
        self.0.len() >= CRASHES
    }
}

/// The file in which an engine without a keeper finds the starts that had no end. A clean end removes it.
#[derive(Debug)]
pub(super) struct Starts {
    path: PathBuf,
}

impl Starts {
    /// Notes a start at `now`, and tells whether those before it crashed too often.
    pub(super) fn note(path: PathBuf, now: SystemTime) -> io::Result<(Self, bool)> {
        let (mut crashes, mut too_many) = (Crashes::default(), false);
        for start in read(&path)? {
            too_many = crashes.are_too_many(start);
        }
        too_many &= crashes
            .0
            .back()
            .is_some_and(|last| now.duration_since(*last).is_ok_and(|age| age <= WITHIN));
        crashes.0.push_back(now);
        while crashes.0.len() > CRASHES {
            crashes.0.pop_front();
        }
        let seconds = |time: &SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
        };
        let lines: String = crashes.0.iter().map(|time| format!("{}\n", seconds(time))).collect();
        fs::write(&path, lines)?;
        Ok((Self { path }, too_many))
    }
}

impl Drop for Starts {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "not removed");
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<SystemTime>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let seconds = text.lines().filter_map(|line| line.parse().ok());
    Ok(seconds.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn three_crashes_within_a_minute_are_too_many() {
        let mut crashes = Crashes::default();
        assert!(!crashes.are_too_many(at(0)));
        assert!(!crashes.are_too_many(at(50)));
        assert!(!crashes.are_too_many(at(70)));
        assert!(crashes.are_too_many(at(80)));
    }

    #[test]
    fn starts_without_an_end_are_remembered_and_a_clean_end_forgets_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.starts");
        let crash = |seconds| {
            let (starts, too_many) = Starts::note(path.clone(), at(seconds)).unwrap();
            std::mem::forget(starts);
            too_many
        };
        assert!(!crash(0));
        assert!(!crash(10));
        assert!(!crash(20));
        assert!(crash(30), "three crashed");
        assert!(!crash(200), "long ago");
        let (starts, _) = Starts::note(path.clone(), at(201)).unwrap();
        drop(starts);
        assert!(!path.exists());
    }
}
