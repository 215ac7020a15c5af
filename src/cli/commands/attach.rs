//! `bargee attach`.

use serde_json::Value;

use super::path;
use super::run::{Exited, attach, signal_code};
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::session::{Ended, Peer, Session};
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keys that leave the container alone
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Leave the container's input alone
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the program (--sig-proxy=false to keep them)
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        let found: Value = client.get(&path(&self.container, "json"), &[]).await?.json()?;
        for (state, advice) in
            [("Paused", "unpause it first"), ("Restarting", "wait until it runs")]
        {
            if found["State"][state] == true {
                let state = state.to_lowercase();
                let text = format!("cannot attach to {}: it is {state}; {advice}", self.container);
                return Err(CliError::Failed(text));
            }
        }
        if found["State"]["Running"] != true {
            let text =
                format!("cannot attach to {}: it is stopped; start it first", self.container);
            return Err(CliError::Failed(text));
        }
        let id = found["Id"].as_str().unwrap_or_default();
        let stdin = !self.no_stdin && found["Config"]["OpenStdin"] == true;
        let session = Session {
            client: &client,
            peer: Peer::Container(id),
            stdin,
            tty: found["Config"]["Tty"] == true,
            proxy: self.sig_proxy,
            detach_keys: self.detach_keys.as_deref(),
        };
        let ready = session.prepare()?;
        let removed = found["HostConfig"]["AutoRemove"] == true;
        let exited = Exited::watch(&client, id, removed).await?;
        let streams = attach(&client, id, [stdin, true, true]).await?;
        ready.resize().await;
        match ready.run(streams).await? {
            Ended::Closed => exited.code().await,
            Ended::Detached => Ok(exit::OK),
            Ended::Signal(number) => Ok(signal_code(number)),
        }
    }
}
