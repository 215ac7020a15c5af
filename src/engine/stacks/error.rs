//! What a request about a stack fails with, and what the user can do about it.

use crate::engine::error::Kind;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StackError {
    #[error("{name:?} is no name of a stack: {rule}")]
    BadName { name: String, rule: &'static str },
    #[error("no such stack: {name}")]
    NoStack { name: String },
    #[error("stack {stack} has no service {word}; it has {}", known.join(", "))]
    NoService { stack: String, word: String, known: Vec<String> },
    #[error("{word:?} is neither a service nor SERVICE.NUMBER")]
    BadSelection { word: String },
    #[error("stack {name} belongs to {owner}, not to {asker}")]
    OtherSource { name: String, owner: String, asker: String },
    #[error("the stored revision {number} of stack {name} can't be read: {reason}")]
    BadRevision { name: String, number: u32, reason: String },
    #[error("{word:?} is no signal")]
    BadSignal { word: String },
}

impl StackError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoStack { .. } => Kind::NotFound,
            Self::OtherSource { .. } => Kind::Conflict,
            Self::BadRevision { .. } => Kind::Internal,
            Self::BadName { .. }
            | Self::NoService { .. }
            | Self::BadSelection { .. }
            | Self::BadSignal { .. } => Kind::Invalid,
        }
    }

    /// Returns what the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoStack { .. } => Some("bargee stack ls lists the stacks of this machine".into()),
            Self::OtherSource { .. } => {
                Some("give the stack another name, or take it over with --take-over".into())
            }
            Self::BadRevision { .. } => Some("run up again with the stack's file".into()),
            _ => None,
        }
    }
}
