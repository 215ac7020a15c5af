//! `bargee cp`: files between a container and here, by docker's rules of what a copy is called.

mod from_container;
mod local;
mod to_container;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use base64::Engine as _;
use serde::Deserialize;

use crate::cli::client::ClientError;
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::size;
use crate::cli::verb::Verb;
use crate::diagnostic::escape_controls;

const PATH_STAT: &str = "X-Docker-Container-Path-Stat";
/// Go's bits of a file's mode: a folder, a symbolic link.
const FOLDER: u32 = 1 << 31;
const LINK: u32 = 1 << 27;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep owners: those of the archive here, the container's user there
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link at the source leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, a path here, or - for an archive on standard input
    #[arg(value_name = "SOURCE")]
    source: String,
    /// A path here, CONTAINER:PATH, or - for an archive on standard output
    #[arg(value_name = "DESTINATION")]
    destination: String,
}

/// What the engine says of a path in a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PathStat {
    name: String,
    mode: u32,
    link_target: String,
}

/// A path, here or in a container.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Here(&'a str),
    In { container: &'a str, path: &'a str },
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        let places = (Place::parse(&self.source), Place::parse(&self.destination));
        let copied = match places {
            (Place::In { container, path }, Place::Here(to)) => {
                from_container::copy(global, &self, container, path, to).await?
            }
            (Place::Here(from), Place::In { container, path }) => {
                to_container::copy(global, &self, from, container, path).await?
            }
            (Place::In { .. }, Place::In { .. }) => {
                return Err(CliError::Failed(
                    "copying between containers is not supported".to_owned(),
                ));
            }
            (Place::Here(_), Place::Here(_)) => {
                return Err(CliError::Failed(
                    "must specify at least one container source".to_owned(),
                ));
            }
        };
        // As docker: for people only.
        if let Some(bytes) = copied.filter(|_| !self.quiet && io::stderr().is_terminal()) {
            let (bytes, to) = (size::decimal(bytes), escape_controls(&self.destination));
            // A closed standard error leaves nobody to tell.
            drop(writeln!(io::stderr(), "Successfully copied {bytes} to {to}"));
        }
        Ok(exit::OK)
    }
}

impl<'a> Place<'a> {
    /// A colon parts a container and a path, unless the text is plainly a path: `./a:b`, `/a:b`.
    fn parse(text: &'a str) -> Self {
        if text.starts_with(['/', '.']) || text == "-" {
            return Self::Here(text);
        }
        match text.split_once(':') {
            Some((container, path)) => Self::In { container, path },
            None => Self::Here(text),
        }
    }
}

impl PathStat {
    /// Reads the header of an answer.
    fn parse(header: Option<&str>) -> Result<Self, CliError> {
        let wrong = || CliError::Failed(format!("the engine's answer has no {PATH_STAT}"));
        let text = base64::engine::general_purpose::STANDARD.decode(header.ok_or_else(wrong)?);
        serde_json::from_slice(&text.map_err(|_| wrong())?).map_err(|_| wrong())
    }

    fn is_folder(&self) -> bool {
        self.mode & FOLDER != 0
    }

    fn is_link(&self) -> bool {
        self.mode & LINK != 0
    }
}

/// Returns what a path in a container is; `None` when it is not there.
async fn stat(
    client: &crate::cli::client::Client,
    container: &str,
    path: &str,
) -> Result<Option<PathStat>, CliError> {
    let at = super::path(container, "archive");
    match client.header(&at, &[("path", path)], PATH_STAT).await {
        Ok(header) => PathStat::parse(header.as_deref()).map(Some),
        Err(ClientError::Server { status: 404, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a path's text says that it is a folder.
fn says_folder(path: &str) -> bool {
    path.ends_with('/') || path == "." || path.ends_with("/.")
}

/// Splits a path into folder and last name, as docker does: the last name of `a/.` is `.`.
fn split(path: &str) -> (PathBuf, String) {
    let is_dot = path == "." || path.ends_with("/.");
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        Some((folder, name)) if !name.is_empty() => {
            (PathBuf::from(if folder.is_empty() { "/" } else { folder }), name.to_owned())
        }
        _ if is_dot => (PathBuf::from("."), ".".to_owned()),
        _ if trimmed.is_empty() => (PathBuf::from("/"), "/".to_owned()),
        _ => (PathBuf::from("."), trimmed.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_names_a_container_unless_the_text_is_a_path() {
        assert_eq!(Place::parse("box:/tmp/a:b"), Place::In { container: "box", path: "/tmp/a:b" });
        for here in ["./box:/tmp", "/a:b", "-", "plain", "../x:y"] {
            assert_eq!(Place::parse(here), Place::Here(here));
        }
    }

    #[test]
    fn a_path_is_a_folder_and_a_name() {
        let parts = |path: &str| {
            let (folder, name) = split(path);
            (folder.display().to_string(), name)
        };
        assert_eq!(parts("/a/b"), ("/a".into(), "b".into()));
        assert_eq!(parts("/a/b/"), ("/a".into(), "b".into()));
        assert_eq!(parts("/a/."), ("/a".into(), ".".into()));
        assert_eq!(parts("a"), (".".into(), "a".into()));
        assert_eq!(parts("/a"), ("/".into(), "a".into()));
        assert_eq!(parts("/"), ("/".into(), "/".into()));
        assert_eq!(parts("."), (".".into(), ".".into()));
    }
}
