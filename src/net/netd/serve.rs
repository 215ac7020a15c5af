//! netd's main loop: one request at a time, and the end when nobody needs it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

use super::obey::Netd;
use super::state::{NetdError, Report, Request, read_state, socket_path};
use crate::net::watch::{Notice, Watch};

/// How long a netd without containers waits for the next one.
const LINGER: Duration = Duration::from_secs(1);

/// Runs netd until nobody needs it. Must be called before any thread exists, in the host's network namespace.
pub fn run(state_file: &Path) -> Result<(), NetdError> {
    // A session of its own: it outlives the engine's terminal. It fails for a group's leader, which has one.
    let _ = nix::unistd::setsid();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| NetdError::Runtime { source })?;
    runtime.block_on(follow(state_file, Path::new("/etc/resolv.conf")))
}

/// Obeys the state file, now and whenever the engine asks.
pub async fn follow(state_file: &Path, resolv_conf: &Path) -> Result<(), NetdError> {
    let socket = socket_path(state_file);
    let listener =
        listen(&socket).map_err(|source| NetdError::Listen { path: socket.clone(), source })?;
    let mut links = match Watch::open() {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::error!(%error, "sockets of containers that go are closed late");
            None
        }
    };
    let mut netd = Netd::default();
    let mut report = obey(&mut netd, state_file, resolv_conf).await;
    let mut end = Instant::now() + LINGER;
    loop {
        // All arms only make an event; what was not accepted or heard yet stays in the kernel's queue.
        let client = tokio::select! {
            client = listener.accept() => client,
            heard = hear(&mut links) => {
                if let Some(notices) = heard {
                    netd.close_left(&notices);
                }
                continue;
            }
            () = tokio::time::sleep_until(end), if netd.is_idle() => break,
        };
        // An error of accept(2) is the client's, who went away.
        let Ok((client, _)) = client else { continue };
        let mut client = BufReader::new(client);
        match read_request(&mut client).await {
            Some(Request::Obey) => {
                report = obey(&mut netd, state_file, resolv_conf).await;
                end = Instant::now() + LINGER;
                answer(&mut client, &report).await;
            }
            Some(Request::Tell) => answer(&mut client, &netd.tell(report.clone())).await,
            Some(Request::End) => {
                drop(netd);
                drop(fs::remove_file(&socket));
                answer(&mut client, &report).await;
                return Ok(());
            }
            None => {}
        }
    }
    drop(fs::remove_file(&socket));
    Ok(())
}

/// Returns the next notices of devices; waits for ever once they fail.
async fn hear(links: &mut Option<Watch>) -> Option<BTreeSet<Notice>> {
    let Some(watch) = links else { return std::future::pending().await };
    match watch.next().await {
        Ok(notices) => Some(notices),
        Err(error) => {
            tracing::error!(%error, "sockets of containers that go are closed late");
            *links = None;
            None
        }
    }
}

/// Binds the socket; one that a dead netd left is replaced.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(socket)
}

async fn obey(netd: &mut Netd, state_file: &Path, resolv_conf: &Path) -> Report {
    match read_state(state_file) {
        Ok(state) => {
            let refused = netd.obey(&state, resolv_conf).await;
            Report { generation: state.generation, refused, ..Report::default() }
        }
        // The old answers are better than none; the old generation tells the engine.
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "keeping the last state");
            Report::default()
        }
    }
}

/// How long a client may take to say what it wants: all others wait meanwhile.
const CLIENT_PATIENCE: Duration = Duration::from_secs(1);

async fn read_request(client: &mut BufReader<UnixStream>) -> Option<Request> {
    let mut line = String::new();
    tokio::time::timeout(CLIENT_PATIENCE, client.read_line(&mut line)).await.ok()?.ok()?;
    serde_json::from_str(&line).ok()
}

async fn answer(client: &mut BufReader<UnixStream>, report: &Report) {
    let text = serde_json::to_string(report).unwrap_or_default();
    // A client that went away asks again.
    drop(client.write_all(format!("{text}\n").as_bytes()).await);
}
