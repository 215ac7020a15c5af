//! One engine a root: an flock(2) on `engine.lock`, which the kernel drops when its holder dies, however.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The root belongs to this process while this lives.
#[derive(Debug)]
pub struct RootLock {
    _file: Flock<File>,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("cannot use the lock file {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "another engine works on this root: {holder} holds {}; use that one, end it by `bargee engine stop`, or give \
         this one another --root and --run", path.display()
    )]
    Held { path: PathBuf, holder: String },
}

/// Takes the lock at `path`. `holder` is the line that a second engine shows, such as `pid 7, /run/bargee`.
pub fn take(path: &Path, holder: &str) -> Result<RootLock, LockError> {
    let failed = |source| LockError::File { path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            file.set_len(0).map_err(failed)?;
            file.rewind().map_err(failed)?;
            file.write_all(holder.as_bytes()).map_err(failed)?;
            Ok(RootLock { _file: file })
        }
        Err((file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            // The holder may not have written its name yet; the lock itself is what counts.
            file.take(256).read_to_string(&mut text).map_err(failed)?;
            let holder = if text.is_empty() { "an unnamed process".to_owned() } else { text };
            Err(LockError::Held { path: path.to_owned(), holder })
        }
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    #[test]
    fn a_second_engine_is_refused_and_told_who_holds_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.lock");
        let first = take(&path, "pid 7").unwrap();
        let error = take(&path, "pid 8").unwrap_err();
        assert!(error.to_string().contains("pid 7"), "{error}");
        drop(first);
        take(&path, "pid 8").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "pid 8");
    }
}
