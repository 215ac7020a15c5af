//! `bargee ps`: containers, as docker lists them.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cli::error::{CliError, warn};
use crate::cli::exit;
use crate::cli::filters;
use crate::cli::global::Global;
use crate::cli::output::listing::Listing;
use crate::cli::output::template::HIDDEN;
use crate::cli::output::{printer, size, time};
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show those that don't run too
    #[arg(short, long)]
    all: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Show the one that was created last
    #[arg(short, long)]
    latest: bool,
    /// Show the N that were created last
    #[arg(short = 'n', long, value_name = "N", default_value_t = -1)]
    last: i64,
    /// Show those that match: NAME=VALUE
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show ids, commands and ports in full
    #[arg(long)]
    no_trunc: bool,
    /// Show the size on disk
    #[arg(short, long)]
    size: bool,
}

const TITLES: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Platform", "PLATFORM"),
    ("Size", "SIZE"),
];

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let limit = if self.latest { 1 } else { self.last };
        let limit_text = limit.to_string();
        let filters = filters::encode(&self.filter)?;
        let wants_size =
            self.size || self.format.as_deref().is_some_and(|format| format.contains(".Size"));
        let mut query = Vec::new();
        if limit > 0 {
            query.push(("limit", limit_text.as_str()));
        }
        query.extend(filters.as_deref().map(|filters| ("filters", filters)));
        for (name, on) in [("all", self.all), ("size", wants_size)] {
            query.extend(on.then_some((name, "1")));
        }
        let client = global.connect().await?;
        let answer = client.get("/containers/json", &query).await?;
        answer.warnings.iter().for_each(|text| warn(text));
        let found: Vec<Value> = answer.json()?;
        let now = Timestamp::now();
        let rows: Vec<_> =
            found.iter().map(|container| row(container, now, self.no_trunc)).collect();
        if self.quiet && self.format.is_none() {
            for row in rows {
                printer::line(row["ID"].as_str().unwrap_or_default())?;
            }
            return Ok(exit::OK);
        }
        let mut shown = vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
        if self.size {
            shown.push("Size");
        }
        Listing { titles: TITLES, shown, rows }.print(self.format.as_deref())?;
        Ok(exit::OK)
    }
}

/// Returns the first twelve digits of an id, as docker shows it.
pub(crate) fn short(id: &str) -> &str {
    let bare = id.strip_prefix("sha256:").unwrap_or(id);
    bare.get(..12).unwrap_or(bare)
}

/// Returns `text` with at most `most` characters, the last one an ellipsis when some are missing.
pub(super) fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// Returns a container of the engine's list in docker's fields; `full` shortens nothing.
pub(crate) fn row(container: &Value, now: Timestamp, full: bool) -> Map<String, Value> {
    let text = |key: &str| container[key].as_str().unwrap_or_default();
    let id = if full { text("Id") } else { short(text("Id")) };
    let image = match text("Image") {
        "" => "<no image>",
        id if id.starts_with("sha256:") && !full => short(id),
        name => name,
    };
    let command = if full { text("Command").to_owned() } else { ellipsis(text("Command"), 20) };
    let names: Vec<&str> = container["Names"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| Some(name.as_str()?.trim_start_matches('/')))
        // A link's name has two parts; the container's own comes without.
        .filter(|name| full || !name.contains('/'))
        .collect();
    let created = container["Created"].as_i64().and_then(|at| Timestamp::from_second(at).ok());
    let created = created.unwrap_or(Timestamp::UNIX_EPOCH);
    let labels = container["Labels"].as_object().cloned().unwrap_or_default();
    let mut label_words: Vec<String> =
        labels.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    label_words.sort();
    let mounts: Vec<&Value> = container["Mounts"].as_array().into_iter().flatten().collect();
    let mount_name = |mount: &&Value| {
        let name = mount["Name"].as_str().filter(|name| !name.is_empty());
        let name = name.or(mount["Source"].as_str()).unwrap_or_default();
        if full { name.to_owned() } else { ellipsis(name, 15) }
    };
    let volumes = mounts.iter().filter(|mount| mount["Driver"] == "local").count();
    let networks: Vec<&str> = container["NetworkSettings"]["Networks"]
        .as_object()
        .map(|networks| networks.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let written = container["SizeRw"].as_u64().unwrap_or(0);
    let mut bytes = size::decimal(written);
    if let Some(whole) = container["SizeRootFs"].as_u64().filter(|whole| *whole > 0) {
        bytes.push_str(&format!(" (virtual {})", size::decimal(whole)));
    }
    let row = json!({
        "ID": id,
        "Image": image,
        // As Go's %q: what a shell would split stays one word.
        "Command": format!("{command:?}"),
        "CreatedAt": time::go(created),
        "RunningFor": time::ago(created, now),
        "Status": text("Status"),
        "State": text("State"),
        "Ports": ports(&container["Ports"]),
        "Names": names.join(","),
        "Labels": label_words.join(","),
        "Mounts": mounts.iter().map(mount_name).collect::<Vec<_>>().join(","),
        "Networks": networks.join(","),
        "LocalVolumes": volumes.to_string(),
        "Platform": Value::Null,
        "Size": bytes,
    });
    let mut row = match row {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    row.insert(format!("{HIDDEN}Label"), Value::Object(labels));
    row
}

/// Prints ports as docker groups them: `0.0.0.0:8080->80/tcp, 53/udp`; neighbours become ranges.
pub(super) fn ports(list: &Value) -> String {
    #[derive(Clone, PartialEq)]
    struct Run {
        address: String,
        kind: String,
        private: (u64, u64),
        public: (u64, u64),
    }
    let mut single: Vec<Run> = Vec::new();
    for port in list.as_array().into_iter().flatten() {
        let number = |key: &str| port[key].as_u64().unwrap_or(0);
        let text = |key: &str| port[key].as_str().unwrap_or_default().to_owned();
        let (private, public) = (number("PrivatePort"), number("PublicPort"));
        let (address, kind) = (text("IP"), text("Type"));
        single.push(Run { address, kind, private: (private, private), public: (public, public) });
    }
    single.sort_by(|one, other| {
        (&one.kind, &one.address, one.private, one.public).cmp(&(
            &other.kind,
            &other.address,
            other.private,
            other.public,
        ))
    });
    single.dedup();
    let mut runs: Vec<Run> = Vec::new();
    for port in single {
        if let Some(last) = runs.last_mut() {
            let same = last.address == port.address && last.kind == port.kind;
            let published = last.public.1 != 0 && port.public.0 != 0;
            let next = last.private.1 + 1 == port.private.0
                && (last.public == (0, 0) && port.public == (0, 0)
                    || published && last.public.1 + 1 == port.public.0
                        // Only equal numbers on both sides become a range, as docker has it.
                        && last.public.1 == last.private.1
                        && port.public.0 == port.private.0);
            if same && next {
                last.private.1 = port.private.1;
                last.public.1 = port.public.1;
                continue;
            }
        }
        runs.push(port);
    }
    let range = |(first, last): (u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let words = runs.iter().map(|run| {
        let inside = format!("{}/{}", range(run.private), run.kind);
        if run.public == (0, 0) {
            return inside;
        }
        let address = if run.address.contains(':') {
            format!("[{}]", run.address)
        } else {
            run.address.clone()
        };
        format!("{address}:{}->{inside}", range(run.public))
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_containers_looks_like_docker_s() {
        let now = Timestamp::from_second(1_700_000_180).unwrap();
        let container = json!({
            "Id": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "Names": ["/web"], "Image": "busybox", "Command": "sh -c 'while true; do sleep 1; done'",
            "Created": 1_700_000_000, "Status": "Up 3 minutes", "State": "running",
            "Ports": [
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"PrivatePort": 443, "Type": "tcp"},
            ],
            "Labels": {"b": "2", "a": "1"}, "Mounts": [],
        });
        let listing = |format| {
            let rows = vec![row(&container, now, false)];
            let shown = vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
            Listing { titles: TITLES, shown, rows }.render(format).unwrap()
        };
        assert_eq!(
            listing(None),
            "CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS         PORTS                                              NAMES\n\
             0123456789ab   busybox   \"sh -c 'while true; …\"   3 minutes ago   Up 3 minutes   443/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp   web\n"
        );
        assert_eq!(listing(Some(r#"{{.Names}} {{.Label "a"}} {{.Labels}}"#)), "web 1 a=1,b=2\n");
    }

    #[test]
    fn neighbouring_ports_become_ranges() {
        let port = |private: u64, public: u64| json!({"IP": "0.0.0.0", "PrivatePort": private, "PublicPort": public, "Type": "tcp"});
        assert_eq!(ports(&json!([port(81, 81), port(80, 80)])), "0.0.0.0:80-81->80-81/tcp");
        let apart = ports(&json!([port(80, 8080), port(81, 8081)]));
        assert_eq!(apart, "0.0.0.0:8080->80/tcp, 0.0.0.0:8081->81/tcp");
        assert_eq!(
            ports(&json!([{"PrivatePort": 1, "Type": "tcp"}, {"PrivatePort": 2, "Type": "tcp"}])),
            "1-2/tcp"
        );
        assert_eq!(ports(&Value::Null), "");
    }
}
