//! One engine a root: an flock(2) on `engine.lock`, which the kernel drops when its holder dies, however.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The root belongs to this process while this lives.
#[derive(Debug)]
pub struct RootLock {
    file: Flock<File>,
}

impl RootLock {
    /// Writes down who holds it from now on: a child that inherited it.
    ///
    /// # Errors
    /// The lock's file can't be written.
    pub fn name_holder(&mut self, holder: &str) -> io::Result<()> {
        write_holder(&mut self.file, holder)
    }
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

/// How long the kernel may take to end a holder that was killed: it frees all memory first, and the lock last.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes the lock at `path`. `holder` is the line that a second engine shows; it ends with the pid. A holder that was
/// killed is waited for.
pub fn take(path: &Path, holder: &str) -> Result<RootLock, LockError> {
    let start = Instant::now();
    loop {
        match try_take(path, holder) {
            Err(LockError::Held { holder, .. })
                if is_ending(Path::new("/proc"), &holder) && start.elapsed() < PATIENCE =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            taken => return taken,
        }
    }
}

fn try_take(path: &Path, holder: &str) -> Result<RootLock, LockError> {
    let failed = |source| LockError::File { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = match options.open(path) {
        // A lock needs no right to write; it then names whoever had it last.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(path),
        other => other,
    };
    match Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            if let Err(error) = write_holder(&mut file, holder) {
                tracing::warn!(%error, path = %path.display(), "the lock's file does not name us");
            }
            Ok(RootLock { file })
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

/// In place, and cut to its length last: a full disk has room for what was there.
fn write_holder(file: &mut File, holder: &str) -> io::Result<()> {
    file.rewind()?;
    file.write_all(holder.as_bytes())?;
    file.set_len(holder.len() as u64)
}

/// Tells whether the process whose pid ends the text `holder` is gone or about to go: proc_pid_status(5).
fn is_ending(proc: &Path, holder: &str) -> bool {
    let Some(pid) = holder.split(' ').next_back().filter(|word| word.parse::<u32>().is_ok()) else {
        return false;
    };
    let Ok(status) = std::fs::read_to_string(proc.join(pid).join("status")) else { return true };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let is_dead = field("State:").is_some_and(|state| state.starts_with(['Z', 'X']));
    let is_killed = ["SigPnd:", "ShdPnd:"].into_iter().any(|name| {
        let pending = field(name).and_then(|word| u64::from_str_radix(word, 16).ok());
        pending.is_some_and(|pending| pending & 1 << (libc::SIGKILL - 1) != 0)
    });
    // A process that has given its memory back tells no size any more.
    is_dead || is_killed || field("VmSize:").is_none()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    #[test]
    fn a_second_engine_is_refused_and_told_who_holds_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.lock");
        let holder = format!("pid {}", std::process::id());
        let mut first = take(&path, "pid 1").unwrap();
        first.name_holder(&holder).unwrap();
        let error = take(&path, "pid 8").unwrap_err();
        assert!(error.to_string().contains(&holder), "{error}");
        drop(first);
        take(&path, "pid 8").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "pid 8");
    }

    #[test]
    fn a_holder_that_was_killed_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.lock");
        let mut killed = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let holder = killed.id().to_string();
        let lock = try_take(&path, &holder).unwrap();
        assert!(!is_ending(Path::new("/proc"), &holder));
        killed.kill().unwrap();
        // It is a zombie until it is waited for.
        let freed = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(lock);
        });
        take(&path, "pid 8").unwrap();
        freed.join().unwrap();
        killed.wait().unwrap();
    }
}
