//! `bargee events`.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::cli::client::Method;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::filters;
use crate::cli::global::Global;
use crate::cli::output::listing::escape_lines;
use crate::cli::output::printer;
use crate::cli::output::template::{Template, json};
use crate::cli::output::time::moment;
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Those that match: NAME=VALUE
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// From a time on (2026-01-02T15:04:05Z), or a while ago (42m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to a time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let template = match self.format.as_deref() {
            None | Some("json") => None,
            Some(text) => Some(Template::parse(text)?),
        };
        let filters = filters::encode(&self.filter)?;
        let since = self.since.as_deref().map(moment).transpose()?;
        let until = self.until.as_deref().map(moment).transpose()?;
        let mut query = Vec::new();
        query.extend(filters.as_deref().map(|filters| ("filters", filters)));
        query.extend(since.as_deref().map(|time| ("since", time)));
        query.extend(until.as_deref().map(|time| ("until", time)));
        let client = global.connect().await?;
        let mut events = client.lines(Method::GET, "/events", &query, None).await?;
        let zone = TimeZone::system();
        while let Some(event) = events.next().await? {
            let line = match (&template, &self.format) {
                (Some(template), _) => escape_lines(&template.render(&event)?),
                (None, Some(_)) => json(&event),
                (None, None) => escape_controls(&sentence(&event, &zone)),
            };
            printer::line(&line)?;
        }
        Ok(exit::OK)
    }
}

/// Returns `TIME container die ID (exitCode=0, name=web)`.
fn sentence(event: &Value, zone: &TimeZone) -> String {
    let nanoseconds = event["timeNano"].as_i64().unwrap_or(0);
    let time = Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH);
    let offset = zone.to_offset(time);
    let local = offset.to_datetime(time).strftime("%Y-%m-%dT%H:%M:%S.%9f").to_string();
    let seconds = offset.seconds();
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
    let time = format!("{local}{sign}{:02}:{:02}", minutes / 60, minutes % 60);
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut words =
        vec![time, word(&event["Type"]), word(&event["Action"]), word(&event["Actor"]["ID"])];
    let attributes = event["Actor"]["Attributes"].as_object().into_iter().flatten();
    let mut attributes: Vec<String> =
        attributes.map(|(name, value)| format!("{name}={}", word(value))).collect();
    attributes.sort();
    if !attributes.is_empty() {
        words.push(format!("({})", attributes.join(", ")));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event = serde_json::json!({
            "Type": "container", "Action": "die", "timeNano": 1_700_000_000_123_456_789_i64,
            "Actor": {"ID": "abc", "Attributes": {"name": "web", "exitCode": "0"}},
        });
        assert_eq!(
            sentence(&event, &TimeZone::UTC),
            "2023-11-14T22:13:20.123456789+00:00 container die abc (exitCode=0, name=web)"
        );
    }
}
