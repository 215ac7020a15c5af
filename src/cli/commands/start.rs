//! `bargee start`.

use serde_json::Value;

use super::run::{Exited, attach, signal_code};
use super::{each, path};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::session::{Ended, Peer, Session};
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Join the container's output and pass signals on
    #[arg(short, long)]
    attach: bool,
    /// Join the container's input
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave the container alone
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        if self.attach || self.interactive {
            let [container] = &self.containers[..] else {
                let text = "only one container can be started and attached to at a time";
                return Err(CliError::Usage(text.to_owned()));
            };
            return self.attached(&client, container).await;
        }
        each(&self.containers, async |container| {
            client.post(&path(container, "start"), &[], None).await?;
            Ok(Some(container.to_owned()))
        })
        .await
    }

    fn targets(&self) -> &[String] {
        &self.containers
    }
}

impl Args {
    async fn attached(&self, client: &Client, container: &str) -> Result<u8, CliError> {
        let found: Value = client.get(&path(container, "json"), &[]).await?.json()?;
        let id = found["Id"].as_str().unwrap_or_default();
        let tty = found["Config"]["Tty"] == true;
        let stdin = self.interactive && found["Config"]["OpenStdin"] == true;
        let session = Session {
            client,
            peer: Peer::Container(id),
            stdin,
            tty,
            proxy: true,
            detach_keys: self.detach_keys.as_deref(),
        };
        let ready = session.prepare()?;
        let streams = attach(client, id, [stdin, true, true]).await?;
        let removed = found["HostConfig"]["AutoRemove"] == true;
        let exited = Exited::watch(client, id, removed).await?;
        client.post(&path(id, "start"), &[], None).await?;
        ready.resize().await;
        match ready.run(streams).await? {
            Ended::Closed => exited.code().await,
            Ended::Detached => Ok(exit::OK),
            Ended::Signal(number) => Ok(signal_code(number)),
        }
    }
}
