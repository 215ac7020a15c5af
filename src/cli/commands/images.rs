//! `bargee images`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::ps::short;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::filters;
use crate::cli::global::Global;
use crate::cli::output::listing::Listing;
use crate::cli::output::{printer, size, time};
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show intermediate images too
    #[arg(short, long)]
    all: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Show ids in full
    #[arg(long)]
    no_trunc: bool,
    /// Show those that match: NAME=VALUE
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show those of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

const TITLES: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
];

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let mut words = self.filter.clone();
        words.extend(self.name.iter().map(|name| format!("reference={name}")));
        let filters = filters::encode(&words)?;
        let mut query = Vec::new();
        query.extend(self.all.then_some(("all", "1")));
        query.extend(filters.as_deref().map(|filters| ("filters", filters)));
        let client = global.connect().await?;
        let found: Vec<Value> = client.get("/images/json", &query).await?.json()?;
        let now = Timestamp::now();
        let mut rows = Vec::new();
        for image in &found {
            rows.extend(self.rows(image, now));
        }
        if self.quiet && self.format.is_none() {
            for row in rows {
                printer::line(row["ID"].as_str().unwrap_or_default())?;
            }
            return Ok(exit::OK);
        }
        let mut shown = vec!["Repository", "Tag", "ID", "CreatedSince", "Size"];
        if self.digests {
            shown.insert(2, "Digest");
        }
        Listing { titles: TITLES, shown, rows }.print(self.format.as_deref())?;
        Ok(exit::OK)
    }
}

impl Args {
    /// An image has a row for each of its names.
    fn rows(&self, image: &Value, now: Timestamp) -> Vec<Map<String, Value>> {
        let words = |key: &str| -> Vec<String> {
            let list = image[key].as_array().into_iter().flatten();
            list.filter_map(|word| Some(word.as_str()?.to_owned())).collect()
        };
        let digests = words("RepoDigests");
        let mut names: Vec<(String, String)> = words("RepoTags")
            .iter()
            .filter(|name| *name != "<none>:<none>")
            .filter_map(|name| name.rsplit_once(':'))
            .map(|(repository, tag)| (repository.to_owned(), tag.to_owned()))
            .collect();
        if names.is_empty() {
            let repository = digests.first().and_then(|digest| digest.split_once('@'));
            let repository = repository.map_or("<none>", |(repository, _)| repository);
            names.push((repository.to_owned(), "<none>".to_owned()));
        }
        let id = image["Id"].as_str().unwrap_or_default();
        let created = image["Created"].as_i64().and_then(|at| Timestamp::from_second(at).ok());
        let created = created.unwrap_or(Timestamp::UNIX_EPOCH);
        let containers = image["Containers"].as_i64().filter(|count| *count >= 0);
        let row = |(repository, tag): (String, String)| {
            let digest = digests.iter().find_map(|digest| {
                let (name, digest) = digest.split_once('@')?;
                (name == repository).then(|| digest.to_owned())
            });
            let row = json!({
                "Repository": repository,
                "Tag": tag,
                "Digest": digest.unwrap_or_else(|| "<none>".to_owned()),
                "ID": if self.no_trunc { id } else { short(id) },
                "CreatedSince": time::ago(created, now),
                "CreatedAt": time::go(created),
                "Size": size::decimal(image["Size"].as_u64().unwrap_or(0)),
                "Containers": containers.map_or_else(|| "N/A".to_owned(), |count| count.to_string()),
            });
            row.as_object().cloned().unwrap_or_default()
        };
        names.into_iter().map(row).collect()
    }
}
