//! `bargee commit`: an image of a container's image and what the container changed.

use serde_json::{Value, json};

use super::pull::split;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Author of the image
    #[arg(short, long, value_name = "TEXT")]
    author: Option<String>,
    /// Instruction of a Dockerfile to apply, as in 'CMD ["sh"]'
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Message of the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Pause the container while its files are read; --pause=false doesn't
    #[arg(short, long, value_name = "BOOL", default_value = "true", default_missing_value = "true",
          num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pause: bool,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let pause = if self.pause { "1" } else { "0" };
        let mut query = vec![("container", self.container.as_str()), ("pause", pause)];
        if let Some(name) = &self.name {
            let (name, tag) = split(name);
            query.extend([("repo", name), ("tag", tag)]);
        }
        query.extend(self.author.as_deref().map(|text| ("author", text)));
        query.extend(self.message.as_deref().map(|text| ("comment", text)));
        query.extend(self.change.iter().map(|change| ("changes", change.as_str())));
        let client = global.connect().await?;
        let made: Value =
            client.post("/commit", &query, Some((&json!({})).into())).await?.json()?;
        printer::line(&escape_controls(made["Id"].as_str().unwrap_or_default()))?;
        Ok(exit::OK)
    }
}
