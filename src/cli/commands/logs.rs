//! `bargee logs`.

use super::path;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::time::moment;
use crate::cli::session::frames::{Frames, Stream};
use crate::cli::session::write;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Lines from the end
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    tail: String,
    /// Only what was written since a time (2026-01-02T15:04:05Z) or a while ago (42m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what was written before a time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Put the time in front of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Show the attributes of the log driver
    #[arg(long)]
    details: bool,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let since = self.since.as_deref().map(moment).transpose()?;
        let until = self.until.as_deref().map(moment).transpose()?;
        let mut query = vec![("stdout", "1"), ("stderr", "1"), ("tail", self.tail.as_str())];
        query.extend(since.as_deref().map(|time| ("since", time)));
        query.extend(until.as_deref().map(|time| ("until", time)));
        let switches =
            [("follow", self.follow), ("timestamps", self.timestamps), ("details", self.details)];
        query.extend(switches.iter().filter(|(_, on)| *on).map(|(name, _)| (*name, "1")));
        let client = global.connect().await?;
        let request = crate::cli::client::Method::GET;
        let mut output =
            client.download(request, &path(&self.container, "logs"), &query, None).await?;
        let framed = output.is_multiplexed();
        let mut frames = Frames::default();
        while let Some(piece) = output.next().await? {
            if framed {
                for (stream, bytes) in frames.feed(&piece)? {
                    write(stream, &bytes).await?;
                }
            } else {
                write(Stream::Output, &piece).await?;
            }
        }
        Ok(exit::OK)
    }

    fn targets(&self) -> &[String] {
        std::slice::from_ref(&self.container)
    }
}
