//! `bargee port`: what is published, and where.

use serde_json::Value;

use super::path;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// One port of the container: PORT[/PROTOCOL]
    #[arg(value_name = "PORT")]
    port: Option<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        let found: Value = client.get(&path(&self.container, "json"), &[]).await?.json()?;
        let empty = serde_json::Map::new();
        let ports = found["NetworkSettings"]["Ports"].as_object().unwrap_or(&empty);
        let wanted = self
            .port
            .as_ref()
            .map(|port| if port.contains('/') { port.clone() } else { format!("{port}/tcp") });
        let mut lines = Vec::new();
        for (port, bindings) in ports {
            for binding in bindings.as_array().into_iter().flatten() {
                let address = binding["HostIp"].as_str().unwrap_or_default();
                let address =
                    if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
                let host =
                    format!("{address}:{}", binding["HostPort"].as_str().unwrap_or_default());
                match &wanted {
                    None => lines.push(format!("{port} -> {host}")),
                    Some(wanted) if wanted == port => lines.push(host),
                    Some(_) => {}
                }
            }
        }
        if let (Some(wanted), true) = (wanted, lines.is_empty()) {
            let text = format!("no public port '{wanted}' published for {}", self.container);
            return Err(CliError::Failed(text));
        }
        lines.sort();
        for line in lines {
            printer::line(&escape_controls(&line))?;
        }
        Ok(exit::OK)
    }

    fn targets(&self) -> &[String] {
        std::slice::from_ref(&self.container)
    }
}
