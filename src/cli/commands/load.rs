//! `bargee load`: images out of an archive.

use std::path::PathBuf;

use super::pull::{failure, follow_to};
use super::source::{Source, open};
use crate::cli::client::Method;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::terminal;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Archive to read instead of standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    /// Platform of the image to load
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let source = match &self.input {
            Some(path) => Source::File(path),
            None if terminal::stdin_is_terminal() => {
                let text = "there is no archive: give --input FILE, or standard input";
                return Err(CliError::Usage(text.to_owned()));
            }
            None => Source::Input,
        };
        let reader = open(source).await?;
        let mut query = Vec::new();
        query.push(("quiet", if self.quiet { "1" } else { "0" }));
        query.extend(self.platform.as_deref().map(|platform| ("platform", platform)));
        let client = global.connect().await?;
        let lines = client.upload(Method::POST, "/images/load", &query, reader).await?;
        follow_to(lines, |line| {
            if let Some(message) = failure(line) {
                return Err(CliError::Failed(message));
            }
            match line["stream"].as_str() {
                Some(text) => printer::print(&crate::cli::output::listing::escape_lines(text)),
                None => Ok(()),
            }
        })
        .await?;
        Ok(exit::OK)
    }
}
