//! `bargee volume …`.

use serde_json::{Map, Value, json};

use super::each;
use super::networks::labels;
use crate::cli::client::segment;
use crate::cli::container::{pairs, put};
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::filters;
use crate::cli::global::Global;
use crate::cli::output::listing::Listing;
use crate::cli::output::printer;
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Show those that match: NAME=VALUE
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show only names
    #[arg(short, long)]
    quiet: bool,
}

const TITLES: &[(&str, &str)] = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
];

impl Verb for List {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let filters = filters::encode(&self.filter)?;
        let query: Vec<(&str, &str)> =
            filters.iter().map(|filters| ("filters", filters.as_str())).collect();
        let client = global.connect().await?;
        let answer: Value = client.get("/volumes", &query).await?.json()?;
        for warning in answer["Warnings"].as_array().into_iter().flatten() {
            crate::cli::error::warn(warning.as_str().unwrap_or_default());
        }
        let mut found: Vec<&Value> = answer["Volumes"].as_array().into_iter().flatten().collect();
        found.sort_by(|one, other| one["Name"].as_str().cmp(&other["Name"].as_str()));
        if self.quiet && self.format.is_none() {
            for volume in found {
                printer::line(&escape_controls(volume["Name"].as_str().unwrap_or_default()))?;
            }
            return Ok(exit::OK);
        }
        let row = |volume: &&Value| {
            let row = json!({
                "Driver": volume["Driver"],
                "Name": volume["Name"],
                "Scope": volume["Scope"],
                "Mountpoint": volume["Mountpoint"],
                "Labels": labels(&volume["Labels"]),
            });
            row.as_object().cloned().unwrap_or_default()
        };
        let rows = found.iter().map(row).collect();
        let shown = vec!["Driver", "Name"];
        Listing { titles: TITLES, shown, rows }.print(self.format.as_deref())?;
        Ok(exit::OK)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Driver of the volume
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    driver: String,
    /// Option of the driver
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<String>,
    /// Set a label
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Name of the volume
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Verb for Create {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let mut body = Map::new();
        put(&mut body, "Name", Value::from(self.name));
        put(&mut body, "Driver", Value::from(self.driver));
        put(&mut body, "DriverOpts", Value::Object(pairs(&self.opt)));
        put(&mut body, "Labels", Value::Object(pairs(&self.label)));
        let client = global.connect().await?;
        let answer =
            client.post("/volumes/create", &[], Some((&Value::Object(body)).into())).await?;
        let answer: Value = answer.json()?;
        printer::line(&escape_controls(answer["Name"].as_str().unwrap_or_default()))?;
        Ok(exit::OK)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// Don't fail for volumes that are not there
    #[arg(short, long)]
    force: bool,
    /// Volumes
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
}

impl Verb for Remove {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let query: &[(&str, &str)] = if self.force { &[("force", "1")] } else { &[] };
        let client = global.connect().await?;
        each(&self.names, async |name| {
            client.delete(&format!("/volumes/{}", segment(name)), query).await?;
            Ok(Some(name.to_owned()))
        })
        .await
    }
}
