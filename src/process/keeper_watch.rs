//! An engine whose keeper was killed makes itself another one, with the socket that the first one bound: the next crash
//! must find somebody who starts the next engine.

use std::fs::File;
use std::io::{self, PipeWriter, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::{Options, ProcessError, kept, sys};

/// Until the next one when a keeper lives shorter than this; doubled each time up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// What another keeper is made of.
#[derive(Debug)]
pub(super) struct KeeperWatch {
    options: Options,
    program: PathBuf,
    /// A copy of the socket that clients connect to.
    listener: OwnedFd,
    last_word: LastWord,
}

/// Tells a keeper that did not start us how we end. The first keeper needs none.
#[derive(Debug, Clone, Default)]
pub(super) struct LastWord(Arc<Mutex<Option<PipeWriter>>>);

impl LastWord {
    /// Says that this end is wanted. Without it the keeper starts another engine.
    pub(super) fn say(&self) {
        let pipe = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = pipe.map(|mut pipe| pipe.write_all(kept::LAST_WORD)) {
            tracing::debug!(%error, "the keeper is gone");
        }
    }
}

impl KeeperWatch {
    /// `listener` is the keeper's socket. Call it before the program's file can be replaced.
    pub(super) fn new(options: &Options, listener: OwnedFd) -> Result<Self, ProcessError> {
        let program = std::env::current_exe().map_err(ProcessError::io("find our own binary"))?;
        let last_word = LastWord::default();
        Ok(Self { options: options.clone(), program, listener, last_word })
    }

    pub(super) fn last_word(&self) -> LastWord {
        self.last_word.clone()
    }

    /// Follows one keeper after the other until `shutdown`. Needs a tokio runtime.
    pub(super) fn start(self, shutdown: CancellationToken) {
        tokio::spawn(async move {
            // Cancel safe: a keeper that is being made ends with the pipe that we close.
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.follow() => {}
            }
        });
    }

    async fn follow(self) {
        let mut keeper = self.first();
        let mut pause = FIRST_PAUSE;
        loop {
            let since = Instant::now();
            if let Some(Keeper { child, pidfd }) = keeper.take() {
                // The error is the runtime's end.
                drop(pidfd.readable().await);
                let status = child.map(|mut child| child.wait());
                tracing::warn!(?status, "the keeper is gone; another one is made");
            }
            match since.elapsed() > LAST_PAUSE {
                true => pause = FIRST_PAUSE,
                false => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
            match self.make() {
                Ok(made) => keeper = Some(made),
                Err(error) => tracing::error!(%error, "no keeper restarts this engine for now"),
            }
        }
    }

    /// The keeper that started us, if it still lives.
    fn first(&self) -> Option<Keeper> {
        let pid = self.options.keeper?;
        let pidfd = watch(Pid::from_raw(pid)?).ok()?;
        // Looked at last: as long as it is our parent its number is its own.
        let is_parent = rustix::process::getppid().map(Pid::as_raw_pid) == Some(pid);
        is_parent.then_some(Keeper { child: None, pidfd })
    }

    fn make(&self) -> io::Result<Keeper> {
        let (read, write) = io::pipe()?;
        let child = Command::new(&self.program)
            .args(self.options.of_keeper(std::process::id()))
            .stdin(File::from(self.listener.try_clone()?))
            .stdout(Stdio::from(read))
            .spawn()?;
        let pidfd = watch(Pid::from_child(&child))?;
        *self.last_word.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(write);
        Ok(Keeper { child: Some(child), pidfd })
    }
}

struct Keeper {
    /// If it is ours to reap.
    child: Option<Child>,
    pidfd: AsyncFd<OwnedFd>,
}

fn watch(pid: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    sys::readable(pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}
