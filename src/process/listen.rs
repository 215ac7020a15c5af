//! The sockets that are listened on: our own in the run folder, those of the configuration, or systemd's.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::AddressFamily;

use crate::engine::lock::{self, LockError, RootLock};
use crate::engine::paths::{DEFAULT_RUN, Paths};

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("cannot make the run folder {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot listen on {address}")]
    Bind { address: String, source: io::Error },
    #[error("the group {0} of socket_group is not in /etc/group")]
    NoGroup(String),
    #[error("listen: {0:?} is neither unix:///PATH nor tcp://ADDRESS:PORT")]
    Address(String),
    #[error(
        "listen: {0} would give the machine to everybody who reaches it; use a loopback address, or \
         `docker -H ssh://` from elsewhere"
    )]
    Public(SocketAddr),
    #[error("the service manager passed {0}, which is neither a unix nor a tcp socket")]
    Passed(String),
}

/// A bound socket of this machine.
#[derive(Debug)]
pub(super) enum Bound {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// The socket in the run folder, ours as long as this lives.
#[derive(Debug)]
pub(super) struct OwnSocket {
    // Goes first: whoever sees that the listener is closed may take the lock.
    lock: RootLock,
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl OwnSocket {
    /// Binds it; a socket that a dead process left is replaced.
    pub(super) fn bind(paths: &Paths, group: Option<&str>) -> Result<Self, ListenError> {
        make_folder(paths.run())?;
        let path = paths.socket();
        let lock = take_lock(&path)?;
        let listener = bind_unix(&path, group)?;
        Ok(Self { lock, listener, path })
    }

    /// Takes over the socket of one who was killed; `listener` is a copy of it.
    pub(super) fn adopt(paths: &Paths, listener: UnixListener) -> Result<Self, ListenError> {
        let path = paths.socket();
        Ok(Self { lock: take_lock(&path)?, listener, path })
    }

    /// Says that it is the calling process's: after a fork.
    pub(super) fn is_mine(&mut self) -> io::Result<()> {
        self.lock.name_holder(&holder())
    }
}

fn take_lock(socket: &Path) -> Result<RootLock, LockError> {
    let mut path = socket.to_owned().into_os_string();
    path.push(".lock");
    lock::take(Path::new(&path), &holder())
}

fn holder() -> String {
    format!("pid {}", std::process::id())
}

impl Drop for OwnSocket {
    /// Removes the socket while the lock is still held.
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the socket is not removed");
        }
    }
}

/// Everybody may pass through the run folder, as the socket's own mode says who may connect.
fn make_folder(path: &Path) -> Result<(), ListenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .map_err(|source| ListenError::Folder { path: path.to_owned(), source })
}

/// Binds a socket for root and `group`. The caller's umask keeps others out until the mode is set.
pub(super) fn bind_unix(path: &Path, group: Option<&str>) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Bind { address: path.display().to_string(), source };
    let group =
        group.map(|name| group_id(name).map(|id| (name, id))).transpose().map_err(failed)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    if let Some((name, id)) = group {
        let id = id.ok_or_else(|| ListenError::NoGroup(name.to_owned()))?;
        chown(path, None, Some(id)).map_err(failed)?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// Reads group(5) ourselves: a static binary can't load the host's name service.
fn group_id(name: &str) -> io::Result<Option<u32>> {
    let text = std::fs::read_to_string("/etc/group")?;
    Ok(text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(name);
        let id = fields.nth(1)?.parse().ok()?;
        found.then_some(id)
    }))
}

/// Binds the further addresses of the configuration.
pub(super) fn bind_configured(
    addresses: &[String],
    group: Option<&str>,
) -> Result<Vec<Bound>, ListenError> {
    addresses
        .iter()
        .map(|address| match address.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => {
                bind_unix(Path::new(path), group).map(Bound::Unix)
            }
            Some(("tcp", host)) => bind_tcp(address, host),
            _ => Err(ListenError::Address(address.clone())),
        })
        .collect()
}

fn bind_tcp(address: &str, host: &str) -> Result<Bound, ListenError> {
    let socket: SocketAddr = host.parse().map_err(|_| ListenError::Address(address.to_owned()))?;
    if !socket.ip().is_loopback() {
        return Err(ListenError::Public(socket));
    }
    TcpListener::bind(socket)
        .map(Bound::Tcp)
        .map_err(|source| ListenError::Bind { address: address.to_owned(), source })
}

/// A socket that somebody else bound.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) socket: OwnedFd,
    /// For messages.
    pub(super) name: String,
}

/// Tells unix from tcp among the passed sockets.
pub(super) fn passed(sockets: Vec<Passed>) -> Result<Vec<Bound>, ListenError> {
    sockets
        .into_iter()
        .map(|Passed { socket, name }| {
            let family = rustix::net::getsockname(&socket).map(|address| address.address_family());
            match family {
                Ok(AddressFamily::UNIX) => Ok(Bound::Unix(socket.into())),
                Ok(AddressFamily::INET | AddressFamily::INET6) => Ok(Bound::Tcp(socket.into())),
                _ => Err(ListenError::Passed(name)),
            }
        })
        .collect()
}

/// The link that lets docker's clients find us; removed with this.
#[derive(Debug)]
pub(super) struct DockerLink(PathBuf);

impl DockerLink {
    /// Links docker's socket to ours when nothing is there, for the machine's default engine only.
    pub(super) fn offer(paths: &Paths) -> Option<Self> {
        let link = Path::new("/var/run/docker.sock");
        if paths.run() != Path::new(DEFAULT_RUN) {
            return None;
        }
        if std::fs::read_link(link).is_ok_and(|target| target == paths.socket()) {
            return Some(Self(link.to_owned()));
        }
        match symlink(paths.socket(), link) {
            Ok(()) => Some(Self(link.to_owned())),
            Err(error) => {
                tracing::debug!(%error, "docker's socket is not offered");
                None
            }
        }
    }
}

impl Drop for DockerLink {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, link = %self.0.display(), "the link is not removed");
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    fn paths(folder: &Path) -> Paths {
        Paths::new(folder.join("root"), folder.join("run"))
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        std::fs::create_dir(paths.run()).unwrap();
        drop(UnixListener::bind(paths.socket()).unwrap());
        let socket = OwnSocket::bind(&paths, None).unwrap();
        let mode = std::fs::metadata(paths.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let refused = OwnSocket::bind(&paths, None).unwrap_err();
        assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
        drop(socket);
        assert!(!paths.socket().exists());
    }

    #[test]
    fn addresses_are_checked() {
        let refusal = |address: &str| bind_configured(&[address.to_owned()], None).unwrap_err();
        assert!(matches!(refusal("tcp://0.0.0.0:2375"), ListenError::Public(_)));
        assert!(matches!(refusal("http://127.0.0.1"), ListenError::Address(_)));
        assert!(matches!(refusal("unix://relative"), ListenError::Address(_)));
        let bound = bind_configured(&["tcp://127.0.0.1:0".to_owned()], None).unwrap();
        assert!(matches!(bound[..], [Bound::Tcp(_)]));
    }

    #[test]
    fn a_group_is_looked_up_by_name() {
        assert_eq!(group_id("root").unwrap(), Some(0));
        assert_eq!(group_id("no such group").unwrap(), None);
    }
}
