//! Standard output. A reader that went away ends the command quietly.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::cli::error::CliError;

/// Writes text as it is.
///
/// # Errors
/// [`CliError::OutputClosed`] when nobody reads any more.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    print_bytes(text.as_bytes())
}

/// As [`print`], with a newline behind it.
///
/// # Errors
/// As [`print`].
pub(crate) fn line(text: &str) -> Result<(), CliError> {
    print(&format!("{text}\n"))
}

/// As [`print`], for data as JSON over several lines.
///
/// # Errors
/// As [`print`].
pub(crate) fn json(data: &impl Serialize) -> Result<(), CliError> {
    line(&serde_json::to_string_pretty(data).map_err(no_json)?)
}

/// As [`json`], on one line.
///
/// # Errors
/// As [`print`].
pub(crate) fn json_line(data: &impl Serialize) -> Result<(), CliError> {
    line(&serde_json::to_string(data).map_err(no_json)?)
}

fn no_json(error: serde_json::Error) -> CliError {
    CliError::Failed(format!("cannot write JSON: {error}"))
}

/// As [`print`], for what a program wrote.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(closed)
}

/// Tells a reader that went away from a disk that is full.
pub(crate) fn closed(error: io::Error) -> CliError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return CliError::OutputClosed;
    }
    CliError::Io { doing: "write to standard output".to_owned(), source: error }
}

/// Whether standard output is a person's terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}
