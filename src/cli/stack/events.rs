//! `bargee events` on a stack: what happens to its containers, as it happens.

use serde::Deserialize;
use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::choose::{self, ByName, replica};
use crate::cli::client::Method;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::output::time::moment;
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    by_name: ByName,
    /// SERVICE, SERVICE.N or STACK/SERVICE[.N] [default: all services]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Print the engine's events as JSON lines
    #[arg(long)]
    json: bool,
    /// Begin with the events since a time, or since a while ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End with this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "Actor")]
    actor: Actor,
    #[serde(rename = "timeNano", default)]
    time: i64,
}

#[derive(Debug, Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: BTreeMap<String, String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let since = self.since.as_deref().map(moment).transpose()?;
        let until = self.until.as_deref().map(moment).transpose()?;
        let chosen = choose::choose(global, &self.by_name, &self.services)?;
        let client = global.connect().await?;
        let label = format!("com.docker.compose.project={}", chosen.stack);
        let filters = serde_json::json!({ "type": ["container"], "label": [label] }).to_string();
        let mut query = vec![("filters", filters.as_str())];
        query.extend(since.as_deref().map(|time| ("since", time)));
        query.extend(until.as_deref().map(|time| ("until", time)));
        let mut events = client.lines(Method::GET, "/events", &query, None).await?;
        while let Some(value) = events.next().await? {
            let event = Event::deserialize(&value).map_err(|error| {
                CliError::Failed(format!("the engine's event makes no sense: {error}"))
            })?;
            if !event.is_of(&chosen.services) {
                continue;
            }
            printer::line(&if self.json {
                value.to_string()
            } else {
                event.text(&TimeZone::system())
            })?;
        }
        Ok(exit::OK)
    }

    fn targets(&self) -> &[String] {
        &self.services
    }
}

impl Event {
    fn attribute(&self, name: &str) -> &str {
        self.actor.attributes.get(name).map_or("", String::as_str)
    }

    fn is_of(&self, words: &[String]) -> bool {
        let service = self.attribute("com.docker.compose.service");
        let number = self.attribute("com.docker.compose.container-number").parse().ok();
        words.is_empty()
            || words.iter().any(|word| {
                let (name, only) = replica(word);
                name == service && (only.is_none() || only == number)
            })
    }

    /// As compose prints one.
    fn text(&self, zone: &TimeZone) -> String {
        let time = Timestamp::from_nanosecond(i128::from(self.time)).unwrap_or_default();
        let time = zone.to_datetime(time).strftime("%Y-%m-%d %H:%M:%S.%6f").to_string();
        let attributes: Vec<String> = self
            .actor
            .attributes
            .iter()
            .filter(|(name, _)| !name.starts_with("com.docker.compose."))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let text = format!(
            "{time} container {} {} ({})",
            self.action,
            self.actor.id,
            attributes.join(", ")
        );
        escape_controls(&text)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_told_in_a_line_and_found_by_its_service() {
        let event = Event::deserialize(&json!({
            "Action": "die", "timeNano": 1_500_000_000_i64,
            "Actor": { "ID": "abc", "Attributes": {
                "name": "shop-web-2", "exitCode": "1",
                "com.docker.compose.service": "web", "com.docker.compose.container-number": "2",
            } },
        }))
        .unwrap();
        assert_eq!(
            event.text(&TimeZone::UTC),
            "1970-01-01 00:00:01.500000 container die abc (exitCode=1, name=shop-web-2)"
        );
        for (word, expected) in [("web", true), ("web.2", true), ("web.1", false), ("db", false)] {
            assert_eq!(event.is_of(&[word.to_owned()]), expected, "{word}");
        }
        assert!(event.is_of(&[]));
    }
}
