//! `bargee up` and `bargee apply`: make the machine what the files want, or what a kept plan says; `up` then follows the
//! logs.

use tokio::signal::unix::{SignalKind, signal};

use super::addresses;
use super::convergence::Convergence;
use super::foreground::{self, Foreground};
use super::history;
use super::plan_file;
use super::requests;
use super::show::{Display, show};
use super::tell;
use super::wanted::Wanted;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    convergence: Convergence,
    /// Return when it is done, and leave everything running
    #[arg(short, long)]
    detach: bool,
    /// Return when every service runs and is healthy; implies --detach
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most; implies --wait
    #[arg(long, value_name = "SECONDS")]
    wait_timeout: Option<u64>,
    /// Follow the logs of this service only; may be repeated
    #[arg(long, value_name = "SERVICE", conflicts_with = "detach")]
    attach: Vec<String>,
    /// Do not follow the logs of this service; may be repeated
    #[arg(long, value_name = "SERVICE", conflicts_with = "detach")]
    no_attach: Vec<String>,
    /// Print logs without colours
    #[arg(long)]
    no_color: bool,
    /// Print logs without the names of their containers
    #[arg(long)]
    no_log_prefix: bool,
    /// Print the time of each line of the logs
    #[arg(long)]
    timestamps: bool,
    /// Stop everything when a container ends
    #[arg(long, conflicts_with_all = ["detach", "wait"])]
    abort_on_container_exit: bool,
    /// Stop everything when a container ends with another code than 0
    #[arg(long, conflicts_with_all = ["detach", "wait", "abort_on_container_exit"])]
    abort_on_container_failure: bool,
    /// Exit with the code of this service; implies --abort-on-container-exit
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["detach", "wait"])]
    exit_code_from: Option<String>,
    /// Answer yes to every question: none is ever asked
    #[arg(short, long)]
    yes: bool,
    /// Print the progress as JSON lines; implies --detach
    #[arg(long)]
    json: bool,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        // Before the engine is even looked for: wrong files change nothing.
        let mut wanted = self.convergence.wanted(global)?;
        let services = self.attach.iter().chain(&self.no_attach).chain(&self.exit_code_from);
        wanted.check_services(services)?;
        wanted.add_compose_hashes();
        if self.detach
            || self.wait
            || self.wait_timeout.is_some()
            || self.json
            || self.convergence.no_start
        {
            let client = global.connect().await?;
            let wait = self.wait || self.wait_timeout.is_some();
            return detached(
                &client,
                &self.convergence,
                &wanted,
                wait,
                self.wait_timeout,
                self.json,
            )
            .await;
        }
        let client = global.connect().await?;
        foreground::run(&client, &wanted, &self.convergence, &self.foreground(&wanted)).await
    }
}

impl Args {
    fn foreground(&self, wanted: &Wanted) -> Foreground {
        let follows = |name: &String| {
            let asked = self.attach.is_empty() || self.attach.contains(name);
            let service = wanted.stack.services.iter().find(|(key, _)| key.as_str() == name);
            let silent = service.is_some_and(|(_, service)| !service.attach);
            asked && !self.no_attach.contains(name) && (!silent || self.attach.contains(name))
        };
        let brought_up = self.convergence.brought_up(wanted);
        Foreground {
            followed: brought_up.iter().filter(|name| follows(name)).cloned().collect(),
            // A stop without names is of everything, containers that were there before included.
            stopped: if self.convergence.services.is_empty() { Vec::new() } else { brought_up },
            no_color: self.no_color,
            prefix: !self.no_log_prefix,
            timestamps: self.timestamps,
            abort_on_exit: self.abort_on_container_exit || self.exit_code_from.is_some(),
            abort_on_failure: self.abort_on_container_failure,
            exit_code_from: self.exit_code_from.clone(),
            timeout: self.convergence.timeout,
        }
    }
}

/// Converges without following, then prints where the stack is reached.
async fn detached(
    client: &Client,
    convergence: &Convergence,
    wanted: &Wanted,
    wait: bool,
    wait_timeout: Option<u64>,
    json: bool,
) -> Result<u8, CliError> {
    let mut request = convergence.request(wanted, wait, wait_timeout);
    request.options.detail = json;
    let lines = requests::apply(client, &request).await?;
    let mut interrupted =
        signal(SignalKind::interrupt()).map_err(CliError::io("listen to Ctrl+C"))?;
    let title = format!("up {}", wanted.name());
    // `show` is dropped with its stream when the user leaves; the engine needs no reader.
    tokio::select! {
        shown = show(lines, &title, Display::choose(json), Some(wanted)) => shown?,
        _ = interrupted.recv() => {
            tell::note("left: the engine carries on without us; `bargee down` ends the stack");
            return Ok(exit::INTERRUPTED);
        }
    }
    if !json && !convergence.no_start {
        printer::print(&addresses::published(&requests::view(client, wanted.name()).await?))?;
    }
    Ok(exit::OK)
}

/// `bargee apply`: `up -d` by another name, or a plan that was kept.
pub(crate) mod apply {
    use super::*;

    #[derive(Debug, clap::Args)]
    pub(crate) struct Args {
        #[command(flatten)]
        convergence: Convergence,
        /// Return only when every service runs and is healthy
        #[arg(long)]
        wait: bool,
        /// Seconds to wait at most; implies --wait
        #[arg(long, value_name = "SECONDS")]
        wait_timeout: Option<u64>,
        /// Print the progress as JSON lines
        #[arg(long)]
        json: bool,
    }

    impl Verb for Args {
        async fn run(self, global: &Global) -> Result<u8, CliError> {
            let wait = self.wait || self.wait_timeout.is_some();
            if let [word] = self.convergence.services.as_slice()
                && let Some(plan) = plan_file::read(word)?
            {
                if !self.convergence.is_plain() || global.stack.is_made() {
                    let hint = "what is wanted was said when the plan was made";
                    return Err(tell::refuse("apply FILE takes no further options", Some(hint)));
                }
                let mut request = plan.request;
                let options = &mut request.options;
                options.expected_plan = Some(plan.digest);
                options.author = Some(history::author());
                (options.wait, options.wait_timeout) = (wait, self.wait_timeout);
                options.detail = self.json;
                let client = global.connect().await?;
                let lines = requests::apply(&client, &request).await?;
                let title = format!("apply {}", request.submission.stack.name);
                show(lines, &title, Display::choose(self.json), None).await?;
                return Ok(exit::OK);
            }
            let mut wanted = self.convergence.wanted(global)?;
            wanted.add_compose_hashes();
            let client = global.connect().await?;
            let (convergence, timeout) = (&self.convergence, self.wait_timeout);
            detached(&client, convergence, &wanted, wait, timeout, self.json).await
        }
    }
}
