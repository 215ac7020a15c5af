//! `bargee stats`: what containers use, live or once.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::path;
use super::ps::short;
use crate::cli::client::{Client, Lines, Method};
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::listing::Listing;
use crate::cli::output::{printer, size};
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show those that don't run too
    #[arg(short, long)]
    all: bool,
    /// Print once and end
    #[arg(long)]
    no_stream: bool,
    /// Show ids in full
    #[arg(long)]
    no_trunc: bool,
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Containers; all that run when none is named
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const TITLES: &[(&str, &str)] = &[
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let client = global.connect().await?;
        let containers = if self.containers.is_empty() {
            running(&client, self.all).await?
        } else {
            self.containers.clone()
        };
        if self.no_stream {
            let mut rows = Vec::new();
            for container in &containers {
                let query = [("stream", "0")];
                let sample: Value = client.get(&path(container, "stats"), &query).await?.json()?;
                rows.push(self.row(container, &sample));
            }
            self.listing(rows).print(self.format.as_deref())?;
            return Ok(exit::OK);
        }
        self.live(&client, &containers).await?;
        Ok(exit::OK)
    }
}

async fn running(client: &Client, all: bool) -> Result<Vec<String>, CliError> {
    let query: &[(&str, &str)] = if all { &[("all", "1")] } else { &[] };
    let found: Vec<Value> = client.get("/containers/json", query).await?.json()?;
    Ok(found.iter().filter_map(|one| Some(one["Id"].as_str()?.to_owned())).collect())
}

impl Args {
    /// Prints the table anew whenever the last container has told, until all streams end.
    async fn live(&self, client: &Client, containers: &[String]) -> Result<(), CliError> {
        let (sender, mut samples) = mpsc::channel(containers.len().max(1));
        for container in containers {
            let lines = client.lines(Method::GET, &path(container, "stats"), &[], None).await?;
            tokio::spawn(forward(container.clone(), lines, sender.clone()));
        }
        drop(sender);
        let mut latest: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        let mut told = Vec::new();
        let mut alive = containers.len();
        while let Some((container, sample)) = samples.recv().await {
            match sample {
                Some(sample) => {
                    latest.insert(container.clone(), self.row(&container, &sample));
                    if !told.contains(&container) {
                        told.push(container);
                    }
                }
                None => {
                    latest.remove(&container);
                    told.retain(|name| *name != container);
                    alive -= 1;
                }
            }
            if told.len() < alive || latest.is_empty() {
                continue;
            }
            told.clear();
            let rows = containers.iter().filter_map(|name| latest.get(name).cloned()).collect();
            let text = self.listing(rows).render(self.format.as_deref())?;
            // Home and clear, on a terminal: the table stands still and its numbers change.
            let clear = if printer::is_terminal() { "\u{1b}[H\u{1b}[2J" } else { "" };
            printer::print(&format!("{clear}{text}"))?;
        }
        Ok(())
    }

    fn listing(&self, rows: Vec<Map<String, Value>>) -> Listing {
        let shown =
            vec!["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
        Listing { titles: TITLES, shown, rows }
    }

    fn row(&self, container: &str, sample: &Value) -> Map<String, Value> {
        let id = sample["id"].as_str().unwrap_or(container);
        let memory = &sample["memory_stats"];
        let used = used_memory(memory);
        let limit = memory["limit"].as_u64().unwrap_or(0);
        let (received, sent) = network(&sample["networks"]);
        let (read, written) = blocks(&sample["blkio_stats"]["io_service_bytes_recursive"]);
        let row = json!({
            "Container": container,
            "ID": if self.no_trunc { id } else { short(id) },
            "Name": sample["name"].as_str().unwrap_or_default().trim_start_matches('/'),
            "CPUPerc": format!("{:.2}%", cpu_percent(sample)),
            "MemUsage": format!("{} / {}", size::binary(used), size::binary(limit)),
            "MemPerc": format!("{:.2}%", percent(used, limit)),
            "NetIO": format!("{} / {}", size::decimal(received), size::decimal(sent)),
            "BlockIO": format!("{} / {}", size::decimal(read), size::decimal(written)),
            "PIDs": sample["pids_stats"]["current"].as_u64().unwrap_or(0).to_string(),
        });
        row.as_object().cloned().unwrap_or_default()
    }
}

/// Hands samples on; `None` when the stream is over.
async fn forward(
    container: String,
    mut lines: Lines,
    sender: mpsc::Sender<(String, Option<Value>)>,
) {
    while let Ok(Some(sample)) = lines.next().await {
        if sender.send((container.clone(), Some(sample))).await.is_err() {
            return;
        }
    }
    // Nobody is left to hear it when this fails.
    drop(sender.send((container, None)).await);
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// The container's share of the time that passed, over all CPUs: 200% is two of them.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn cpu_percent(sample: &Value) -> f64 {
    let number =
        |at: &str, key: &str| sample.pointer(&format!("/{at}/{key}")).and_then(Value::as_u64);
    let delta = |key: &str| {
        let (now, before) = (number("cpu_stats", key)?, number("precpu_stats", key)?);
        now.checked_sub(before)
    };
    let used = delta("cpu_usage/total_usage").unwrap_or(0);
    let system = delta("system_cpu_usage").unwrap_or(0);
    let cpus = number("cpu_stats", "online_cpus").unwrap_or(1);
    percent(used, system) * cpus as f64
}

/// Memory in use without the cache that the kernel can drop, as docker counts it (cgroup v1 and v2).
fn used_memory(memory: &Value) -> u64 {
    let usage = memory["usage"].as_u64().unwrap_or(0);
    let stats = &memory["stats"];
    let cache =
        stats["total_inactive_file"].as_u64().or(stats["inactive_file"].as_u64()).unwrap_or(0);
    if cache < usage { usage - cache } else { usage }
}

fn network(networks: &Value) -> (u64, u64) {
    let mut sums = (0, 0);
    for (_, one) in networks.as_object().into_iter().flatten() {
        sums.0 += one["rx_bytes"].as_u64().unwrap_or(0);
        sums.1 += one["tx_bytes"].as_u64().unwrap_or(0);
    }
    sums
}

fn blocks(entries: &Value) -> (u64, u64) {
    let mut sums = (0, 0);
    for entry in entries.as_array().into_iter().flatten() {
        let value = entry["value"].as_u64().unwrap_or(0);
        match entry["op"].as_str().unwrap_or_default() {
            "read" | "Read" => sums.0 += value,
            "write" | "Write" => sums.1 += value,
            _ => {}
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_becomes_docker_s_columns() {
        let sample = json!({
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 4},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 3 << 20, "limit": 1 << 30, "stats": {"inactive_file": 1 << 20}},
            "networks": {"eth0": {"rx_bytes": 1500, "tx_bytes": 20}},
            "blkio_stats": {"io_service_bytes_recursive": [{"op": "read", "value": 7}]},
            "pids_stats": {"current": 2}, "name": "/web",
            "id": "0123456789abcdef",
        });
        let args =
            Args { all: false, no_stream: true, no_trunc: false, format: None, containers: vec![] };
        let row = args.row("web", &sample);
        let cells = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
        let cells: Vec<&str> = cells.iter().filter_map(|key| row[*key].as_str()).collect();
        let expected = [
            "0123456789ab",
            "web",
            "80.00%",
            "2MiB / 1GiB",
            "0.20%",
            "1.5kB / 20B",
            "7B / 0B",
            "2",
        ];
        assert_eq!(cells, expected);
    }
}
