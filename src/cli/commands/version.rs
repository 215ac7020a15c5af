//! `bargee version` and `bargee info`.

use serde_json::{Value, json};

use super::inspect::pretty;
use crate::cli::client::API_VERSION;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::listing::escape_lines;
use crate::cli::output::printer;
use crate::cli::output::template::{Template, json as compact};
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client_part = json!({
            "Version": env!("CARGO_PKG_VERSION"),
            "ApiVersion": API_VERSION.trim_start_matches('v'),
            "Os": std::env::consts::OS,
            "Arch": std::env::consts::ARCH,
        });
        // Also said when no engine answers.
        let server: Result<Value, CliError> = async {
            let client = global.connect().await?;
            Ok(client.get("/version", &[]).await?.json()?)
        }
        .await;
        let all = json!({"Client": client_part, "Server": server.as_ref().ok()});
        match self.format.as_deref() {
            Some("json") => printer::line(&compact(&all))?,
            Some(text) => {
                printer::line(&escape_lines(&Template::parse(text)?.render(&all)?))?;
            }
            None => {
                printer::print(&lines("Client", &all["Client"]))?;
                if server.is_ok() {
                    printer::print(&lines("\nServer", &all["Server"]))?;
                }
            }
        }
        server.map(|_| exit::OK)
    }
}

fn lines(title: &str, fields: &Value) -> String {
    const SHOWN: &[(&str, &str)] = &[
        ("Version", "Version"),
        ("ApiVersion", "API version"),
        ("MinAPIVersion", "Oldest API version"),
        ("KernelVersion", "Kernel"),
        ("Os", "OS"),
        ("Arch", "Architecture"),
    ];
    let mut text = format!("{title}:\n");
    for (key, label) in SHOWN {
        if let Some(value) = fields[*key].as_str().filter(|value| !value.is_empty()) {
            text.push_str(&format!(" {:<20}{}\n", format!("{label}:"), escape_lines(value)));
        }
    }
    text
}

/// `bargee info`.
#[derive(Debug, clap::Args)]
pub(crate) struct Info {
    /// json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Verb for Info {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        let info: Value = client.get("/info", &[]).await?.json()?;
        match self.format.as_deref() {
            Some("json") => printer::line(&compact(&info))?,
            Some(text) => {
                printer::line(&escape_lines(&Template::parse(text)?.render(&info)?))?;
            }
            None => printer::line(&summary(&info))?,
        }
        Ok(exit::OK)
    }
}

/// One line for each field that holds one value, and JSON for the rest.
fn summary(info: &Value) -> String {
    let mut text = Vec::new();
    for (key, value) in info.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::String(value) if value.is_empty() => {}
            Value::Array(items) if items.is_empty() => {}
            Value::Object(fields) if fields.is_empty() => {}
            Value::String(value) => text.push(format!("{key}: {}", escape_lines(value))),
            Value::Array(_) | Value::Object(_) => {
                let indented = pretty(value).replace('\n', "\n  ");
                text.push(format!("{key}: {indented}"));
            }
            other => text.push(format!("{key}: {other}")),
        }
    }
    text.join("\n")
}
