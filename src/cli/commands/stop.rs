//! `bargee stop`.

use super::{each, path};
use crate::cli::error::CliError;
use crate::cli::global::Global;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Signal that asks the program to end
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds until it is killed; -1 waits for as long as it takes
    #[arg(short, long, visible_alias = "time", value_name = "SECONDS")]
    timeout: Option<i64>,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        let seconds = self.timeout.map(|seconds| seconds.to_string());
        let mut query = Vec::new();
        query.extend(seconds.as_deref().map(|seconds| ("t", seconds)));
        query.extend(self.signal.as_deref().map(|signal| ("signal", signal)));
        each(&self.containers, async |container| {
            client.post(&path(container, "stop"), &query, None).await?;
            Ok(Some(container.to_owned()))
        })
        .await
    }

    fn targets(&self) -> &[String] {
        &self.containers
    }
}
