//! A container's log as a stream.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::Snapshot;
use super::lifecycle::is_up;
use crate::engine::background;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::logs::{Entry, LogError, Query, Reader, Scope, Watch};
use crate::engine::state::containers::Phase;
use crate::engine::sys;

/// Lines that are read ahead of a slow client.
const AHEAD: usize = 64;

impl Engine {
    /// Streams the log's lines. A follower's stream ends when the container has stopped and everything is read; a
    /// restart by policy ends it too, and one that doesn't run is not followed, both as in docker.
    pub fn container_logs(
        self: &Arc<Self>,
        word: &str,
        query: Query,
        follow: bool,
    ) -> Result<mpsc::Receiver<Result<Entry, LogError>>, EngineError> {
        let handle = self.container(word)?;
        let row = handle.row();
        if row.spec.logging.driver == "none" {
            let message = "configured logging driver does not support reading".to_owned();
            return Err(EngineError::NotImplemented { message });
        }
        let path = self.paths.container_log(handle.id());
        let (lines, receiver) = mpsc::channel(AHEAD);
        let follow = follow && may_write(row.phase);
        // Made before the reader is at its end, so that nothing falls between them.
        let watch = if follow { Some(Watch::new(&path)?) } else { None };
        let state = handle.watch();
        // While it starts, the record is still the last run's.
        let runtime = row.runtime.as_ref().filter(|_| is_up(row.phase));
        let run = runtime.map(|runtime| runtime.incarnation);
        tokio::spawn(async move {
            let streamed = match watch {
                Some(watch) => stream_on(&path, query, &lines, watch, state, run).await,
                None => read_once(&path, query, &lines).await,
            };
            if let Err(error) = streamed {
                // A client that left needs no error.
                let _ = lines.send(Err(error)).await;
            }
        });
        Ok(receiver)
    }
}

fn may_write(phase: Phase) -> bool {
    is_up(phase) || phase == Phase::Starting
}

type Lines = mpsc::Sender<Result<Entry, LogError>>;

async fn read_once(path: &Path, query: Query, lines: &Lines) -> Result<(), LogError> {
    let path = path.to_owned();
    let reader = in_background(move || Reader::open(&path, query, Scope::Written)).await?;
    drain(reader, lines).await.map(drop)
}

async fn stream_on(
    path: &Path,
    query: Query,
    lines: &Lines,
    watch: Watch,
    mut state: watch::Receiver<Snapshot>,
    run: Option<u64>,
) -> Result<(), LogError> {
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    let failed = |error: std::io::Error| LogError::Read { path: folder.clone(), source: error };
    let readable = watch.as_fd().try_clone_to_owned().and_then(sys::readable).map_err(failed)?;
    let until = query.until;
    let place = path.to_owned();
    let open = move || Reader::open(&place, query, Scope::Following);
    let mut reader = in_background(open).await?;
    loop {
        // Looked at before reading, so that the last lines are read once more after the end.
        let ended = has_ended(&state.borrow_and_update(), run);
        let Some(next) = drain(reader, lines).await? else { return Ok(()) };
        reader = next;
        if ended || until.is_some_and(|until| jiff::Timestamp::now() > until) {
            return Ok(());
        }
        tokio::select! {
            // Cancel safe: readiness stays until it is cleared.
            ready = readable.readable() => {
                let mut ready = ready.map_err(failed)?;
                watch.clear()?;
                ready.clear_ready();
            }
            // Cancel safe: the change is seen at the next turn.
            changed = state.changed() => if changed.is_err() { return Ok(()) },
            () = lines.closed() => return Ok(()),
        }
    }
}

/// The exit is published after the last line was written.
fn has_ended(state: &Snapshot, run: Option<u64>) -> bool {
    let now = state.row.runtime.as_ref().map(|runtime| runtime.incarnation);
    state.removed || !may_write(state.row.phase) || (run.is_some() && now != run)
}

/// Sends all that is there and returns the reader; `None` when the client has left.
async fn drain(mut reader: Reader, lines: &Lines) -> Result<Option<Reader>, LogError> {
    let lines = lines.clone();
    let drained = in_background(move || {
        while let Some(entry) = reader.next_entry()? {
            if lines.blocking_send(Ok(entry)).is_err() {
                return Ok(None);
            }
        }
        Ok(Some(reader))
    });
    drained.await
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    background::run(work).await.map_err(|error| LogError::Background(Box::new(error)))?
}
