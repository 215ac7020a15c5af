//! `bargee exec` on a service: as compose has it, with a terminal wherever there is one.

use super::choose::{self, ByName};
use super::containers::one;
use super::requests;
use crate::cli::commands::exec;
use crate::cli::error::CliError;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::terminal;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    by_name: ByName,
    /// Run in the background
    #[arg(short, long)]
    detach: bool,
    /// Number of the container, when the service has several [default: the first that runs]
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// Give the program no terminal
    #[arg(short = 'T', long = "no-tty", alias = "no-TTY")]
    no_tty: bool,
    /// Keep standard input open: always so here
    #[arg(short, long)]
    interactive: bool,
    /// Give the program a terminal: done wherever there is one
    #[arg(short, long)]
    tty: bool,
    /// Set a variable, or pass it on from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Give the process all privileges
    #[arg(long)]
    privileged: bool,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Folder that the program starts in
    #[arg(short, long, value_name = "FOLDER")]
    workdir: Option<String>,
    /// Service, program and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["SERVICE", "COMMAND"])]
    words: Vec<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let chosen = choose::choose(global, &self.by_name, &self.words[..1])?;
        let client = global.connect().await?;
        let view = requests::view(&client, &chosen.stack).await?;
        let found = one(&view, &chosen.services[0], self.index)?;
        let terminal = terminal::stdin_is_terminal() && printer::is_terminal();
        let mut words = self.words;
        words[0].clone_from(&found.replica.id);
        let process = exec::Args {
            detach: self.detach,
            detach_keys: None,
            interactive: !self.detach,
            tty: terminal && !self.no_tty && !self.detach,
            env: self.env,
            env_file: Vec::new(),
            privileged: self.privileged,
            user: self.user,
            workdir: self.workdir,
            words,
        };
        process.run(global).await
    }

    fn targets(&self) -> &[String] {
        &self.words[..1]
    }
}
