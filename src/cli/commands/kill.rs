//! `bargee kill`.

use super::{each, path};
use crate::cli::error::CliError;
use crate::cli::global::Global;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Signal to send [default: SIGKILL]
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        let query: Vec<(&str, &str)> =
            self.signal.iter().map(|signal| ("signal", signal.as_str())).collect();
        each(&self.containers, async |container| {
            client.post(&path(container, "kill"), &query, None).await?;
            Ok(Some(container.to_owned()))
        })
        .await
    }

    fn targets(&self) -> &[String] {
        &self.containers
    }
}
