//! `bargee rename`.

use super::path;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Its new name
    #[arg(value_name = "NAME")]
    name: String,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        client.post(&path(&self.container, "rename"), &[("name", &self.name)], None).await?;
        Ok(exit::OK)
    }
}
