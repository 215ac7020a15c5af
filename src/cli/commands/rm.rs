//! `bargee rm`.

use super::each;
use crate::cli::client::segment;
use crate::cli::error::{CliError, tell};
use crate::cli::global::Global;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kill a running container first
    #[arg(short, long)]
    force: bool,
    /// Remove the anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    /// Remove a link and leave the container
    #[arg(short, long)]
    link: bool,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        let switches = [("force", self.force), ("v", self.volumes), ("link", self.link)];
        let query: Vec<(&str, &str)> =
            switches.iter().filter(|(_, on)| *on).map(|(name, _)| (*name, "1")).collect();
        each(&self.containers, async |container| {
            match client.delete(&format!("/containers/{}", segment(container)), &query).await {
                // `rm -f` wants it gone, and it is; docker tells it and does not fail.
                Err(error) if self.force && error.is_not_found() => {
                    tell(&error);
                    Ok(None)
                }
                other => other.map(|_| Some(container.to_owned())).map_err(CliError::from),
            }
        })
        .await
    }

    fn targets(&self) -> &[String] {
        &self.containers
    }
}
