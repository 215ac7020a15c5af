//! `bargee stack history`, `diff`, `at` and `rollback`: the revisions of a stack.

use jiff::Timestamp;

use super::ansi::Paint;
use super::choose::{self, ByName};
use super::plan_text;
use super::requests;
use super::show::{Display, show};
use super::tell;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::output::table::Table;
use crate::cli::output::time;
use crate::cli::verb::Verb;
use crate::protocol::{RevisionContent, RevisionView, RollbackRequest};

/// A stack by its name, or the one of the files.
#[derive(Debug, clap::Args)]
pub(crate) struct Chosen {
    #[command(flatten)]
    by_name: ByName,
}

impl Chosen {
    fn name(&self, global: &Global) -> Result<String, CliError> {
        Ok(choose::choose(global, &self.by_name, &[])?.stack)
    }
}

pub(crate) mod list {
    use super::*;

    #[derive(Debug, clap::Args)]
    pub(crate) struct Args {
        #[command(flatten)]
        by_name: ByName,
        /// The stack [default: that of the files]
        #[arg(value_name = "STACK")]
        word: Option<String>,
        /// Print a JSON line for each revision
        #[arg(long)]
        json: bool,
    }

    impl Verb for Args {
        async fn run(self, global: &Global) -> Result<u8, CliError> {
            let stack = match self.word {
                Some(word) => word,
                None => choose::choose(global, &self.by_name, &[])?.stack,
            };
            let client = global.connect().await?;
            let revisions = requests::revisions(&client, &stack).await?;
            if self.json {
                for revision in &revisions {
                    printer::json_line(revision)?;
                }
                return Ok(exit::OK);
            }
            printer::print(&table(&revisions, Timestamp::now()))?;
            Ok(exit::OK)
        }
    }

    pub(super) fn table(revisions: &[RevisionView], now: Timestamp) -> String {
        let mut table = Table::new(["REVISION", "CREATED", "BY", "OUTCOME", "MESSAGE"]);
        for revision in revisions {
            let created = Timestamp::from_nanosecond(revision.created_at.into());
            let number = match revision.current {
                true => format!("{} *", revision.number),
                false => revision.number.to_string(),
            };
            table.row([
                number,
                created.map_or_else(|_| "-".to_owned(), |created| time::ago(created, now)),
                revision.author.clone().unwrap_or_else(|| "-".to_owned()),
                revision.outcome.clone(),
                revision.message.clone().unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        table.to_string()
    }
}

pub(crate) mod diff {
    use super::*;

    #[derive(Debug, clap::Args)]
    pub(crate) struct Args {
        #[command(flatten)]
        chosen: Chosen,
        /// The older revision
        #[arg(value_name = "FROM")]
        from: u32,
        /// The newer revision [default: the current one]
        #[arg(value_name = "TO")]
        to: Option<u32>,
        /// Print the difference as JSON, as plan does
        #[arg(long)]
        json: bool,
        /// Print without colours
        #[arg(long)]
        no_color: bool,
    }

    impl Verb for Args {
        async fn run(self, global: &Global) -> Result<u8, CliError> {
            let stack = self.chosen.name(global)?;
            let client = global.connect().await?;
            let to = match self.to {
                Some(to) => to,
                None => current(&requests::revisions(&client, &stack).await?, &stack)?,
            };
            let report = requests::difference(&client, &stack, self.from, to).await?;
            if self.json {
                printer::json(&report)?;
            } else if report.steps.is_empty() {
                printer::line(&format!("{stack}: revisions {} and {to} want the same", self.from))?;
            } else {
                let paint = if self.no_color { Paint::PLAIN } else { Paint::stdout() };
                printer::print(&plan_text::render(&report, paint))?;
            }
            Ok(if report.steps.is_empty() { exit::OK } else { exit::CHANGES })
        }
    }
}

pub(crate) mod at {
    use super::*;

    #[derive(Debug, clap::Args)]
    pub(crate) struct Args {
        #[command(flatten)]
        chosen: Chosen,
        /// When: 2026-01-02T15:04:05Z, seconds since 1970, or a while ago as in 42m
        #[arg(value_name = "TIME", required_unless_present = "revision")]
        time: Option<String>,
        /// The revision of this number instead
        #[arg(long, value_name = "NUMBER", conflicts_with = "time")]
        revision: Option<u32>,
        /// Print all that is kept of it as JSON
        #[arg(long)]
        json: bool,
    }

    impl Verb for Args {
        async fn run(self, global: &Global) -> Result<u8, CliError> {
            let stack = self.chosen.name(global)?;
            let moment = self.time.as_deref().map(nanoseconds).transpose()?;
            let client = global.connect().await?;
            let number = match (self.revision, moment) {
                (Some(number), _) => number,
                (None, moment) => {
                    let revisions = requests::revisions(&client, &stack).await?;
                    then(&revisions, moment.unwrap_or(i64::MAX)).ok_or_else(|| {
                        tell::refuse(
                            &format!("stack {stack} had no revision yet"),
                            Some(&format!("bargee stack history {stack} lists them")),
                        )
                    })?
                }
            };
            let content = requests::revision(&client, &stack, number).await?;
            if self.json {
                printer::json(&content)?;
            } else {
                printer::print(&files(&stack, &content))?;
            }
            Ok(exit::OK)
        }
    }

    /// The revision that was wanted at `moment`; the newest comes first.
    pub(super) fn then(revisions: &[RevisionView], moment: i64) -> Option<u32> {
        let known = revisions.iter().find(|revision| revision.created_at <= moment);
        known.map(|revision| revision.number)
    }

    fn nanoseconds(text: &str) -> Result<i64, CliError> {
        let seconds = time::moment(text)?;
        let wrong = || CliError::Usage(format!("the time {text} is out of range"));
        let (whole, fraction) = seconds.split_once('.').unwrap_or((&seconds, "0"));
        let whole: i64 = whole.parse().map_err(|_| wrong())?;
        let fraction: i64 = format!("{fraction:0<9.9}").parse().map_err(|_| wrong())?;
        whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(fraction)).ok_or_else(wrong)
    }

    /// The files as they were, each behind a comment with its path.
    pub(super) fn files(stack: &str, content: &RevisionContent) -> String {
        let RevisionView { number, author, message, outcome, created_at, .. } = &content.revision;
        let created = Timestamp::from_nanosecond((*created_at).into());
        let created = created.map_or_else(|_| "-".to_owned(), |created| created.to_string());
        let author = author.as_deref().map_or_else(String::new, |author| format!(" by {author}"));
        let mut text = format!("# {stack}, revision {number} ({outcome}), {created}{author}\n");
        if let Some(message) = message {
            text.push_str(&format!("# {}\n", message.replace('\n', " ")));
        }
        for (image, id) in &content.images {
            text.push_str(&format!("# image {image} was {id}\n"));
        }
        for source in &content.sources {
            text.push_str(&format!("# {}\n{}", source.path, source.text));
            if !source.text.ends_with('\n') {
                text.push('\n');
            }
        }
        text
    }
}

pub(crate) mod rollback {
    use super::*;

    #[derive(Debug, clap::Args)]
    pub(crate) struct Args {
        #[command(flatten)]
        chosen: Chosen,
        /// The revision [default: the last good one before the current one]
        #[arg(value_name = "REVISION")]
        to: Option<u32>,
        /// Why, for the stack's history
        #[arg(short, long, value_name = "TEXT")]
        message: Option<String>,
        /// Also when jobs ran since, whose work stays done
        #[arg(long)]
        past_jobs: bool,
        /// Return only when every service runs and is healthy
        #[arg(long)]
        wait: bool,
        /// Seconds of grace before a container that is replaced is killed [default: its own]
        #[arg(short, long, value_name = "SECONDS")]
        timeout: Option<u64>,
        /// Print the progress as JSON lines
        #[arg(long)]
        json: bool,
    }

    impl Verb for Args {
        async fn run(self, global: &Global) -> Result<u8, CliError> {
            let stack = self.chosen.name(global)?;
            let client = global.connect().await?;
            let request = RollbackRequest {
                to: self.to,
                past_jobs: self.past_jobs,
                author: Some(author()),
                message: self.message,
                timeout: self.timeout,
                wait: self.wait,
            };
            let lines = requests::rollback(&client, &stack, &request).await?;
            show(lines, &format!("rollback {stack}"), Display::choose(self.json), None).await?;
            Ok(exit::OK)
        }
    }
}

/// Who asks: the user, or who became root. A login sets the names, sudo its own; a service has none.
pub(crate) fn author() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME"));
    let user = user.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    match variable("SUDO_USER") {
        Some(asker) if asker != user => format!("{asker} as {user}"),
        _ => user,
    }
}

fn current(revisions: &[RevisionView], stack: &str) -> Result<u32, CliError> {
    let current = revisions.iter().find(|revision| revision.current);
    let none = || CliError::Failed(format!("stack {stack} has no revision"));
    Ok(current.ok_or_else(none)?.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::SourceText;

    fn revision(number: u32, created_at: i64, message: Option<&str>) -> RevisionView {
        RevisionView {
            number,
            current: number == 2,
            outcome: "good".into(),
            created_at,
            author: Some("ann".into()),
            message: message.map(str::to_owned),
            digest: String::new(),
        }
    }

    #[test]
    fn the_revision_of_a_moment_is_the_last_one_made_before_it() {
        let revisions = [revision(2, 200, None), revision(1, 100, None)];
        assert_eq!(at::then(&revisions, 99), None);
        assert_eq!(at::then(&revisions, 100), Some(1));
        assert_eq!(at::then(&revisions, 199), Some(1));
        assert_eq!(at::then(&revisions, 1_000), Some(2));
    }

    #[test]
    fn a_history_and_a_revision_are_told() {
        let second = 1_000_000_000;
        let revisions =
            [revision(2, 100 * second, Some("bigger cache")), revision(1, 10 * second, None)];
        let now = Timestamp::from_second(130).expect("it is in range");
        insta::assert_snapshot!(list::table(&revisions, now), @r"
        REVISION   CREATED          BY        OUTCOME   MESSAGE
        2 *        30 seconds ago   ann       good      bigger cache
        1          2 minutes ago    ann       good      -
        ");
        let content = RevisionContent {
            revision: revision(2, 100 * second, Some("bigger cache")),
            sources: vec![SourceText {
                path: "/srv/stack.yaml".into(),
                text: "services: {}".into(),
            }],
            images: [("a:1".to_owned(), "sha256:12".to_owned())].into(),
            ..RevisionContent::default()
        };
        insta::assert_snapshot!(at::files("shop", &content), @r"
        # shop, revision 2 (good), 1970-01-01T00:01:40Z by ann
        # bigger cache
        # image a:1 was sha256:12
        # /srv/stack.yaml
        services: {}
        ");
    }
}
