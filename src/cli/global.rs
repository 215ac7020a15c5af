//! The options that stand before the verb, read by hand: the verb is found first, and only its arguments are
//! built by clap.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::client::{Client, ClientError};
use super::error::CliError;
use super::place::{Asked, Place};
use crate::protocol::LogLevel;

/// What was said before the verb.
#[derive(Debug)]
pub(crate) struct Global {
    pub(crate) place: Place,
    pub(crate) stack: StackChoice,
}

/// A stack that was chosen before the verb: `--stack NAME`, or by its files.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct StackChoice {
    pub(crate) name: Option<String>,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) project_name: Option<String>,
    pub(crate) project_directory: Option<PathBuf>,
    pub(crate) env_files: Vec<PathBuf>,
    pub(crate) profiles: Vec<String>,
}

impl StackChoice {
    /// Whether a verb that docker has too acts on a stack. `-p` alone does not name files, but names one.
    pub(crate) fn is_made(&self) -> bool {
        *self != Self::default()
    }
}

/// The command line up to the verb.
#[derive(Debug)]
pub(crate) enum Start {
    Verb { global: Box<Global>, verb: String, rest: Vec<OsString> },
    Help,
    Version,
}

/// An option with a value: its short letter, its name, its help.
pub(crate) const OPTIONS: &[(Option<char>, &str, &str, &str)] = &[
    (None, "root", "FOLDER", "Folder that holds images, volumes and state [env: BARGEE_ROOT]"),
    (None, "run", "FOLDER", "Folder that holds the socket [env: BARGEE_RUN]"),
    (None, "config", "FILE", "Settings of an engine that is started"),
    (Some('H'), "host", "ADDRESS", "Socket of a running engine, unix:///… [env: BARGEE_HOST]"),
    (
        Some('l'),
        "log-level",
        "LEVEL",
        "What an engine that is started logs: off, error, warn, info, debug or trace",
    ),
    (None, "stack", "NAME", "Act on this stack, in verbs that docker has too"),
    (Some('f'), "file", "FILE", "Act on the stack of this file; may be repeated"),
    (Some('p'), "project-name", "NAME", "Name of the stack, over its file's"),
    (None, "project-directory", "FOLDER", "Folder that the stack's relative paths start from"),
    (None, "env-file", "FILE", "File with variables instead of .env; may be repeated"),
    (None, "profile", "NAME", "Profile of the stack to enable; may be repeated"),
];

/// Reads the options before the verb.
///
/// # Errors
/// An unknown option, or one without its value.
pub(crate) fn read(arguments: impl Iterator<Item = OsString>) -> Result<Start, CliError> {
    let mut arguments = arguments;
    let mut asked = Asked::default();
    let mut stack = StackChoice::default();
    while let Some(word) = arguments.next() {
        let text = word.to_string_lossy().into_owned();
        if !text.starts_with('-') || text == "-" {
            let place = Place::new(asked)?;
            let global = Box::new(Global { place, stack });
            return Ok(Start::Verb { global, verb: text, rest: arguments.collect() });
        }
        match text.as_str() {
            "-h" | "--help" => return Ok(Start::Help),
            "-v" | "-V" | "--version" => return Ok(Start::Version),
            "-D" | "--debug" => {
                asked.log_level = Some(LogLevel::debug());
                continue;
            }
            _ => {}
        }
        let (name, value) = option(&text, &word, &mut arguments)?;
        let string = value.to_string_lossy().into_owned();
        match name {
            "root" => asked.root = Some(value.into()),
            "run" => asked.run = Some(value.into()),
            "config" => asked.config = Some(value.into()),
            "host" => asked.host = Some(string),
            "log-level" => {
                let level = LogLevel::try_from(string);
                let level = level.map_err(|error| CliError::Usage(format!("{text}: {error}")))?;
                asked.log_level = Some(level);
            }
            "stack" => stack.name = Some(string),
            "file" => stack.files.push(value.into()),
            "project-name" => stack.project_name = Some(string),
            "project-directory" => stack.project_directory = Some(value.into()),
            "env-file" => stack.env_files.push(value.into()),
            _ => stack.profiles.push(string),
        }
    }
    Ok(Start::Help)
}

/// Splits `--name=value`, `--name value`, `-nvalue` and `-n value`.
fn option(
    text: &str,
    word: &OsStr,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<(&'static str, OsString), CliError> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let unknown =
        || CliError::Usage(format!("unknown option {text} before the verb; see bargee --help"));
    let bytes = word.as_bytes();
    let (name, attached) = if let Some(long) = text.strip_prefix("--") {
        let name = long.split('=').next().unwrap_or(long);
        let found = OPTIONS.iter().find(|(_, known, ..)| *known == name).ok_or_else(unknown)?.1;
        let at = bytes.iter().position(|byte| *byte == b'=');
        (found, at.map(|at| bytes[at + 1..].to_vec()))
    } else {
        let letter = text.chars().nth(1).ok_or_else(unknown)?;
        let found =
            OPTIONS.iter().find(|(short, ..)| *short == Some(letter)).ok_or_else(unknown)?.1;
        let value = &bytes[2.min(bytes.len())..];
        let value = value.strip_prefix(b"=").unwrap_or(value);
        (found, (!value.is_empty()).then(|| value.to_vec()))
    };
    match attached {
        Some(value) => Ok((name, OsString::from_vec(value))),
        None => match rest.next() {
            Some(value) => Ok((name, value)),
            None => Err(CliError::Usage(format!("option {text} needs a value"))),
        },
    }
}

impl Global {
    /// Connects to the engine, and starts it when none runs.
    ///
    /// # Errors
    /// It can't be reached or started.
    pub(crate) async fn connect(&self) -> Result<Client, ClientError> {
        Client::connect(&self.place).await
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn start(words: &[&str]) -> Result<Start, CliError> {
        read(words.iter().map(OsString::from))
    }

    fn verb(words: &[&str]) -> (Box<Global>, String, Vec<OsString>) {
        match start(words).unwrap() {
            Start::Verb { global, verb, rest } => (global, verb, rest),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_stands_behind_the_verb_is_left_alone() {
        let (global, name, rest) =
            verb(&["--root=/r", "--run", "/x", "-fa.yaml", "-f", "b.yaml", "logs", "-f", "web"]);
        assert_eq!((name.as_str(), rest), ("logs", vec!["-f".into(), "web".into()]));
        assert_eq!(global.stack.files, [PathBuf::from("a.yaml"), PathBuf::from("b.yaml")]);
        assert_eq!(global.place.root, PathBuf::from("/r"));
        assert!(global.stack.is_made());
        assert!(!verb(&["--run", "/x", "ps"]).0.stack.is_made());
    }

    #[test]
    fn an_unknown_option_or_a_missing_value_is_an_error() {
        assert!(start(&["--nonsense", "ps"]).is_err());
        assert!(start(&["-x", "ps"]).is_err());
        assert!(start(&["--root"]).is_err());
        assert!(start(&["--log-level", "loud", "ps"]).is_err());
        assert!(start(&["--log-level=debug", "ps"]).is_ok());
        assert!(matches!(start(&["--help"]), Ok(Start::Help)));
        assert!(matches!(start(&[]), Ok(Start::Help)));
    }
}
