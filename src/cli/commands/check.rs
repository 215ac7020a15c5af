//! `bargee system check`: compares the engine's records with the kernel and the disk.

use serde_json::json;

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::listing::Listing;
use crate::cli::output::printer;
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;
use crate::protocol::{CheckReport, Fault, Finding};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const TITLES: &[(&str, &str)] =
    &[("Fault", "FAULT"), ("Kind", "KIND"), ("What", "WHAT"), ("Advice", "ADVICE")];

impl Verb for Args {
    /// Exits with 1 when something was found.
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        let report: CheckReport = client.get("/bargee/v1/check", &[]).await?.json()?;
        if self.json {
            printer::line(&json!(report).to_string())?;
        } else if self.format.is_some() || !report.findings.is_empty() {
            let rows = report.findings.iter().map(row).collect();
            let shown = vec!["Fault", "Kind", "What", "Advice"];
            Listing { titles: TITLES, shown, rows }.print(self.format.as_deref())?;
        } else {
            printer::line("nothing is left behind, and nothing is missing")?;
        }
        if !self.json && self.format.is_none() && !report.busy.is_empty() {
            let busy = escape_controls(&report.busy.join(", "));
            printer::line(&format!("under way, and so not looked at: {busy}"))?;
        }
        Ok(if report.findings.is_empty() { exit::OK } else { exit::FAILURE })
    }
}

fn row(finding: &Finding) -> serde_json::Map<String, serde_json::Value> {
    let fault = match finding.fault {
        Fault::Leak => "leak",
        Fault::Missing => "missing",
    };
    let row = json!({
        "Fault": fault, "Kind": finding.kind, "What": finding.what, "Advice": finding.advice,
    });
    row.as_object().cloned().unwrap_or_default()
}
