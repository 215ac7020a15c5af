//! `-e` and `--env-file`: variables for a process, some of them taken from our own environment.

use std::fs;
use std::path::PathBuf;

use crate::cli::error::CliError;
use crate::spec::env_file;

/// Returns `NAME=VALUE` words: those of the files, then those of the flags, of which a later one replaces an
/// earlier one. A name alone is inherited, and left out when we don't have it.
///
/// # Errors
/// A file that can't be read, or a line without a name.
pub(crate) fn environment(files: &[PathBuf], flags: &[String]) -> Result<Vec<String>, CliError> {
    let mut pairs = Vec::new();
    for path in files {
        let doing = format!("read {}", path.display());
        let text = fs::read_to_string(path).map_err(CliError::io(doing))?;
        let read = env_file::parse_raw(&text)
            .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?;
        pairs.extend(read);
    }
    for flag in flags {
        let pair = match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (flag.clone(), None),
        };
        if pair.0.is_empty() {
            return Err(CliError::Usage(format!("invalid environment variable: {flag}")));
        }
        pairs.push(pair);
    }
    let mut words: Vec<(String, String)> = Vec::new();
    for (name, value) in pairs {
        let Some(value) = value.or_else(|| std::env::var(&name).ok()) else { continue };
        words.retain(|(earlier, _)| *earlier != name);
        words.push((name, value));
    }
    Ok(words.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}
