//! `bargee update`: limits and restart policy of containers.

use serde_json::Value;

use super::{each, path};
use crate::cli::container::process::restart_policy;
use crate::cli::container::resources::ResourceFlags;
use crate::cli::error::{CliError, warn};
use crate::cli::global::Global;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    resources: ResourceFlags,
    /// Start again after an exit: no, always, unless-stopped, on-failure[:N]
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        let mut body = self.resources.fields()?;
        if let Some(policy) = &self.restart {
            body.insert("RestartPolicy".to_owned(), restart_policy(policy)?);
        }
        if body.is_empty() {
            return Err(CliError::Usage("there is nothing to update; give a flag".to_owned()));
        }
        let body = Value::Object(body);
        each(&self.containers, async |container| {
            let answer = client.post(&path(container, "update"), &[], Some((&body).into())).await?;
            let answer: Value = answer.json()?;
            for warning in answer["Warnings"].as_array().into_iter().flatten() {
                warn(warning.as_str().unwrap_or_default());
            }
            Ok(Some(container.to_owned()))
        })
        .await
    }
}
