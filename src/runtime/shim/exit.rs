//! The exit record `<run>/exit`: replaced atomically, so that a reader sees the old one or the new one.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::protocol::Exit;

/// Stores the record durably.
pub(crate) fn store(run: &Path, exit: &Exit) -> io::Result<()> {
    let (path, fresh) = (run.join("exit"), run.join("exit.new"));
    let mut file = fs::File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(exit)?)?;
    file.sync_data()?;
    fs::rename(fresh, path)
}

/// Returns the record of the last run, or `None` if there is none.
pub fn load(run: &Path) -> io::Result<Option<Exit>> {
    match fs::read(run.join("exit")) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_record_is_read_back_and_replaced() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(load(run.path()).unwrap(), None);
        let mut exit = Exit { incarnation: 1, code: 137, oom: true, at: 5 };
        store(run.path(), &exit).unwrap();
        exit.incarnation = 2;
        store(run.path(), &exit).unwrap();
        assert_eq!(load(run.path()).unwrap(), Some(exit));
    }
}
