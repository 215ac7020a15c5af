//! `bargee create`, and what `run` shares with it.

use serde_json::Value;

use super::{pull, run};
use crate::cli::client::Client;
use crate::cli::container::{ContainerFlags, Pull};
use crate::cli::error::{CliError, warn};
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    container: ContainerFlags,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let body = self.container.body()?;
        let client = global.connect().await?;
        let id = create(&client, &self.container, &body).await?;
        printer::line(&id)?;
        Ok(exit::OK)
    }
}

/// Creates the container, after a pull when `--pull` and a missing image ask for one. Returns its id.
pub(super) async fn create(
    client: &Client,
    flags: &ContainerFlags,
    body: &Value,
) -> Result<String, CliError> {
    if let Some(path) = flags.cidfile.as_deref().filter(|path| path.exists()) {
        let text = format!("{} exists; the file of --cidfile must be a new one", path.display());
        return Err(CliError::Failed(text));
    }
    let mut query = Vec::new();
    query.extend(flags.name.as_deref().map(|name| ("name", name)));
    query.extend(flags.platform.as_deref().map(|platform| ("platform", platform)));
    let wanted = pull::Image { name: flags.image(), platform: flags.platform.as_deref() };
    if flags.pull == Pull::Always {
        wanted.pull(client, flags.quiet).await?;
    }
    let first = client.post("/containers/create", &query, Some(body.into())).await;
    let answer = match first {
        Err(error) if flags.pull == Pull::Missing && is_missing_image(&error) => {
            wanted.pull(client, flags.quiet).await?;
            client.post("/containers/create", &query, Some(body.into())).await?
        }
        other => other?,
    };
    let answer: Value = answer.json()?;
    for warning in answer["Warnings"].as_array().into_iter().flatten() {
        warn(warning.as_str().unwrap_or_default());
    }
    let id = answer["Id"].as_str().unwrap_or_default().to_owned();
    if let Some(path) = &flags.cidfile {
        run::write_cidfile(path, &id)?;
    }
    Ok(id)
}

fn is_missing_image(error: &crate::cli::client::ClientError) -> bool {
    error.is_not_found() && error.to_string().contains("No such image")
}
