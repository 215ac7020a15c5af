//! What the engine makes outside its own memory, one variant a kind.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::net::model::Protocol;
use crate::protocol::{Fault, Finding};

/// One thing of this root, by what tells it from others of its kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    /// A mount below the root or the run folder.
    Mount(PathBuf),
    /// A bridge, or the host's side of a veth pair.
    Link(String),
    /// A pinned network namespace, by its container.
    Sandbox(String),
    /// A path that is the same below each hierarchy.
    Cgroup(String),
    /// An element of a set or map of our nf_tables table, in nft's words.
    Rule(String),
    /// A process that runs a container, or one of its children that is not a program yet.
    Shim { container: String, pid: i32 },
    /// A process that answers names and holds ports.
    Netd { pid: i32 },
    /// A child of the engine that ended and that nobody waited for.
    Zombie { pid: i32, program: String },
    /// A folder or file below the root or the run folder.
    File(PathBuf),
    /// An image that a name leads to.
    Image(String),
    /// A blob, a layer, or a half-written one, that no image needs.
    Content(PathBuf),
    /// A host port that netd holds.
    Port { address: SocketAddr, protocol: Protocol },
    /// A resolver of netd, which pins the container's namespace.
    Resolver(String),
    /// A row that promises a host port.
    PromisedPort { owner: String, port: u16 },
    /// A row that promises an address.
    PromisedAddress { container: String, address: IpAddr },
}

impl Thing {
    fn kind(&self) -> &'static str {
        match self {
            Self::Mount(_) => "mount",
            Self::Link(_) => "link",
            Self::Sandbox(_) => "namespace",
            Self::Cgroup(_) => "cgroup",
            Self::Rule(_) => "rule",
            Self::Shim { .. } | Self::Netd { .. } | Self::Zombie { .. } => "process",
            Self::File(_) => "file",
            Self::Image(_) | Self::Content(_) => "image",
            Self::Port { .. } => "port",
            Self::Resolver(_) => "resolver",
            Self::PromisedPort { .. } | Self::PromisedAddress { .. } => "row",
        }
    }

    /// Says what may be done about it.
    fn advice(&self, fault: Fault) -> &'static str {
        match (self, fault) {
            (Self::Content(_), Fault::Leak) => "`bargee image prune` removes it",
            (_, Fault::Leak) => "`bargee engine restart` removes it; containers run on",
            (Self::Image(_), Fault::Missing) => "load or pull the image again",
            (Self::File(_), Fault::Missing) => {
                "its content is lost: remove what it belongs to, and make it anew"
            }
            (Self::Cgroup(_) | Self::Sandbox(_) | Self::Shim { .. }, Fault::Missing) => {
                "restart the container"
            }
            (_, Fault::Missing) => "`bargee engine restart` makes it again; containers run on",
        }
    }

    pub(super) fn finding(&self, fault: Fault) -> Finding {
        Finding {
            fault,
            kind: self.kind().to_owned(),
            what: self.to_string(),
            advice: self.advice(fault).to_owned(),
        }
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount(path) | Self::File(path) | Self::Content(path) => {
                write!(f, "{}", path.display())
            }
            Self::Link(name) => f.write_str(name),
            Self::Sandbox(container) => write!(f, "netns of container {container}"),
            Self::Cgroup(path) => f.write_str(path),
            Self::Rule(element) => f.write_str(element),
            Self::Shim { container, pid } => write!(f, "pid {pid}, shim of container {container}"),
            Self::Netd { pid } => write!(f, "pid {pid}, netd"),
            Self::Zombie { pid, program } => {
                write!(f, "pid {pid}, {program}, which ended and was not waited for")
            }
            Self::Image(id) => f.write_str(id),
            Self::Port { address, protocol } => write!(f, "{address}/{}", protocol.word()),
            Self::Resolver(container) => write!(f, "netd's resolver in container {container}"),
            Self::PromisedPort { owner, port } => write!(f, "port {port} of {owner}"),
            Self::PromisedAddress { container, address } => {
                write!(f, "address {address} of container {container}")
            }
        }
    }
}
