//! `bargee engine start|stop|status|restart` and `bargee system shutdown`.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use crate::cli::client::Client;
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

async fn version(client: &Client) -> Result<Version, CliError> {
    Ok(client.get("/bargee/v1/version", &[]).await?.json()?)
}

impl Verb for Start {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let version = version(&global.connect().await?).await?;
        printer::line(&format!("engine {} runs (pid {})", version.version, version.pid))?;
        Ok(exit::OK)
    }
}

impl Verb for Stop {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        stop(global, false).await?;
        printer::line("the engine is stopped; containers run on")?;
        Ok(exit::OK)
    }
}

impl Verb for Restart {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        stop(global, false).await?;
        Start {}.run(global).await
    }
}

impl Verb for Shutdown {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        stop(global, true).await?;
        printer::line("all containers and the engine are stopped")?;
        Ok(exit::OK)
    }
}

impl Verb for Status {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let Some(client) = Client::connect_running(&global.place).await? else {
            let socket = global.place.socket();
            printer::line(&format!("no engine runs at {}", socket.display()))?;
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

/// How long a keeper may take after its engine; a new one may be at work already.
const KEEPER_PATIENCE: Duration = Duration::from_secs(2);

/// Ends the engine and waits until its process is gone.
async fn stop(global: &Global, containers: bool) -> Result<(), CliError> {
    let Some(client) = Client::connect_running(&global.place).await? else { return Ok(()) };
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
    await_keeper(&global.place.socket()).await;
    Ok(())
}

/// Waits until whoever bound the socket has let it go: a keeper ends a moment after its engine, and an engine that is
/// started meanwhile would take it for a living one.
async fn await_keeper(socket: &std::path::Path) {
    let mut lock = socket.as_os_str().to_owned();
    lock.push(".lock");
    let start = std::time::Instant::now();
    while start.elapsed() < KEEPER_PATIENCE {
        let Ok(file) = std::fs::File::open(&lock) else { return };
        if file.try_lock().is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
