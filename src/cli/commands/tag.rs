//! `bargee tag`.

use crate::cli::client::image_path;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image
    #[arg(value_name = "IMAGE")]
    source: String,
    /// Its further name
    #[arg(value_name = "NAME[:TAG]")]
    target: String,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let (name, tag) = super::pull::split(&self.target);
        let client = global.connect().await?;
        let path = format!("/images/{}/tag", image_path(&self.source));
        client.post(&path, &[("repo", name), ("tag", tag)], None).await?;
        Ok(exit::OK)
    }
}
