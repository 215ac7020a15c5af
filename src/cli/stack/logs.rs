//! `bargee logs` on a stack: the logs of its services, in the order of their times, then as they grow.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use super::ansi::Paint;
use super::choose::{self, ByName};
use super::containers::select;
use super::log::{self, Line, Message, Printer, Selection, Style};
use super::requests;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::output::time::moment;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    by_name: ByName,
    /// SERVICE, SERVICE.N or STACK/SERVICE[.N] [default: all services]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Number of lines of each container, or all
    #[arg(short = 'n', long, value_name = "N", default_value = "all")]
    tail: String,
    /// Lines since a time, as 2026-01-02T03:04:05Z, or since a while ago, as 42m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Lines before a time, or before a while ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Print the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Print without colours
    #[arg(long)]
    no_color: bool,
    /// Print without the names of the containers
    #[arg(long)]
    no_log_prefix: bool,
    /// Number of the container, when a service has several
    #[arg(long, value_name = "N")]
    index: Option<u32>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let mut chosen = choose::choose(global, &self.by_name, &self.services)?;
        if let Some(index) = self.index {
            for service in &mut chosen.services {
                *service = format!("{}.{index}", choose::replica(service).0);
            }
        }
        let client = global.connect().await?;
        let view = requests::view(&client, &chosen.stack).await?;
        let found = select(&view, &chosen)?;
        let mut printer = Printer::new(self.style());
        let mut names = BTreeMap::new();
        for container in &found {
            printer.introduce(&container.short_name());
            names.insert(container.replica.id.clone(), container.short_name());
        }
        let selection = Selection {
            since: self.since.as_deref().map(moment).transpose()?,
            until: self.until.as_deref().map(moment).transpose()?,
            tail: Some(self.tail.clone()),
        };
        let mut past = Vec::new();
        for container in &found {
            past.push(log::all(&client, &container.replica.id, &selection).await?);
        }
        // Following goes on right behind the last line that was read.
        let last: Vec<Option<String>> = past.iter().map(|lines| last_time(lines)).collect();
        let mut bytes = Vec::new();
        for (index, line) in log::by_time(past) {
            bytes.extend(printer.line(&found[index].short_name(), &line));
        }
        printer::print_bytes(&bytes)?;
        if !self.follow {
            return Ok(exit::OK);
        }
        let (sender, mut messages) = mpsc::channel(64);
        for (container, last) in found.iter().zip(last) {
            let selection = match last {
                Some(last) => Selection { since: Some(last), ..Selection::default() },
                None => Selection { until: None, ..selection.clone() },
            };
            log::follow(&client, &container.replica.id, &selection, sender.clone()).await?;
        }
        drop(sender);
        while let Some(message) = messages.recv().await {
            match message {
                Message::Lines { container, lines } => {
                    let name = names.get(&container).map_or("", String::as_str);
                    let text = lines.iter().flat_map(|line| printer.line(name, line));
                    printer::print_bytes(&text.collect::<Vec<u8>>())?;
                }
                Message::Ended { error: Some(error), .. } => return Err(error.into()),
                Message::Ended { error: None, .. } => {}
            }
        }
        Ok(exit::OK)
    }

    fn targets(&self) -> &[String] {
        &self.services
    }
}

impl Args {
    fn style(&self) -> Style {
        Style {
            paint: if self.no_color { Paint::PLAIN } else { Paint::stdout() },
            prefix: !self.no_log_prefix,
            timestamps: self.timestamps,
            terminal: printer::is_terminal(),
        }
    }
}

/// One nanosecond behind the last line, as the API's `since`.
fn last_time(lines: &[Line]) -> Option<String> {
    let time = lines.iter().rev().find_map(|line| line.time.as_deref())?;
    let nanoseconds = time.parse::<jiff::Timestamp>().ok()?.as_nanosecond() + 1;
    Some(format!(
        "{}.{:09}",
        nanoseconds.div_euclid(1_000_000_000),
        nanoseconds.rem_euclid(1_000_000_000)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn following_begins_behind_the_last_line() {
        let line = |time: Option<&str>| Line {
            time: time.map(str::to_owned),
            text: Vec::new(),
            from_stderr: false,
        };
        let lines = [line(Some("2026-01-02T03:04:05.999999999Z")), line(None)];
        assert_eq!(last_time(&lines).as_deref(), Some("1767323046.000000000"));
        assert_eq!(last_time(&[]), None);
    }
}
