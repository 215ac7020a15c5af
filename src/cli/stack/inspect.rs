//! `bargee inspect` on a stack: all about the containers of its services.

use super::choose::{self, ByName};
use super::containers::select;
use super::requests;
use crate::cli::commands::inspect::Inspect;
use crate::cli::error::CliError;
use crate::cli::global::Global;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    by_name: ByName,
    /// Print with a Go template, or json
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print the containers' sizes too
    #[arg(short, long)]
    size: bool,
    /// SERVICE, SERVICE.N or STACK/SERVICE[.N] [default: all services]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let chosen = choose::choose(global, &self.by_name, &self.services)?;
        let client = global.connect().await?;
        let view = requests::view(&client, &chosen.stack).await?;
        let found = select(&view, &chosen)?;
        let ids: Vec<String> = found.iter().map(|found| found.replica.id.clone()).collect();
        Inspect::of_containers(self.format.as_deref(), self.size).print(&client, &ids).await
    }

    fn targets(&self) -> &[String] {
        &self.services
    }
}
