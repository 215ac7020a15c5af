//! The engine's end of a container's shim: starting one, talking to it, noticing its death.
//!
//! The engine binds the shim's socket and hands it over as the shim's stdin, so that whoever connects queues
//! instead of being refused. A shim that no longer speaks is as good as dead, and a dead shim means a dead
//! container: the pidfd tells.

mod connection;
mod spawn;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::engine::containers::execs::Execs;
use crate::engine::{awake, sys};
use crate::runtime::cgroup::Cgroup;
use crate::runtime::shim::protocol::{
    Event, Hello, Message, Purpose, Reply, Request, Status, VERSION,
};

/// The control connection to one shim. Dropping it closes the connection; the shim goes on.
#[derive(Debug)]
pub(crate) struct Shim {
    run: PathBuf,
    pid: i32,
    start_time: u64,
    requests: mpsc::UnboundedSender<Asked>,
    /// It was told to go: its end is nobody's business.
    leaving: Arc<AtomicBool>,
    connection: AbortHandle,
}

/// What a new shim is made of, and where it goes.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) program: &'a Path,
    pub(super) bundle: &'a Path,
    pub(super) run: &'a Path,
    /// The engine's own when there is none.
    pub(super) cgroup: Option<&'a Cgroup>,
}

/// A request and where its reply goes.
pub(super) type Asked = (Request, oneshot::Sender<Reply>);

/// What the engine has to act on.
#[derive(Debug)]
pub(super) enum Happening {
    Event(Event),
    /// The shim of this pid is gone, and nobody told it to go.
    Died(i32),
}

#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    #[error("cannot open the folder {}", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("cannot start a shim for {}", folder.display())]
    Spawn { folder: PathBuf, source: io::Error },
    #[error("cannot speak with the shim of {}", folder.display())]
    Connect { folder: PathBuf, source: io::Error },
    #[error("the shim is gone{because}")]
    Gone { because: String },
    #[error("{message}")]
    Refused { message: String, code: i32 },
    #[error("BUG: the shim answered {0}")]
    Unexpected(String),
}

impl Shim {
    /// Starts a shim, and gives what happens to it to `follow`'s task.
    pub(super) async fn start<F: Future<Output = ()> + Send + 'static>(
        place: &Place<'_>,
        execs: Execs,
        follow: impl FnOnce(mpsc::UnboundedReceiver<Happening>) -> F,
    ) -> Result<Arc<Self>, ShimError> {
        let run = place.run;
        let pid = spawn::spawn(place)
            .map_err(|source| ShimError::Spawn { folder: run.to_owned(), source })?;
        let started = async {
            let pidfd = open_pidfd(pid)
                .map_err(|source| ShimError::Spawn { folder: run.to_owned(), source })?;
            let stream = connect(run, Purpose::Control).await.map_err(|error| match error {
                // Its socket was there before it, so it has ended.
                ShimError::Connect { .. } => ShimError::Gone { because: last_words(run) },
                other => other,
            })?;
            Self::run((stream, Vec::new()), pid, pidfd, run, execs, follow)
        };
        started.await.inspect_err(|_| spawn::discard(pid))
    }

    /// Connects to a shim that another engine started, and asks how its container is.
    pub(super) async fn adopt<F: Future<Output = ()> + Send + 'static>(
        run: &Path,
        execs: Execs,
        follow: impl FnOnce(mpsc::UnboundedReceiver<Happening>) -> F,
    ) -> Result<(Arc<Self>, Status), ShimError> {
        let mut stream = connect(run, Purpose::Control).await?;
        let (status, more) = tokio::time::timeout(ADOPTION, status_of(&mut stream))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| ShimError::Connect { folder: run.to_owned(), source })?;
        // It answered and its parent is not us, so the number is still its own.
        let pidfd = open_pidfd(status.shim_pid)
            .map_err(|source| ShimError::Connect { folder: run.to_owned(), source })?;
        let shim = Self::run((stream, more), status.shim_pid, pidfd, run, execs, follow)?;
        Ok((shim, status))
    }

    fn run<F: Future<Output = ()> + Send + 'static>(
        // With what was read of it already.
        (stream, more): (UnixStream, Vec<u8>),
        pid: i32,
        pidfd: OwnedFd,
        run: &Path,
        execs: Execs,
        follow: impl FnOnce(mpsc::UnboundedReceiver<Happening>) -> F,
    ) -> Result<Arc<Self>, ShimError> {
        let failed = |source| ShimError::Connect { folder: run.to_owned(), source };
        let start_time = start_time(pid).map_err(failed)?;
        let pidfd = sys::readable(pidfd).map_err(failed)?;
        let (requests, asked) = mpsc::unbounded_channel();
        let (happened, happenings) = mpsc::unbounded_channel();
        let leaving = Arc::<AtomicBool>::default();
        let connection = connection::Connection {
            pid,
            pidfd,
            asked,
            happened,
            execs,
            leaving: Arc::clone(&leaving),
        };
        let connection = tokio::spawn(connection.serve(stream, more)).abort_handle();
        // It ends with the connection, and never in the middle of what it does.
        tokio::spawn(follow(happenings));
        Ok(Arc::new(Self { run: run.to_owned(), pid, start_time, requests, leaving, connection }))
    }

    pub(in crate::engine) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Sends a request and returns its answer; requests of others may be under way.
    pub(super) async fn ask(&self, request: Request) -> Result<Reply, ShimError> {
        let (answer, mut reply) = oneshot::channel();
        let patience = patience(&request);
        // A closed channel shows itself by the dropped answer.
        let _ = self.requests.send((request, answer));
        let answered = match tokio::time::timeout(awake::SILENCE, &mut reply).await {
            Err(_) => {
                awake::wake(self.pid, self.start_time);
                tokio::time::timeout(patience, reply).await
            }
            soon => soon,
        };
        match answered {
            Ok(Ok(Reply::Failed { message, code })) => Err(ShimError::Refused { message, code }),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(ShimError::Gone { because: self.last_words() }),
            Err(_) => {
                kill_shim(self.pid, self.start_time);
                let seconds = patience.as_secs();
                let because = format!(": it was killed, as it did not answer for {seconds} s");
                Err(ShimError::Gone { because })
            }
        }
    }

    /// Sends a request whose answer is `Done`.
    pub(super) async fn order(&self, request: Request) -> Result<(), ShimError> {
        match self.ask(request).await? {
            Reply::Done => Ok(()),
            other => Err(ShimError::Unexpected(format!("{other:?}"))),
        }
    }

    /// Tells the shim to kill what is left, clean up and go.
    pub(super) async fn shut_down(&self) -> Result<(), ShimError> {
        self.leaving.store(true, Ordering::Release);
        self.order(Request::Shutdown)
            .await
            .inspect_err(|_| self.leaving.store(false, Ordering::Release))
    }

    /// Opens a connection to the streams of init, or of an exec.
    pub(super) async fn attach(
        &self,
        exec: Option<String>,
        streams: super::attach::Streams,
    ) -> Result<UnixStream, ShimError> {
        let super::attach::Streams { stdin, stdout, stderr } = streams;
        connect(&self.run, Purpose::Attach { exec, stdin, stdout, stderr }).await
    }

    fn last_words(&self) -> String {
        last_words(&self.run)
    }
}

/// Returns what a shim that failed left behind. It can write nothing where it failed for lack of room.
fn last_words(run: &Path) -> String {
    let text = std::fs::read_to_string(run.join("shim.error")).unwrap_or_default();
    let is_full = rustix::fs::statvfs(run).is_ok_and(|disk| disk.f_bavail == 0);
    match (text.is_empty(), is_full) {
        (false, _) => format!(": {text}"),
        (true, true) => format!(": {}: no space left on device", run.display()),
        (true, false) => String::new(),
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // One that leaves is still to be reaped.
        if !self.leaving.load(Ordering::Acquire) {
            self.connection.abort();
        }
    }
}

/// How long a shim that another engine started may take to say how its container is.
const ADOPTION: Duration = Duration::from_secs(3);

/// How long a shim may be busy before it is taken for dead: a start mounts what may be far away, a pause and an end
/// wait for the container's processes, anything else is done at once.
fn patience(request: &Request) -> Duration {
    let seconds = match request {
        Request::Start { .. } | Request::Exec { .. } => 300,
        Request::Pause | Request::Update { .. } | Request::Shutdown => 60,
        Request::Status
        | Request::Signal { .. }
        | Request::Resume
        | Request::SignalExec { .. }
        | Request::Resize { .. } => 10,
    };
    Duration::from_secs(seconds)
}

/// Kills a shim that does not answer, unless its pid is somebody else's by now. What it ran is killed with it, as the
/// engine hears of its end.
pub(in crate::engine::containers) fn kill_shim(pid: i32, started: u64) {
    let Ok(pidfd) = open_pidfd(pid) else { return };
    if start_time(pid).is_ok_and(|at| at == started) {
        // It fails when it ended just now.
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
}

fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}

/// Connects through a descriptor of the folder, as a socket's path may have 107 bytes only, unix(7).
async fn connect(run: &Path, purpose: Purpose) -> Result<UnixStream, ShimError> {
    let failed = |source| ShimError::Connect { folder: run.to_owned(), source };
    let folder = open_folder(run)?;
    let mut stream = UnixStream::connect(socket_in(&folder)).await.map_err(failed)?;
    let mut hello = serde_json::to_vec(&Hello { version: VERSION, purpose })
        .map_err(|error| failed(error.into()))?;
    hello.push(b'\n');
    stream.write_all(&hello).await.map_err(failed)?;
    Ok(stream)
}

fn open_folder(run: &Path) -> Result<OwnedFd, ShimError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(run, flags, Mode::empty())
        .map_err(|errno| ShimError::Folder { folder: run.to_owned(), source: errno.into() })
}

fn socket_in(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/shim.sock", folder.as_raw_fd()))
}

/// Asks for the status before anything else uses the connection. Returns, too, what came behind the answer.
async fn status_of(stream: &mut UnixStream) -> io::Result<(Status, Vec<u8>)> {
    use tokio::io::AsyncBufReadExt;
    let mut request = serde_json::to_vec(&Request::Status)?;
    request.push(b'\n');
    stream.write_all(&request).await?;
    let mut reader = tokio::io::BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match serde_json::from_str(&line)? {
            Message::Reply(Reply::Status(status)) => return Ok((status, reader.buffer().to_vec())),
            Message::Reply(_) => return Err(io::ErrorKind::InvalidData.into()),
            // Exits of before the status are in it.
            Message::Event(_) => {}
        }
    }
}

/// Field 22 of `/proc/PID/stat`; the name in field 2 may hold spaces and parentheses, proc_pid_stat(5).
pub(in crate::engine) fn start_time(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = after_name.split_whitespace().nth(19).and_then(|field| field.parse().ok());
    field.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}
