//! Binds the socket in the run folder again when somebody unlinks it: the old one listens on, and nobody can reach it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::listen;
use crate::api::server::{self, Listener};
use crate::engine::Engine;

/// Watches the folder of `socket` until `shutdown`. `group` may connect too.
pub(super) fn watch(
    engine: &Arc<Engine>,
    socket: PathBuf,
    group: Option<String>,
    shutdown: CancellationToken,
) {
    let folder = socket.parent().unwrap_or(Path::new("/"));
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
        .and_then(|inotify| {
            let gone = WatchFlags::DELETE | WatchFlags::MOVED_FROM;
            inotify::add_watch(&inotify, folder, gone).map(|_| inotify)
        })
        .map_err(io::Error::from)
        .and_then(super::sys::readable);
    let inotify = match inotify {
        Ok(inotify) => inotify,
        Err(error) => {
            tracing::warn!(%error, "the socket is not bound again if somebody unlinks it");
            return;
        }
    };
    let engine = Arc::downgrade(engine);
    tokio::spawn(async move {
        loop {
            let Some(engine) = engine.upgrade() else { return };
            // Looked at once before the first event: the last engine's may have been unlinked.
            if is_dead(&socket).await && !shutdown.is_cancelled() {
                bind(&engine, &socket, group.as_deref(), &shutdown);
            }
            drop(engine);
            // Cancel safe: an event stays in the kernel.
            let heard = tokio::select! {
                () = shutdown.cancelled() => return,
                heard = inotify.readable() => heard,
            };
            let Ok(mut ready) = heard else { return };
            ready.clear_ready();
            empty(&inotify);
        }
    });
}

/// Tells whether nobody listens there. An engine that was killed may have left one that it bound by itself.
async fn is_dead(socket: &Path) -> bool {
    let gone = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
    tokio::net::UnixStream::connect(socket).await.is_err_and(|error| gone.contains(&error.kind()))
}

fn bind(engine: &Arc<Engine>, socket: &Path, group: Option<&str>, shutdown: &CancellationToken) {
    let bound =
        listen::bind_unix(socket, group).map_err(|error| error.to_string()).and_then(|listener| {
            let taken = listener.set_nonblocking(true);
            taken
                .and_then(|()| tokio::net::UnixListener::from_std(listener))
                .map_err(|error| error.to_string())
        });
    match bound {
        Ok(listener) => {
            tracing::warn!(socket = %socket.display(), "somebody unlinked it; it is bound again");
            let listeners = vec![Listener::Unix(listener)];
            tokio::spawn(server::serve(Arc::clone(engine), listeners, shutdown.clone()));
        }
        Err(error) => {
            tracing::error!(socket = %socket.display(), error, "somebody unlinked it, and it can't be bound again");
        }
    }
}

/// Reads what is there, so that the next event makes it readable again. The path itself tells all.
fn empty(inotify: &AsyncFd<OwnedFd>) {
    let mut buffer = [0; 4096];
    // An error is EAGAIN: all is read.
    while rustix::io::read(inotify.get_ref(), &mut buffer).is_ok() {}
}
