//! `container prune`, `image prune`, `network prune`, `volume prune`, `system prune`.

use std::io::{self, BufRead, IsTerminal, Write};

use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::error::{CliError, warn};
use crate::cli::exit;
use crate::cli::filters;
use crate::cli::global::Global;
use crate::cli::output::{printer, size};
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;

#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Only those that match: NAME=VALUE
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Containers {
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Networks {
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Images {
    /// Remove all that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Volumes {
    /// Remove those with a name too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, clap::Args)]
pub(crate) struct System {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Remove anonymous volumes that no container uses too
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    flags: Flags,
}

/// One family of objects that is pruned.
struct Part {
    path: &'static str,
    /// Where the answer lists what was deleted.
    deleted: &'static str,
    title: &'static str,
}

const CONTAINERS: Part =
    Part { path: "/containers/prune", deleted: "ContainersDeleted", title: "Deleted Containers:" };
const NETWORKS: Part =
    Part { path: "/networks/prune", deleted: "NetworksDeleted", title: "Deleted Networks:" };
const VOLUMES: Part =
    Part { path: "/volumes/prune", deleted: "VolumesDeleted", title: "Deleted Volumes:" };
const IMAGES: Part =
    Part { path: "/images/prune", deleted: "ImagesDeleted", title: "Deleted Images:" };

impl Part {
    /// Prunes and prints what went; returns the bytes that are free now.
    async fn prune(&self, client: &Client, words: &[String]) -> Result<u64, CliError> {
        let filters = filters::encode(words)?;
        let query: Vec<(&str, &str)> =
            filters.iter().map(|filters| ("filters", filters.as_str())).collect();
        let answer: Value = client.post(self.path, &query, None).await?.json()?;
        let deleted: Vec<&Value> = answer[self.deleted].as_array().into_iter().flatten().collect();
        if !deleted.is_empty() {
            printer::line(self.title)?;
            for item in deleted {
                printer::line(&escape_controls(&deletion(item)))?;
            }
            printer::line("")?;
        }
        Ok(answer["SpaceReclaimed"].as_u64().unwrap_or(0))
    }
}

/// Returns how docker tells a deletion: an image is untagged or deleted, all else has an id.
pub(super) fn deletion(item: &Value) -> String {
    if let Some(text) = item.as_str() {
        return text.to_owned();
    }
    match (item["Untagged"].as_str(), item["Deleted"].as_str()) {
        (Some(name), _) => format!("Untagged: {name}"),
        (None, Some(id)) => format!("Deleted: {id}"),
        (None, None) => item.to_string(),
    }
}

fn total(bytes: u64) -> Result<u8, CliError> {
    printer::line(&format!("Total reclaimed space: {}", size::decimal(bytes)))?;
    Ok(exit::OK)
}

impl Verb for Containers {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        self.flags.confirm("This removes all stopped containers.")?;
        total(CONTAINERS.prune(&global.connect().await?, &self.flags.filter).await?)
    }
}

impl Verb for Networks {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        self.flags.confirm("This removes all networks that no container uses.")?;
        NETWORKS.prune(&global.connect().await?, &self.flags.filter).await?;
        Ok(exit::OK)
    }
}

impl Verb for Images {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let what = if self.all { "no container uses" } else { "have no name" };
        self.flags.confirm(&format!("This removes all images that {what}."))?;
        let mut words = self.flags.filter.clone();
        words.push(format!("dangling={}", !self.all));
        total(IMAGES.prune(&global.connect().await?, &words).await?)
    }
}

impl Verb for Volumes {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let what = if self.all { "volumes" } else { "anonymous volumes" };
        self.flags.confirm(&format!("This removes all {what} that no container uses."))?;
        let mut words = self.flags.filter.clone();
        if self.all {
            words.push("all=true".to_owned());
        }
        total(VOLUMES.prune(&global.connect().await?, &words).await?)
    }
}

impl Verb for System {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let images = if self.all { "all unused images" } else { "all images without a name" };
        let volumes = if self.volumes { ", all unused anonymous volumes" } else { "" };
        self.flags.confirm(&format!(
            "This removes all stopped containers, all unused networks{volumes} and {images}."
        ))?;
        let client = global.connect().await?;
        let words = &self.flags.filter;
        let mut bytes = CONTAINERS.prune(&client, words).await?;
        NETWORKS.prune(&client, words).await?;
        if self.volumes {
            bytes += VOLUMES.prune(&client, words).await?;
        }
        let mut image_words = words.clone();
        image_words.push(format!("dangling={}", !self.all));
        bytes += IMAGES.prune(&client, &image_words).await?;
        total(bytes)
    }
}

impl Flags {
    /// Asks, unless `--force`. Without a terminal nobody could answer.
    fn confirm(&self, what: &str) -> Result<(), CliError> {
        if self.force {
            return Ok(());
        }
        warn(what);
        if !io::stdin().is_terminal() {
            let text = "nobody can answer, as standard input is no terminal; use --force";
            return Err(CliError::Failed(text.to_owned()));
        }
        // Nobody is left to tell when standard error is closed.
        drop(write!(io::stderr(), "Go on? [y/N] "));
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map_err(CliError::io("read the answer"))?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(CliError::Failed("nothing was removed".to_owned()))
    }
}
