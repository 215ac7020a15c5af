//! Why a step is in the plan; printed beside it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::spec::name::ServiceName;

/// Why a step is in the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    Missing,
    ScaledUp,
    ScaledDown,
    Orphaned,
    /// A second container for one replica: what an interrupted replacement leaves.
    Duplicate,
    /// A removal that failed part-way goes on.
    HalfRemoved,
    SpecChanged {
        changes: Vec<Change>,
    },
    ImageChanged {
        from: String,
        to: String,
    },
    NetworkChanged {
        network: String,
        changes: Vec<Change>,
    },
    NameChanged,
    /// Kernel objects are gone.
    Broken {
        reason: String,
    },
    NotStarted,
    Exited {
        code: i32,
    },
    /// Stopped or failed before, and now asked for again.
    Resumed,
    Unhealthy,
    /// Differs from what we wrote.
    Drifted {
        changes: Vec<Change>,
    },
    /// Differs from the file in what can change while it runs.
    LiveChanged {
        changes: Vec<Change>,
    },
    DependencyChanged {
        service: ServiceName,
    },
    /// A wait or a pull that another service's step needs.
    NeededBy {
        service: ServiceName,
    },
    /// The user asked for exactly this.
    Requested,
}

/// One field that differs, by its path in the container's specification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub field: String,
    /// `None`: not there.
    pub from: Option<Value>,
    pub to: Option<Value>,
    /// `file:line` that says the new value.
    pub origin: Option<String>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::ScaledUp => f.write_str("scaled up"),
            Self::ScaledDown => f.write_str("scaled down"),
            Self::Orphaned => f.write_str("orphaned"),
            Self::Duplicate => f.write_str("left over by a replacement"),
            Self::HalfRemoved => f.write_str("removal was interrupted"),
            Self::SpecChanged { changes } => with_changes(f, "spec changed", changes),
            Self::ImageChanged { from, to } => {
                write!(f, "image changed: {} → {}", short(from), short(to))
            }
            Self::NetworkChanged { network, changes } => {
                with_changes(f, &format!("network {network} changed"), changes)
            }
            Self::NameChanged => f.write_str("name changed"),
            Self::Broken { reason } => write!(f, "broken: {reason}"),
            Self::NotStarted => f.write_str("never started"),
            Self::Exited { code } => write!(f, "exited with {code}"),
            Self::Resumed => f.write_str("asked for again"),
            Self::Unhealthy => f.write_str("unhealthy"),
            Self::Drifted { changes } => with_changes(f, "drifted", changes),
            Self::LiveChanged { changes } => with_changes(f, "changed", changes),
            Self::DependencyChanged { service } => write!(f, "dependency {service} changes"),
            Self::NeededBy { service } => write!(f, "needed by {service}"),
            Self::Requested => f.write_str("requested"),
        }
    }
}

fn with_changes(f: &mut fmt::Formatter<'_>, what: &str, changes: &[Change]) -> fmt::Result {
    f.write_str(what)?;
    for (index, change) in changes.iter().enumerate() {
        write!(f, "{} {change}", if index == 0 { ":" } else { ";" })?;
    }
    Ok(())
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {}", self.field, Shown(&self.from), Shown(&self.to))?;
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}

struct Shown<'a>(&'a Option<Value>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None | Some(Value::Null) => f.write_str("none"),
            Some(Value::String(text)) if !text.is_empty() && !text.contains([' ', '"', '\n']) => {
                f.write_str(text)
            }
            Some(value) => write!(f, "{value}"),
        }
    }
}

/// Returns a digest as people read it: its first twelve hex digits.
fn short(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..12).unwrap_or(hex)
}
