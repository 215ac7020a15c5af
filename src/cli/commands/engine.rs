//! `bargee engine start|stop|status|restart` and `bargee system shutdown`.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use crate::cli::client::{Client, ClientError};
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::verb::Verb;
use crate::protocol::Version;

#[derive(Debug, clap::Args)]
pub(crate) struct Start {}

#[derive(Debug, clap::Args)]
pub(crate) struct Stop {}

#[derive(Debug, clap::Args)]
pub(crate) struct Restart {}

#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `system shutdown`.
#[derive(Debug, clap::Args)]
pub(crate) struct Shutdown {}

fn none_runs(global: &Global) -> String {
    format!("no engine runs at {}", global.place.socket().display())
}

async fn version(client: &Client) -> Result<Version, CliError> {
    Ok(client.get("/bargee/v1/version", &[]).await?.json()?)
}

impl Verb for Start {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let version = match version(&global.connect().await?).await {
            // It was the last moment of an engine that has no keeper any more.
            Err(CliError::Client(ClientError::Http { .. } | ClientError::Connect { .. })) => {
                version(&global.connect().await?).await?
            }
            answered => answered?,
        };
        printer::line(&format!("engine {} runs (pid {})", version.version, version.pid))?;
        Ok(exit::OK)
    }
}

impl Verb for Stop {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let Some(client) = Client::connect_running(&global.place).await? else {
            printer::line(&none_runs(global))?;
            return Ok(exit::OK);
        };
        stop(global, client, false).await?;
        printer::line("the engine is stopped; containers run on")?;
        Ok(exit::OK)
    }
}

impl Verb for Restart {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        if let Some(client) = Client::connect_running(&global.place).await? {
            stop(global, client, false).await?;
        }
        Start {}.run(global).await
    }
}

impl Verb for Shutdown {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = match Client::connect_running(&global.place).await? {
            // Only an engine can stop what an earlier one left.
            None if global.place.may_run_containers() => global.connect().await?,
            None => {
                printer::line(&none_runs(global))?;
                return Ok(exit::OK);
            }
            Some(client) => client,
        };
        stop(global, client, true).await?;
        printer::line("all containers and the engine are stopped")?;
        Ok(exit::OK)
    }
}

impl Verb for Status {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let Some(client) = Client::connect_running(&global.place).await? else {
            printer::line(&none_runs(global))?;
            return Ok(exit::FAILURE);
        };
        let answer: Value = client.get("/bargee/v1/version", &[]).await?.json()?;
        if self.json {
            printer::line(&answer.to_string())?;
        } else {
            let version = version(&client).await?;
            printer::line(&format!(
                "engine {} runs (pid {}), root {}, run folder {}",
                version.version, version.pid, version.root, version.run
            ))?;
        }
        Ok(exit::OK)
    }
}

/// How long an engine may take to end, with its containers' own grace on top.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ends the engine and waits until its process is gone.
async fn stop(global: &Global, client: Client, containers: bool) -> Result<(), CliError> {
    let pid = version(&client).await?.pid;
    let query: &[(&str, &str)] = if containers { &[("containers", "1")] } else { &[] };
    // Taken before the request, so that the number can't be another process's.
    let process =
        i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).and_then(|pid| {
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
        });
    client.post("/bargee/v1/shutdown", query, None).await?;
    drop(client);
    if let Some(process) = process {
        // A pidfd is readable when its process has ended; pidfd_open(2). Nothing else runs here meanwhile.
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
        let ended = poll(&mut fds, patience)
            .map_err(|error| CliError::io("watch the engine")(error.into()))?;
        if ended == 0 {
            let seconds = PATIENCE.as_secs();
            let text = format!("the engine (pid {pid}) is still there after {seconds} s");
            return Err(CliError::Failed(text));
        }
    }
    wait_for_keeper(&global.place.socket()).map_err(CliError::io("watch the engine's socket"))
}

/// Waits until nobody holds the engine's socket: its keeper ends after it, and a command in between would be cut off.
fn wait_for_keeper(socket: &Path) -> io::Result<()> {
    let Ok(mut stream) = UnixStream::connect(socket) else { return Ok(()) };
    // A service manager's socket stays, and starts the engine again when it is used.
    let listener = rustix::net::sockopt::socket_peercred(&stream)?.pid;
    if listener.is_init() {
        return Ok(());
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    match stream.read(&mut [0]) {
        // Nobody will take this connection: the socket is closed.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
    }
}
