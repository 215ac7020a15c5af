//! `system df -v`: each image, container and volume with its room, as docker lists them.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cli::commands::networks::labels;
use crate::cli::commands::ps::{self, short};
use crate::cli::error::CliError;
use crate::cli::output::listing::{Listing, escape_lines};
use crate::cli::output::template::Template;
use crate::cli::output::{size, time};

const IMAGES: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("Size", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];
const CONTAINERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Size", "SIZE"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Names", "NAMES"),
];
const VOLUMES: &[(&str, &str)] = &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];
const CACHE: &[(&str, &str)] = &[
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];

/// Every image, container and volume in docker's fields.
struct Rows {
    images: Vec<Map<String, Value>>,
    containers: Vec<Map<String, Value>>,
    volumes: Vec<Map<String, Value>>,
}

impl Rows {
    /// `full` shortens nothing.
    fn new(usage: &Value, now: Timestamp, full: bool) -> Self {
        let items = |key: &str| usage[key].as_array().into_iter().flatten();
        let container = |container| container_row(container, now, full);
        Self {
            images: items("Images").flat_map(|image| image_rows(image, now, full)).collect(),
            containers: items("Containers").map(container).collect(),
            volumes: items("Volumes").map(volume_row).collect(),
        }
    }
}

/// Returns what a template makes of all families at once, as docker's `--format` with `-v` does.
///
/// # Errors
/// The template is wrong.
pub(super) fn formatted(usage: &Value, now: Timestamp, format: &str) -> Result<String, CliError> {
    let (template, full) = match format.strip_prefix("table ") {
        Some(template) => (template.trim(), false),
        None if format == "json" => ("{{json .}}", true),
        None => (format, true),
    };
    let Rows { images, containers, volumes } = Rows::new(usage, now, full);
    let data = json!({
        "Images": images,
        "Containers": containers,
        "Volumes": volumes,
        // This engine has no cache of builds.
        "BuildCache": [],
    });
    Ok(escape_lines(&Template::parse(template)?.render(&data)?))
}

pub(super) fn render(usage: &Value, now: Timestamp) -> Result<String, CliError> {
    let Rows { images, containers, volumes } = Rows::new(usage, now, false);
    let table = |titles: &'static [(&'static str, &'static str)], rows| {
        let shown = titles.iter().map(|(field, _)| *field).collect();
        Listing { titles, shown, rows }.render(None)
    };
    // This engine has no cache of builds.
    Ok([
        "Images space usage:\n\n",
        &table(IMAGES, images)?,
        "\nContainers space usage:\n\n",
        &table(CONTAINERS, containers)?,
        "\nLocal Volumes space usage:\n\n",
        &table(VOLUMES, volumes)?,
        "\nBuild cache usage: 0B\n\n",
        &table(CACHE, Vec::new())?,
    ]
    .concat())
}

/// An image has a row for each of its names.
fn image_rows(image: &Value, now: Timestamp, full: bool) -> Vec<Map<String, Value>> {
    let bytes = |key: &str| image[key].as_u64().unwrap_or(0);
    let created = image["Created"].as_i64().and_then(|at| Timestamp::from_second(at).ok());
    let tags = image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut names: Vec<(&str, &str)> = tags.filter_map(|name| name.rsplit_once(':')).collect();
    if names.is_empty() {
        names.push(("<none>", "<none>"));
    }
    let created = created.unwrap_or(Timestamp::UNIX_EPOCH);
    let id = image["Id"].as_str().unwrap_or_default();
    let row = |(repository, tag)| {
        object(&json!({
            "Repository": repository,
            "Tag": tag,
            // Docker leaves it empty here.
            "Digest": "",
            "ID": if full { id } else { short(id) },
            "CreatedAt": time::go(created),
            "CreatedSince": time::ago(created, now),
            "Size": size::decimal(bytes("Size")),
            "SharedSize": size::decimal_of_four(bytes("SharedSize")),
            "UniqueSize": size::decimal_of_four(bytes("Size").saturating_sub(bytes("SharedSize"))),
            "Containers": bytes("Containers").to_string(),
        }))
    };
    names.into_iter().map(row).collect()
}

fn container_row(container: &Value, now: Timestamp, full: bool) -> Map<String, Value> {
    let mut row = ps::row(container, now, full);
    let written = container["SizeRw"].as_u64().unwrap_or(0);
    row.insert("Size".to_owned(), json!(size::decimal(written)));
    row
}

fn volume_row(volume: &Value) -> Map<String, Value> {
    let usage = |key: &str| volume["UsageData"][key].as_u64().unwrap_or(0);
    object(&json!({
        "Driver": volume["Driver"],
        "Labels": labels(&volume["Labels"]),
        "Mountpoint": volume["Mountpoint"],
        "Name": volume["Name"],
        "Scope": volume["Scope"],
        "Links": usage("RefCount").to_string(),
        "Size": size::decimal_of_four(usage("Size")),
    }))
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    #[test]
    fn a_template_is_given_all_families_at_once() {
        let usage = json!({
            "Images": [{"Id": "sha256:0123456789abcdef", "RepoTags": ["app:1"], "Size": 5}],
            "Containers": [{"Id": "1", "Labels": {"a": "b"}}],
            "Volumes": [{"Name": "data", "Labels": {"a": "b"}}],
        });
        let render = |format: &str| formatted(&usage, Timestamp::UNIX_EPOCH, format).unwrap();
        let each = "{{range .Images}}{{.ID}} {{end}}{{range .Volumes}}{{.Name}} {{.Labels}}{{end}}";
        assert_eq!(render(each), "sha256:0123456789abcdef data a=b");
        assert_eq!(render(&format!("table {each}")), "0123456789ab data a=b");
        assert!(render("json").starts_with("{\"Images\":[{"), "{}", render("json"));
        assert!(!render("json").contains("Label\":{"), "what is for templates alone is left out");
        assert!(formatted(&usage, Timestamp::UNIX_EPOCH, "{{.Type}}").is_err());
    }

    #[test]
    fn every_family_has_its_table() {
        let usage = json!({
            "Images": [{"Id": "sha256:0123456789abcdef", "RepoTags": ["app:1"], "Created": 60,
                "Size": 1_980_082, "SharedSize": 1_980_000, "Containers": 2}],
            "Containers": null,
            "Volumes": [{"Name": "data", "UsageData": {"RefCount": 1, "Size": 3}}],
        });
        let text = render(&usage, Timestamp::from_second(120).unwrap()).unwrap();
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|line| !line.is_empty())
            .collect();
        assert_eq!(lines[2], "app 1 0123456789ab About a minute ago 1.98MB 1.98MB 82B 2");
        assert_eq!(lines[6], "VOLUME NAME LINKS SIZE");
        assert_eq!(lines[7], "data 1 3B");
        assert_eq!(lines[8], "Build cache usage: 0B");
    }
}
