//! What an engine logs, as command line, environment and settings file spell it.

use std::fmt;

use serde::{Deserialize, Serialize};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A level, or a list such as `info,bargee::net=debug`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogLevel(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no log level: expected off, error, warn, info, debug or trace, or a list such as \
     info,bargee::net=debug"
)]
pub struct InvalidLogLevel(pub String);

impl LogLevel {
    /// What is logged when nobody says anything.
    pub fn info() -> Self {
        Self("info".to_owned())
    }

    pub fn debug() -> Self {
        Self("debug".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<LogLevel> for String {
    fn from(level: LogLevel) -> Self {
        level.0
    }
}

impl TryFrom<String> for LogLevel {
    type Error = InvalidLogLevel;

    fn try_from(text: String) -> Result<Self, InvalidLogLevel> {
        // The filter that reads it takes any other word for a module's name, and then logs nothing at all.
        match text.split(',').all(is_directive) {
            true => Ok(Self(text)),
            false => Err(InvalidLogLevel(text)),
        }
    }
}

/// `debug` or `bargee::net=debug`.
fn is_directive(text: &str) -> bool {
    let level = match text.split_once('=') {
        Some((target, level)) if is_target(target) => level,
        Some(_) => return false,
        None => text,
    };
    LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level))
}

fn is_target(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_levels_and_lists_of_them_are_taken() {
        for good in ["info", "DEBUG", "off", "bargee=debug,info", "warn,bargee::net=trace"] {
            assert!(LogLevel::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "verbose", "info,", "bargee", "bargee=loud", "=info", "a b=info"] {
            let error = LogLevel::try_from(bad.to_owned());
            assert_eq!(error, Err(InvalidLogLevel(bad.to_owned())));
        }
    }
}
