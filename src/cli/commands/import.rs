//! `bargee import`: a root filesystem's tar as an image.

use std::path::Path;

use super::pull::{failure, follow_to, split};
use super::source::{Source, open};
use crate::cli::client::Method;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Instruction of a Dockerfile to apply, as in 'CMD ["sh"]'
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Message of the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Platform of the image
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Archive, or - for standard input
    #[arg(value_name = "FILE|-")]
    file: String,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        if self.file.contains("://") {
            return Err(CliError::Usage(format!(
                "{}: an archive is not fetched from the network; fetch it and give the file",
                self.file
            )));
        }
        let source =
            if self.file == "-" { Source::Input } else { Source::File(Path::new(&self.file)) };
        let reader = open(source).await?;
        let mut query = vec![("fromSrc", "-")];
        if let Some(name) = &self.name {
            let (name, tag) = split(name);
            query.extend([("repo", name), ("tag", tag)]);
        }
        query.extend(self.message.as_deref().map(|text| ("message", text)));
        query.extend(self.platform.as_deref().map(|platform| ("platform", platform)));
        query.extend(self.change.iter().map(|change| ("changes", change.as_str())));
        let client = global.connect().await?;
        let lines = client.upload(Method::POST, "/images/create", &query, reader).await?;
        follow_to(lines, |line| {
            if let Some(message) = failure(line) {
                return Err(CliError::Failed(message));
            }
            match line["status"].as_str() {
                Some(text) => printer::line(&escape_controls(text)),
                None => Ok(()),
            }
        })
        .await?;
        Ok(exit::OK)
    }
}
