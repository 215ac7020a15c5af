//! Reading the logs of one container from the engine: to their end, or as they grow.

use tokio::sync::mpsc::Sender;

use super::assemble::{Line, Lines};
use super::frames::Frames;
use crate::cli::client::{Client, ClientError, Download, Method, segment};

/// Which lines are read. Times are as docker's API takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) since: Option<String>,
    pub(crate) until: Option<String>,
    /// A number of lines, or `all`.
    pub(crate) tail: Option<String>,
}

/// What a follower tells.
#[derive(Debug)]
pub(crate) enum Message {
    Lines {
        container: String,
        lines: Vec<Line>,
    },
    /// The log has no more lines: the container ended, or the connection broke.
    Ended {
        container: String,
        error: Option<ClientError>,
    },
}

/// Returns all lines that are there.
///
/// # Errors
/// The engine refused, or the connection broke.
pub(crate) async fn all(
    client: &Client,
    container: &str,
    selection: &Selection,
) -> Result<Vec<Line>, ClientError> {
    let mut reader = Reader::open(client, container, selection, false).await?;
    let mut lines = Vec::new();
    while let Some(more) = reader.next().await? {
        lines.extend(more);
    }
    Ok(lines)
}

/// Follows the log of `container` in a task of its own, which ends when `sender`'s receiver goes.
///
/// # Errors
/// The engine refused.
pub(crate) async fn follow(
    client: &Client,
    container: &str,
    selection: &Selection,
    sender: Sender<Message>,
) -> Result<(), ClientError> {
    let mut reader = Reader::open(client, container, selection, true).await?;
    let container = container.to_owned();
    tokio::spawn(async move {
        loop {
            let (message, last) = match reader.next().await {
                Ok(Some(lines)) if lines.is_empty() => continue,
                Ok(Some(lines)) => (Message::Lines { container: container.clone(), lines }, false),
                Ok(None) => (Message::Ended { container: container.clone(), error: None }, true),
                Err(error) => {
                    (Message::Ended { container: container.clone(), error: Some(error) }, true)
                }
            };
            if sender.send(message).await.is_err() || last {
                return;
            }
        }
    });
    Ok(())
}

struct Reader {
    download: Download,
    /// `None`: a terminal's output, which has no frames.
    frames: Option<Frames>,
    lines: Lines,
    ended: bool,
}

impl Reader {
    async fn open(
        client: &Client,
        container: &str,
        selection: &Selection,
        follow: bool,
    ) -> Result<Self, ClientError> {
        let mut query = vec![
            ("stdout", "1"),
            ("stderr", "1"),
            ("timestamps", "1"),
            ("follow", if follow { "1" } else { "0" }),
        ];
        let optional =
            [("since", &selection.since), ("until", &selection.until), ("tail", &selection.tail)];
        for (name, value) in optional {
            query.extend(value.as_deref().map(|value| (name, value)));
        }
        let path = format!("/containers/{}/logs", segment(container));
        let download = client.download(Method::GET, &path, &query, None).await?;
        let frames = download.is_multiplexed().then(Frames::default);
        Ok(Self { download, frames, lines: Lines::new(true), ended: false })
    }

    /// Returns the lines that the next piece completes.
    async fn next(&mut self) -> Result<Option<Vec<Line>>, ClientError> {
        if self.ended {
            return Ok(None);
        }
        let Some(piece) = self.download.next().await? else {
            self.ended = true;
            return Ok(Some(self.lines.finish()));
        };
        let lines = match &mut self.frames {
            None => self.lines.push(false, &piece),
            Some(frames) => {
                let mut lines = Vec::new();
                for (from_stderr, bytes) in frames.push(&piece) {
                    lines.extend(self.lines.push(from_stderr, &bytes));
                }
                lines
            }
        };
        Ok(Some(lines))
    }
}
