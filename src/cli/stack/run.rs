//! `bargee run` on a service: a container beside its replicas, with what the service depends on brought up first.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::choose::{self, ByName};
use super::requests;
use super::show::{Display, show};
use super::tell;
use super::wanted::Wanted;
use crate::cli::client::{Client, segment};
use crate::cli::commands::run::{Joining, start};
use crate::cli::container::environment;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::stack_files::StackArgs;
use crate::cli::terminal;
use crate::cli::verb::Verb;
use crate::protocol::{OneoffChange, RunRequest};
use crate::spec::value::mount::Folders;
use crate::spec::value::{command, mount, port};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    by_name: ByName,
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Remove the container when its program ends
    #[arg(long)]
    rm: bool,
    /// Leave alone what the service depends on
    #[arg(long)]
    no_deps: bool,
    /// Name of the container [default: STACK-SERVICE-run-RANDOM]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Program instead of the service's, as one line
    #[arg(long, value_name = "LINE")]
    entrypoint: Option<String>,
    /// Set a variable, or pass it on from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_from_file: Vec<PathBuf>,
    /// Mount a folder or a volume: [SOURCE:]TARGET[:OPTIONS]
    #[arg(short, long, value_name = "VOLUME")]
    volume: Vec<String>,
    /// Publish a port: [ADDRESS:][HOST:]CONTAINER[/PROTOCOL]
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// Publish the service's own ports, which else stay closed
    #[arg(short = 'P', long)]
    service_ports: bool,
    /// Let other containers reach it by the names of its service
    #[arg(long)]
    use_aliases: bool,
    /// Label of the container
    #[arg(short, long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Folder that the program starts in
    #[arg(short, long, value_name = "FOLDER")]
    workdir: Option<String>,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Give the program no terminal
    #[arg(short = 'T', long = "no-tty", alias = "no-TTY")]
    no_tty: bool,
    /// Keep standard input open (--interactive=false to close it)
    #[arg(short, long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    interactive: bool,
    /// Service, and program and arguments instead of its own
    #[arg(required = true, trailing_var_arg = true, value_names = ["SERVICE", "COMMAND"])]
    words: Vec<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let wanted = self.wanted(global)?;
        let stack = match &wanted {
            Some(wanted) => wanted.name().to_owned(),
            None => choose::choose(global, &self.by_name, &[])?.stack,
        };
        let request = self.request(&stack, wanted.as_ref())?;
        let client = global.connect().await?;
        let lines = requests::run(&client, &stack, &request).await?;
        let mut interrupted =
            signal(SignalKind::interrupt()).map_err(CliError::io("listen to Ctrl+C"))?;
        let title = format!("run {}", request.service);
        // `show` is dropped with its stream when the user leaves; the engine needs no reader.
        tokio::select! {
            shown = show(lines, &title, Display::choose(false), wanted.as_ref()) => shown?,
            _ = interrupted.recv() => {
                tell::note("left: the engine carries on without us; `bargee down` ends the stack");
                return Ok(exit::INTERRUPTED);
            }
        }
        let path = format!("/containers/{}/json", segment(&request.container));
        let container: Value = client.get(&path, &[]).await?.json()?;
        let id = container["Id"].as_str().unwrap_or_default();
        self.follow(&client, id, &request.change).await
    }
}

impl Args {
    /// Reads the stack's files, which `--stack NAME` alone makes needless: then the stack is as it is kept.
    fn wanted(&self, global: &Global) -> Result<Option<Wanted>, CliError> {
        let mut args = choose::both(&global.stack, &StackArgs::default());
        let by_name = self.by_name.stack.is_some() || global.stack.name.is_some();
        if by_name && args.file.is_empty() {
            return Ok(None);
        }
        args.selected.push(self.words[0].clone());
        let mut wanted = Wanted::read(&args)?;
        wanted.check_services([&self.words[0]])?;
        wanted.add_compose_hashes();
        Ok(Some(wanted))
    }

    fn request(&self, stack: &str, wanted: Option<&Wanted>) -> Result<RunRequest, CliError> {
        let service = self.words[0].clone();
        let container = match &self.name {
            Some(name) => name.clone(),
            None => format!("{stack}-{service}-run-{}", random()?),
        };
        Ok(RunRequest {
            submission: wanted.map(Wanted::submission),
            service,
            container,
            no_deps: self.no_deps,
            change: self.change()?,
        })
    }

    fn change(&self) -> Result<OneoffChange, CliError> {
        let terminal = terminal::stdin_is_terminal() && printer::is_terminal();
        let tty = terminal && !self.no_tty && !self.detach;
        let entrypoint = self.entrypoint.as_deref().map(command::split).transpose()?;
        let ports: Vec<_> =
            self.publish.iter().map(|word| port::parse(word)).collect::<Result<_, _>>()?;
        let folder = std::env::current_dir().map_err(CliError::io("find the current folder"))?;
        let folder = folder.to_string_lossy();
        let home = std::env::var("HOME").ok();
        let folders = Folders { working_dir: &folder, home: home.as_deref() };
        let mounts: Vec<_> =
            self.volume.iter().map(|word| mount::parse(word, folders)).collect::<Result<_, _>>()?;
        Ok(OneoffChange {
            entrypoint,
            command: self.words[1..].to_vec(),
            env: environment(&self.env_from_file, &self.env)?,
            labels: labels(&self.label),
            user: self.user.clone(),
            working_dir: self.workdir.clone(),
            mounts,
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            ports: ports.concat(),
            service_ports: self.service_ports,
            use_aliases: self.use_aliases,
            tty,
            console_size: if tty { terminal::size() } else { None },
            stdin: self.interactive && !self.detach,
            auto_remove: self.rm,
        })
    }

    async fn follow(
        &self,
        client: &Client,
        id: &str,
        change: &OneoffChange,
    ) -> Result<u8, CliError> {
        if self.detach {
            start(client, id).await?;
            printer::line(id)?;
            return Ok(exit::OK);
        }
        let joining = Joining {
            streams: [change.stdin, true, true],
            tty: change.tty,
            proxy: true,
            detach_keys: None,
            removed: self.rm,
        };
        joining.run(client, id).await
    }
}

fn labels(words: &[String]) -> BTreeMap<String, String> {
    let pairs = words.iter().map(|word| word.split_once('=').unwrap_or((word, "")));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Twelve hexadecimal digits, as compose has them in the names of such containers.
fn random() -> Result<String, CliError> {
    let number = getrandom::u64()
        .map_err(|error| CliError::Failed(format!("cannot make up a name: {error}")))?;
    Ok(format!("{:012x}", number >> 16))
}
