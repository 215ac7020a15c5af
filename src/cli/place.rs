//! Which engine a command speaks to.

use std::env;
use std::path::{Path, PathBuf};

use super::error::CliError;
use crate::protocol::LogLevel;

/// The engine's defaults (`engine::paths`), which this side of the API can't import.
const DEFAULT_ROOT: &str = "/var/lib/bargee";
const DEFAULT_RUN: &str = "/run/bargee";

/// An engine's folders, or the socket of one that others start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    pub(crate) run: PathBuf,
    /// The engine's settings file, when it isn't the default one.
    pub(crate) config: Option<PathBuf>,
    /// What an engine that is started logs, when its settings don't say it.
    pub(crate) log_level: Option<LogLevel>,
    /// `-H unix:///…` or `BARGEE_HOST`: then nothing is started.
    host: Option<PathBuf>,
}

/// What the command line said, each before the environment.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) root: Option<PathBuf>,
    pub(crate) run: Option<PathBuf>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) host: Option<String>,
}

impl Place {
    /// Takes options, then `BARGEE_ROOT`, `BARGEE_RUN` and `BARGEE_HOST`, then the defaults.
    ///
    /// # Errors
    /// The host is no `unix://` address.
    pub(crate) fn new(asked: Asked) -> Result<Self, CliError> {
        // A folder named on the command line says which engine is meant, so the variable is for the rest.
        let named = asked.root.is_some() || asked.run.is_some();
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let host = match asked.host {
            Some(host) => Some(host),
            None if named => None,
            None => variable("BARGEE_HOST").map(|host| host.to_string_lossy().into_owned()),
        };
        let folder = |asked: Option<PathBuf>, name: &str, default: &str| {
            asked
                .or_else(|| variable(name).map(PathBuf::from))
                .unwrap_or_else(|| PathBuf::from(default))
        };
        Ok(Self {
            root: absolute(folder(asked.root, "BARGEE_ROOT", DEFAULT_ROOT))?,
            run: absolute(folder(asked.run, "BARGEE_RUN", DEFAULT_RUN))?,
            config: asked.config.map(absolute).transpose()?,
            log_level: asked.log_level,
            host: host.as_deref().map(socket_of).transpose()?,
        })
    }

    /// Returns the socket to connect to.
    pub(crate) fn socket(&self) -> PathBuf {
        self.host.clone().unwrap_or_else(|| self.run.join("bargee.sock"))
    }

    /// Tells whether containers of the place may run while no engine does: it keeps a folder for each shim.
    pub(crate) fn may_run_containers(&self) -> bool {
        let folder = self.run.join("containers");
        self.may_start() && folder.read_dir().is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Whether a missing engine may be started: not one that was named by its socket.
    pub(crate) fn may_start(&self) -> bool {
        self.host.is_none()
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf, CliError> {
    std::path::absolute(&path).map_err(CliError::io(format!("find {}", path.display())))
}

fn socket_of(host: &str) -> Result<PathBuf, CliError> {
    match host.strip_prefix("unix://").map(Path::new) {
        Some(path) if path.is_absolute() => Ok(path.to_owned()),
        _ => Err(CliError::Usage(format!(
            "invalid host {host}: expected a socket, as in unix:///run/bargee/bargee.sock"
        ))),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_unix_socket_and_is_never_started() {
        let asked = Asked { host: Some("unix:///x/y.sock".into()), ..Asked::default() };
        let place = Place::new(asked).unwrap();
        assert_eq!(place.socket(), Path::new("/x/y.sock"));
        assert!(!place.may_start());
        for host in ["tcp://127.0.0.1:2375", "/x", "unix://x"] {
            assert!(Place::new(Asked { host: Some(host.into()), ..Asked::default() }).is_err());
        }
    }

    #[test]
    fn the_socket_lies_in_the_run_folder() {
        let asked = Asked { run: Some("/r".into()), ..Asked::default() };
        let place = Place::new(asked).unwrap();
        assert_eq!(place.socket(), Path::new("/r/bargee.sock"));
        assert!(place.may_start());
    }
}
