//! `bargee rmi`.

use serde_json::Value;

use super::prune::deletion;
use crate::cli::client::image_path;
use crate::cli::error::{CliError, tell};
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove images that have several names or stopped containers
    #[arg(short, long)]
    force: bool,
    /// Leave parents without a name
    #[arg(long)]
    no_prune: bool,
    /// Images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let switches = [("force", self.force), ("noprune", self.no_prune)];
        let query: Vec<(&str, &str)> =
            switches.iter().filter(|(_, on)| *on).map(|(name, _)| (*name, "1")).collect();
        let client = global.connect().await?;
        let mut failed = false;
        for image in &self.images {
            match client.delete(&format!("/images/{}", image_path(image)), &query).await {
                Ok(answer) => {
                    let items: Vec<Value> = answer.json()?;
                    for item in &items {
                        printer::line(&escape_controls(&deletion(item)))?;
                    }
                }
                Err(error) => {
                    // `rmi -f` wants it gone, and it is: told, and no failure.
                    failed |= !(self.force && error.is_not_found());
                    tell(&error);
                }
            }
        }
        if failed { Err(CliError::Told) } else { Ok(exit::OK) }
    }
}
