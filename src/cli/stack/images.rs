//! `bargee images` on a stack: the image of each container.

use std::collections::BTreeSet;

use serde_json::Value;

use super::choose::{self, ByName};
use super::containers::select;
use super::requests;
use crate::cli::client::segment;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::output::size;
use crate::cli::output::table::Table;
use crate::cli::verb::Verb;

/// Hexadecimal digits of a short id.
const SHORT: usize = 12;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    by_name: ByName,
    /// Print the images' ids alone
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let chosen = choose::choose(global, &self.by_name, &[])?;
        let client = global.connect().await?;
        let view = requests::view(&client, &chosen.stack).await?;
        let mut table = Table::new(["CONTAINER", "IMAGE", "IMAGE ID", "SIZE"]);
        let mut ids = BTreeSet::new();
        for found in select(&view, &chosen)? {
            let path = format!("/containers/{}/json", segment(&found.replica.id));
            let container: Value = client.get(&path, &[]).await?.json()?;
            let id = container["Image"].as_str().unwrap_or_default().to_owned();
            let image: Value =
                client.get(&format!("/images/{}/json", segment(&id)), &[]).await?.json()?;
            let size = size::decimal(image["Size"].as_u64().unwrap_or(0));
            let short = id.trim_start_matches("sha256:").get(..SHORT).unwrap_or(&id).to_owned();
            table.row([found.replica.container.clone(), found.service.image.clone(), short, size]);
            ids.insert(id);
        }
        let text = match self.quiet {
            true => ids.iter().map(|id| format!("{id}\n")).collect(),
            false => table.to_string(),
        };
        printer::print(&text)?;
        Ok(exit::OK)
    }
}
