//! `bargee down`: ends a stack; volumes stay unless they are named.

use super::choose;
use super::requests;
use super::show::{Display, show};
use super::tell;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::stack_files::StackArgs;
use crate::cli::verb::Verb;
use crate::protocol::DownRequest;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: StackArgs,
    #[command(flatten)]
    by_name: choose::ByName,
    /// Remove the stack's volumes too, with all that they hold
    #[arg(short, long)]
    volumes: bool,
    /// Seconds of grace before a container is killed [default: each container's own]
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Remove containers of services that the file no longer has: always so here
    #[arg(long)]
    remove_orphans: bool,
    /// Print the progress as JSON lines
    #[arg(long)]
    json: bool,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let stack = match &self.by_name.stack {
            Some(name) => name.clone(),
            None => choose::name(global, &self.files)?,
        };
        let client = global.connect().await?;
        let request = DownRequest { volumes: self.volumes, timeout: self.timeout };
        let Some(lines) = requests::down(&client, &stack, &request).await? else {
            tell::note(&format!("there is no stack {stack}: nothing to do"));
            return Ok(exit::OK);
        };
        show(lines, &format!("down {stack}"), Display::choose(self.json), None).await?;
        Ok(exit::OK)
    }
}
