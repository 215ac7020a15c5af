//! What a verb fails with, and how that is told.

use std::io::{self, Write};

use super::client::ClientError;
use super::exit;
use super::output::template::TemplateError;
use crate::diagnostic::escape_controls;
use crate::spec::value::InvalidValue;

/// Why a verb failed. Messages may hold untrusted text; [`tell`] escapes it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Value(#[from] InvalidValue),
    /// The arguments contradict each other or make no sense.
    #[error("{0}")]
    Usage(String),
    /// `doing` is a phrase such as `write the file /x`.
    #[error("cannot {doing}")]
    Io { doing: String, source: io::Error },
    /// The engine told it within a stream whose status was good, or an object isn't as the verb needs it.
    #[error("{0}")]
    Failed(String),
    /// Each of these was told already, one per object of the command.
    #[error("some of it failed")]
    Told,
    /// Nobody reads our output any more, as in `bargee ps | head`: no failure.
    #[error("standard output is closed")]
    OutputClosed,
    /// A container's own exit code, or one that `run` has for a reason of its own.
    #[error("{message}")]
    Exit { code: u8, message: String },
}

impl CliError {
    /// Names what was attempted, for `map_err`.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// What may be done about it.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Client(error) => error.hint(),
            _ => None,
        }
    }
}

/// Prints `error` with its causes and a hint, and returns the exit code; `usage` is the verb's own code for
/// being called wrongly.
pub(crate) fn report(error: &CliError, usage: u8) -> u8 {
    match error {
        CliError::OutputClosed => return exit::OK,
        CliError::Told => return exit::FAILURE,
        _ => tell(error),
    }
    if let Some(hint) = error.hint() {
        // A closed standard error leaves nobody to tell; the exit code still says it.
        drop(writeln!(io::stderr(), "hint: {hint}"));
    }
    match error {
        CliError::Usage(_) | CliError::Value(_) | CliError::Template(TemplateError::Syntax(_)) => {
            usage
        }
        CliError::Exit { code, .. } => *code,
        _ => exit::FAILURE,
    }
}

/// Prints `error: …` with all causes on one line.
pub(crate) fn tell(error: &dyn std::error::Error) {
    drop(writeln!(io::stderr(), "error: {}", escape_controls(&chain(error))));
}

/// Prints `warning: …`.
pub(crate) fn warn(text: &str) {
    drop(writeln!(io::stderr(), "warning: {}", escape_controls(text)));
}

/// Returns the error's message with those of its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        // A transparent error repeats its source's text.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
