//! The engine's end of netd's socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::state::{Report, Request, socket_path};

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens: netd is not there (yet).
    #[error("netd does not listen")]
    Absent { source: io::Error },
    #[error("netd does not answer")]
    Silent { source: io::Error },
    #[error("netd answered in words that we don't know")]
    Unreadable { source: serde_json::Error },
}

/// Opening a thousand resolvers takes netd about a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks the netd of this state file and waits for its report.
pub async fn ask(state_file: &Path, request: Request) -> Result<Report, AskError> {
    let stream = UnixStream::connect(socket_path(state_file))
        .await
        .map_err(|source| AskError::Absent { source })?;
    let talk = tokio::time::timeout(PATIENCE, talk(stream, request)).await;
    let line = talk
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| AskError::Silent { source })?;
    serde_json::from_str(&line).map_err(|source| AskError::Unreadable { source })
}

async fn talk(stream: UnixStream, request: Request) -> io::Result<String> {
    let mut stream = BufReader::new(stream);
    let word = serde_json::to_string(&request)?;
    stream.write_all(format!("{word}\n").as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}
