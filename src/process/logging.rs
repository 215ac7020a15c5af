//! The engine's own log: standard error, at the configured level or `BARGEE_LOG`'s.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::ProcessError;

/// Sets the process's subscriber.
pub(super) fn start(level: &str) -> Result<(), ProcessError> {
    let text = std::env::var("BARGEE_LOG").unwrap_or_else(|_| level.to_owned());
    let filter = EnvFilter::try_new(&text)
        .map_err(|source| ProcessError::LogLevel { text: text.clone(), source })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}
