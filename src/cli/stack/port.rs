//! `bargee port` on a service: where one of its ports is published.

use super::choose::{self, ByName};
use super::containers::one;
use super::requests;
use super::tell;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    by_name: ByName,
    /// Service
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Port inside the container: PORT[/PROTOCOL] [default: all]
    #[arg(value_name = "PORT")]
    port: Option<String>,
    /// tcp or udp
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp")]
    protocol: String,
    /// Number of the container, when the service has several
    #[arg(long, value_name = "N")]
    index: Option<u32>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let chosen = choose::choose(global, &self.by_name, std::slice::from_ref(&self.service))?;
        let client = global.connect().await?;
        let view = requests::view(&client, &chosen.stack).await?;
        let found = one(&view, &chosen.services[0], self.index)?;
        let published = found.replica.ports.iter().filter_map(|port| port.split_once("->"));
        let wanted = self.port.as_ref().map(|port| match port.contains('/') {
            true => port.clone(),
            false => format!("{port}/{}", self.protocol),
        });
        let lines: Vec<String> = published
            .filter(|(_, inside)| wanted.as_ref().is_none_or(|wanted| wanted == inside))
            .map(|(host, inside)| match &wanted {
                Some(_) => host.to_owned(),
                None => format!("{inside} -> {host}"),
            })
            .collect();
        if let (true, Some(wanted)) = (lines.is_empty(), &wanted) {
            let text = format!("{} does not publish {wanted}", found.replica.container);
            return Err(tell::refuse(&text, Some("`bargee ps` shows what is published")));
        }
        for line in lines {
            printer::line(&escape_controls(&line))?;
        }
        Ok(exit::OK)
    }

    fn targets(&self) -> &[String] {
        std::slice::from_ref(&self.service)
    }
}
