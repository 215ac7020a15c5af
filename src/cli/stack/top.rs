//! `bargee top` on a stack: the processes of its containers.

use serde_json::Value;

use super::choose::{self, ByName};
use super::containers::select;
use super::requests;
use crate::cli::client::segment;
use crate::cli::commands::top;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::output::table::Table;
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    by_name: ByName,
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
        for container in found.iter().filter(|container| container.replica.state == "running") {
            let path = format!("/containers/{}/top", segment(&container.replica.id));
            let answer: Value = client.get(&path, &[]).await?.json()?;
            let mut table = Table::new(words(&answer["Titles"])).no_narrower_than(top::WIDTH);
            for process in answer["Processes"].as_array().into_iter().flatten() {
                table.row(words(process));
            }
            printer::print(&format!(
                "{}\n{table}\n",
                escape_controls(&container.replica.container)
            ))?;
        }
        Ok(exit::OK)
    }

    fn targets(&self) -> &[String] {
        &self.services
    }
}

fn words(value: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    value.as_array().into_iter().flatten().map(text).collect()
}
