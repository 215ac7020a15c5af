//! Starts an engine when none runs, and waits until it listens.
//!
//! The engine is `bargee engine --auto`, a process of its own that outlives us. Two commands that start at
//! once take turns at a lock in the run folder, so the second finds the first one's engine.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::ClientError;
use crate::cli::place::Place;
use crate::diagnostic::escape_controls;

/// Longer than a database of a large machine takes to open; the keeper binds the socket long before.
const PATIENCE: Duration = Duration::from_secs(30);

/// What of the engine's log is shown when it does not start.
const LAST_LINES: usize = 8;
const LAST_BYTES: u64 = 8 << 10;

/// Whether a failure to connect means that nobody listens.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Starts the engine of `place` and returns when its socket accepts connections.
///
/// # Errors
/// We aren't root, or the engine does not come up; its last log lines are in the message.
pub(super) fn start(place: &Place) -> Result<(), ClientError> {
    let socket = place.socket();
    if !rustix::process::geteuid().is_root() {
        return Err(ClientError::NotRoot { socket });
    }
    create_folder(&place.run)?;
    let _turn = take_turn(&place.run)?;
    if connects(&socket) {
        return Ok(());
    }
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .and_then(|inotify| {
            let made =
                AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ATTRIB;
            inotify.add_watch(&place.run, made).map(|_| inotify)
        })
        .map_err(|error| start_error(format!("watch {}", place.run.display()))(error.into()))?;
    let log = Log::of(place);
    let mut child = spawn(place, &log.path)?;
    wait(&mut child, &inotify, &socket, &log)?;
    greet(&socket, &log)
}

/// Waits for the engine's first answer. Its keeper listens before it, so a connection says little: when the engine
/// can't open its root, the keeper gives up and the connection breaks.
fn greet(socket: &Path, log: &Log) -> Result<(), ClientError> {
    let answer = UnixStream::connect(socket).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: bargee\r\nConnection: close\r\n\r\n")?;
        let mut first = [0; 1];
        stream.read_exact(&mut first)
    });
    match answer {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let seconds = PATIENCE.as_secs();
            Err(ClientError::StartTimeout {
                socket: socket.to_owned(),
                seconds,
                log: log.last_lines(),
            })
        }
        Err(_) => Err(ClientError::StartFailed { log: log.last_lines() }),
    }
}

fn start_error(doing: String) -> impl FnOnce(io::Error) -> ClientError {
    move |source| ClientError::Start { doing, source }
}

fn create_folder(run: &Path) -> Result<(), ClientError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(run)
        .map_err(start_error(format!("create the folder {}", run.display())))
}

/// Waits for our turn to start an engine; it ends when the file is dropped.
fn take_turn(run: &Path) -> Result<File, ClientError> {
    let path = run.join("start.lock");
    let doing = format!("lock {}", path.display());
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(start_error(doing.clone()))?;
    file.lock().map_err(start_error(doing))?;
    Ok(file)
}

fn connects(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

fn spawn(place: &Place, log: &Path) -> Result<Child, ClientError> {
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(log)
        .and_then(|file| Ok((file.try_clone()?, file)))
        .map_err(start_error(format!("open {}", log.display())))?;
    // By its path and not /proc/self/exe, so that a restart after an upgrade takes the new one.
    let program = std::env::current_exe().map_err(start_error("find this program".to_owned()))?;
    let mut command = Command::new(&program);
    command.arg("engine").arg("--auto").arg("--root").arg(&place.root);
    command.arg("--run").arg(&place.run);
    if let Some(config) = &place.config {
        command.arg("--config").arg(config);
    }
    if let Some(level) = &place.log_level {
        command.arg("--log-level").arg(level.as_str());
    }
    command
        .stdin(Stdio::null())
        .stdout(output.0)
        .stderr(output.1)
        .current_dir("/")
        // The terminal's signals are for us alone.
        .process_group(0)
        .spawn()
        .map_err(start_error(format!("run {}", program.display())))
}

/// Waits for whichever comes first: the socket accepts, the child fails, patience ends.
fn wait(child: &mut Child, inotify: &Inotify, socket: &Path, log: &Log) -> Result<(), ClientError> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())
        .map_err(|error| start_error("watch its process".to_owned())(error.into()))?;
    let deadline = Instant::now() + PATIENCE;
    let mut alive = true;
    loop {
        if connects(socket) {
            return Ok(());
        }
        if alive
            && let Some(status) = child.try_wait().map_err(start_error("wait for it".into()))?
        {
            if !status.success() {
                return Err(ClientError::StartFailed { log: log.last_lines() });
            }
            // It went on in the background.
            alive = false;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let (seconds, log) = (PATIENCE.as_secs(), log.last_lines());
            return Err(ClientError::StartTimeout { socket: socket.to_owned(), seconds, log });
        }
        let mut fds = vec![PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        if alive {
            fds.push(PollFd::new(pidfd.as_fd(), PollFlags::POLLIN));
        }
        // A socket is created by bind and accepts only after listen, which makes no event: so a short tick
        // follows the creation.
        let tick = if socket.exists() { Duration::from_millis(2) } else { left };
        let timeout = PollTimeout::try_from(tick).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(start_error("wait for it".to_owned())(error.into())),
        }
        // The events only wake us up.
        drop(inotify.read_events());
    }
}

/// The engine's log, from where this start begins.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    old: u64,
}

impl Log {
    fn of(place: &Place) -> Self {
        let path = place.run.join("engine.log");
        let old = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Self { path, old }
    }

    /// Returns its end, escaped and ready to stand behind a message.
    fn last_lines(&self) -> String {
        let Ok(mut file) = File::open(&self.path) else { return String::new() };
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        // A shorter file is a new one.
        let old = if length < self.old { 0 } else { self.old };
        let from = old.max(length.saturating_sub(LAST_BYTES));
        let mut bytes = Vec::new();
        if file.seek(SeekFrom::Start(from)).is_err()
            || file.take(LAST_BYTES).read_to_end(&mut bytes).is_err()
        {
            return String::new();
        }
        last_words(&String::from_utf8_lossy(&bytes))
            .unwrap_or_else(|| format!("; {} is empty", self.path.display()))
    }
}

/// What an engine said last that did not start. An error is said once for each of the keeper's attempts; it is
/// what counts, and once is enough.
fn last_words(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let error = lines.iter().rposition(|line| {
        line.starts_with("error: ") && !line.contains("crashed") && !line.contains(" keeper: ")
    });
    if let Some(at) = error {
        let rest = lines[at..].iter().take_while(|line| !line.contains(" keeper: "));
        let words: Vec<String> = rest.map(|line| escape_controls(line)).collect();
        return Some(format!(": {}", words.join("\n").trim_start_matches("error: ")));
    }
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    let words: Vec<String> = last.iter().map(|line| escape_controls(line)).collect();
    (!words.is_empty()).then(|| format!("; it said: {}", words.join(" | ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_s_own_error_is_what_is_told() {
        let text = "1.0 keeper: x\nerror: cannot open /r: read-only\n1.1 keeper: the engine ended with 1\n\
                    error: cannot open /r: read-only\n1.2 keeper: giving up\nerror: the engine crashed 3 times\n";
        assert_eq!(last_words(text).as_deref(), Some(": cannot open /r: read-only"));
        assert_eq!(last_words("a\nb\n").as_deref(), Some("; it said: a | b"));
        assert_eq!(last_words("\n"), None);
    }
}
