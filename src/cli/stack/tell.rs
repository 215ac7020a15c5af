//! Refusals with a hint, in the words that every verb uses.

use std::io::{self, Write};

use crate::cli::error::CliError;
use crate::diagnostic::escape_controls;

/// Prints `error: …` and its hint; returns the error that says it was told.
pub(crate) fn refuse(message: &str, hint: Option<&str>) -> CliError {
    // A closed standard error leaves nobody to tell; the exit code still says it.
    let mut stderr = io::stderr().lock();
    drop(writeln!(stderr, "error: {}", escape_controls(message)));
    if let Some(hint) = hint {
        drop(writeln!(stderr, "hint: {}", escape_controls(hint)));
    }
    CliError::Told
}

/// Prints a remark to standard error.
pub(crate) fn note(text: &str) {
    drop(writeln!(io::stderr(), "{}", escape_controls(text)));
}
