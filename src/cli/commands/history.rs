//! `bargee history`: the steps that made an image, the last one first.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cli::client::image_path;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::listing::Listing;
use crate::cli::output::{printer, size, time};
use crate::cli::verb::Verb;

use super::ps::{ellipsis, short};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print sizes and times for people (--human=false for bytes and dates)
    #[arg(short = 'H', long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    human: bool,
    /// Show ids and commands in full
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Image
    image: String,
}

const TITLES: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// Letters of a command that fit the table, as docker has it.
const COMMAND: usize = 45;

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        let path = format!("/images/{}/history", image_path(&self.image));
        let steps: Vec<Value> = client.get(&path, &[]).await?.json()?;
        let now = Timestamp::now();
        let rows: Vec<_> = steps.iter().map(|step| self.row(step, now)).collect();
        if self.quiet && self.format.is_none() {
            for row in rows {
                printer::line(row["ID"].as_str().unwrap_or_default())?;
            }
            return Ok(exit::OK);
        }
        let created = if self.human { "CreatedSince" } else { "CreatedAt" };
        let shown = vec!["ID", created, "CreatedBy", "Size", "Comment"];
        Listing { titles: TITLES, shown, rows }.print(self.format.as_deref())?;
        Ok(exit::OK)
    }
}

impl Args {
    fn row(&self, step: &Value, now: Timestamp) -> Map<String, Value> {
        let text = |key: &str| step[key].as_str().unwrap_or_default();
        let created = step["Created"].as_i64().and_then(|at| Timestamp::from_second(at).ok());
        let created = created.unwrap_or(Timestamp::UNIX_EPOCH);
        let command = text("CreatedBy").replace('\t', " ");
        let bytes = step["Size"].as_u64().unwrap_or(0);
        let row = json!({
            "ID": if self.no_trunc { text("Id") } else { short(text("Id")) },
            "CreatedSince": time::ago(created, now),
            "CreatedAt": created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "CreatedBy": if self.no_trunc { command } else { ellipsis(&command, COMMAND) },
            "Size": if self.human { size::decimal(bytes) } else { bytes.to_string() },
            "Comment": text("Comment"),
        });
        row.as_object().cloned().unwrap_or_default()
    }
}
