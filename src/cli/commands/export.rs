//! `bargee export`: a container's root as an archive.

use std::path::PathBuf;

use super::{path, save};
use crate::cli::client::Method;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        save::check_output(self.output.as_deref())?;
        let client = global.connect().await?;
        let path = path(&self.container, "export");
        let archive = client.download(Method::GET, &path, &[], None).await?;
        save::write_out(self.output.as_deref(), archive).await?;
        Ok(exit::OK)
    }
}
