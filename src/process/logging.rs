//! The engine's own log: standard error, at the configured level or `BARGEE_LOG`'s.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::ProcessError;
use crate::engine::config::LogLevel;

/// Sets the process's subscriber.
pub(super) fn start(level: &LogLevel) -> Result<(), ProcessError> {
    let level = match std::env::var("BARGEE_LOG") {
        Ok(text) => {
            LogLevel::try_from(text).map_err(|source| ProcessError::LogVariable { source })?
        }
        Err(_) => level.clone(),
    };
    let filter = EnvFilter::try_new(level.as_str())
        .map_err(|source| ProcessError::Log { level: level.clone(), source })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}
