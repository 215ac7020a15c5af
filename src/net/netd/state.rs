//! What engine and netd say to each other.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::net::model::{Protocol, State};

/// The state file. Version 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetdState {
    pub version: u32,
    /// Grows with each write.
    pub generation: u64,
    /// By container.
    pub sandboxes: BTreeMap<String, Sandbox>,
    pub state: State,
    /// Resolvers for other names; empty means those of the host's resolv.conf.
    pub upstreams: Vec<SocketAddr>,
}

/// A container's network namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sandbox {
    /// Where it is pinned.
    pub path: PathBuf,
    /// Of the namespace, so that one made anew at the same path is told from it.
    pub inode: u64,
    /// The container's own resolvers for other names.
    pub upstreams: Vec<SocketAddr>,
    /// The outer devices of its links: when the last of them goes, so do the sockets that keep the namespace alive.
    #[serde(default)]
    pub links: Vec<String>,
}

impl Sandbox {
    /// Looks at what is pinned at `path`.
    pub fn at(path: &Path, upstreams: Vec<SocketAddr>) -> io::Result<Self> {
        let inode = fs::metadata(path)?.ino();
        Ok(Self { path: path.to_owned(), inode, upstreams, links: Vec::new() })
    }
}

/// What the engine asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Read the file and obey it.
    Obey,
    /// Tell what is held.
    Tell,
    /// Close everything and exit.
    End,
}

/// How it went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Of the state that is obeyed now.
    pub generation: u64,
    pub refused: Vec<Refused>,
    /// Of [`Request::Tell`]: ports that are held, by a reservation or a proxy.
    #[serde(default)]
    pub held: Vec<(SocketAddr, Protocol)>,
    /// Of [`Request::Tell`]: containers with a resolver, whose namespaces it pins.
    #[serde(default)]
    pub resolvers: Vec<String>,
}

/// A published port that could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub address: SocketAddr,
    pub protocol: Protocol,
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
pub enum NetdError {
    #[error("cannot start the runtime")]
    Runtime { source: io::Error },
    #[error("cannot listen on {}", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is no state of netd", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
}

/// Returns where the netd of this state file listens.
pub fn socket_path(state_file: &Path) -> PathBuf {
    state_file.with_extension("sock")
}

/// Replaces the state file in one rename.
pub fn write_state(path: &Path, state: &NetdState) -> Result<(), NetdError> {
    let fail = |source| NetdError::Write { path: path.to_owned(), source };
    let text = serde_json::to_vec(state)
        .map_err(|source| NetdError::Parse { path: path.to_owned(), source })?;
    let new = path.with_extension("new");
    fs::write(&new, text).map_err(fail)?;
    fs::rename(&new, path).map_err(fail)
}

pub(super) fn read_state(path: &Path) -> Result<NetdState, NetdError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(NetdState::default()),
        Err(source) => return Err(NetdError::Read { path: path.to_owned(), source }),
    };
    serde_json::from_slice(&text)
        .map_err(|source| NetdError::Parse { path: path.to_owned(), source })
}
