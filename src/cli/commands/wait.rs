//! `bargee wait`: prints exit codes.

use serde_json::Value;

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
            let answer: Value = client.post(&path(container, "wait"), &[], None).await?.json()?;
            Ok(Some(answer["StatusCode"].to_string()))
        })
        .await
    }

    fn targets(&self) -> &[String] {
        &self.containers
    }
}
