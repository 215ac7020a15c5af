//! `bargee pause`.

use super::{each, path};
use crate::cli::error::CliError;
use crate::cli::global::Global;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        each(&self.containers, async |container| {
            client.post(&path(container, "pause"), &[], None).await?;
            Ok(Some(container.to_owned()))
        })
        .await
    }

    fn targets(&self) -> &[String] {
        &self.containers
    }
}
