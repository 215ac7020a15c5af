//! `bargee diff`: what a container changed of its image's files.

use serde_json::Value;

use super::path;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        let changes = client.get(&path(&self.container, "changes"), &[]).await?;
        let changes: Option<Vec<Value>> = changes.json()?;
        for change in changes.into_iter().flatten() {
            let letter = match change["Kind"].as_u64() {
                Some(1) => "A",
                Some(2) => "D",
                _ => "C",
            };
            let path = change["Path"].as_str().unwrap_or_default();
            printer::line(&format!("{letter} {}", escape_controls(path)))?;
        }
        Ok(exit::OK)
    }
}
