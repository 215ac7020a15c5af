//! `bargee system df`: what takes room on the disk.

mod verbose;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::listing::Listing;
use crate::cli::output::{printer, size};
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// List every image, container and volume
    #[arg(short, long)]
    verbose: bool,
}

const TITLES: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        let usage: Value = client.get("/system/df", &[]).await?.json()?;
        if self.verbose {
            let now = Timestamp::now();
            let text = match self.format.as_deref() {
                None | Some("" | "table") => verbose::render(&usage, now)?,
                Some(format) => verbose::formatted(&usage, now, format)?,
            };
            printer::print(&text)?;
            return Ok(exit::OK);
        }
        let rows = rows(&usage)
            .into_iter()
            .map(|row| row.as_object().cloned().unwrap_or_default())
            .collect();
        let shown = vec!["Type", "TotalCount", "Active", "Size", "Reclaimable"];
        Listing { titles: TITLES, shown, rows }.print(self.format.as_deref())?;
        Ok(exit::OK)
    }
}

/// One family of objects: how many are used, and the bytes of those that are not.
struct Family<'a> {
    title: &'a str,
    items: Vec<&'a Value>,
    used: fn(&Value) -> bool,
    bytes: fn(&Value) -> u64,
    /// When it isn't the sum, since layers are shared.
    total: Option<u64>,
}

fn rows(usage: &Value) -> Vec<Value> {
    let items = |key: &str| usage[key].as_array().into_iter().flatten().collect();
    let families = [
        Family {
            title: "Images",
            items: items("Images"),
            used: |image| image["Containers"].as_i64().unwrap_or(0) > 0,
            bytes: |image| image["Size"].as_u64().unwrap_or(0),
            total: usage["LayersSize"].as_u64(),
        },
        Family {
            title: "Containers",
            items: items("Containers"),
            used: |container| {
                matches!(container["State"].as_str(), Some("running" | "paused" | "restarting"))
            },
            bytes: |container| container["SizeRw"].as_u64().unwrap_or(0),
            total: None,
        },
        Family {
            title: "Local Volumes",
            items: items("Volumes"),
            used: |volume| volume["UsageData"]["RefCount"].as_i64().unwrap_or(0) > 0,
            bytes: |volume| volume["UsageData"]["Size"].as_u64().unwrap_or(0),
            total: None,
        },
        Family {
            title: "Build Cache",
            items: items("BuildCache"),
            used: |entry| entry["InUse"] == true,
            bytes: |entry| entry["Size"].as_u64().unwrap_or(0),
            total: None,
        },
    ];
    families.iter().map(Family::row).collect()
}

impl Family<'_> {
    fn row(&self) -> Value {
        let total =
            self.total.unwrap_or_else(|| self.items.iter().map(|item| (self.bytes)(item)).sum());
        let active = self.items.iter().filter(|item| (self.used)(item)).count();
        let unused = self.items.iter().filter(|item| !(self.used)(item));
        let free = unused.map(|item| (self.bytes)(item)).sum::<u64>().min(total);
        let percent = (free * 100).checked_div(total).map(|percent| format!(" ({percent}%)"));
        json!({
            "Type": self.title,
            "TotalCount": self.items.len().to_string(),
            "Active": active.to_string(),
            "Size": size::decimal_of_four(total),
            "Reclaimable": format!("{}{}", size::decimal_of_four(free), percent.unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_container_uses_can_be_reclaimed() {
        let usage = json!({
            "LayersSize": 3_000_000,
            "Images": [{"Size": 2_000_000, "Containers": 1}, {"Size": 1_000_000, "Containers": 0}],
            "Containers": [{"State": "running", "SizeRw": 10}, {"State": "exited", "SizeRw": 30}],
            "Volumes": null,
        });
        let rows = rows(&usage);
        assert_eq!(rows[0]["Reclaimable"], "1MB (33%)");
        assert_eq!(rows[1]["Reclaimable"], "30B (75%)");
        assert_eq!(rows[2]["Size"], "0B");
    }
}
