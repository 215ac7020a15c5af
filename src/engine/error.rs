//! What a verb of the engine fails with, and what kind of failure that is for a client.

use std::path::PathBuf;

use crate::archive::ApplyError;
use crate::engine::config::ConfigError;
use crate::engine::containers::ShimError;
use crate::engine::lock::LockError;
use crate::engine::logs::LogError;
use crate::engine::names::ResolveError;
use crate::engine::stacks::StackError;
use crate::engine::state::StateError;
use crate::engine::translate::TranslateError;
use crate::images::StoreError;
use crate::net::driver::NetError;

/// Which of docker's answers fits: 404, 409, 400, 304, 403, 501, 503, 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    NotFound,
    Conflict,
    Invalid,
    /// It is so already.
    NotModified,
    Forbidden,
    NotImplemented,
    Unavailable,
    Internal,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Translate(#[from] TranslateError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Stack(#[from] StackError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `doing` is a phrase such as `create the folder /x`.
    #[error("cannot {doing}")]
    Io { doing: String, source: std::io::Error },
    #[error("No such image: {reference}")]
    NoImage { reference: String },
    #[error("No such container: {word}")]
    NoContainer { word: String },
    #[error("No such exec instance: {id}")]
    NoExec { id: String },
    #[error("Could not find the file {} in container {container}", path.display())]
    NoPath { path: PathBuf, container: String },
    #[error(transparent)]
    Extract(#[from] ApplyError),
    #[error("network {word} not found")]
    NoNetwork { word: String },
    #[error("get {name}: no such volume")]
    NoVolume { name: String },
    /// What was asked for can't be in the object's present state; the text is docker's where scripts match it.
    #[error("{message}")]
    Conflict { message: String },
    #[error("{message}")]
    Invalid { message: String },
    #[error("{message}")]
    Forbidden { message: String },
    /// Known and not built; says what to do instead.
    #[error("{message}")]
    NotImplemented { message: String },
    /// It is running (or stopped, paused, …) already.
    #[error("container {id} is {state} already")]
    NotModified { id: String, state: &'static str },
    /// The shim or the container's init could not do it. `code` is what `docker run` exits with.
    #[error("{message}")]
    Start { message: String, code: i32 },
    #[error("cannot reach the processes of container {id}")]
    Shim { id: String, source: ShimError },
}

/// The kernel's words as docker writes them: in lower case, without the number that Rust adds.
fn plain(text: &str) -> String {
    let Some((words, number)) = text.rsplit_once(" (os error ") else { return text.to_owned() };
    let (before, last) =
        words.rsplit_once(": ").map_or(("", words), |(before, last)| (before, last));
    let mut letters = last.chars();
    let first = letters.next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
    let colon = if before.is_empty() { "" } else { ": " };
    let after = number.split_once(')').map_or("", |(_, after)| after);
    format!("{before}{colon}{first}{}{after}", letters.as_str())
}

impl EngineError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Stack(error) => error.kind(),
            Self::NoImage { .. }
            | Self::NoContainer { .. }
            | Self::NoExec { .. }
            | Self::NoPath { .. }
            | Self::NoNetwork { .. }
            | Self::NoVolume { .. }
            | Self::State(StateError::NotFound { .. })
            | Self::Resolve(ResolveError::NotFound { .. }) => Kind::NotFound,
            Self::Conflict { .. } | Self::State(StateError::NameTaken { .. }) => Kind::Conflict,
            Self::Invalid { .. }
            | Self::Translate(_)
            | Self::Store(StoreError::Change(_))
            | Self::Resolve(ResolveError::Ambiguous { .. }) => Kind::Invalid,
            Self::State(
                StateError::SubnetTaken { .. }
                | StateError::AddressTaken { .. }
                | StateError::AddressOutside { .. },
            ) => Kind::Forbidden,
            // The kernel refused what was asked of it; all else is the archive's own fault.
            Self::Extract(ApplyError::Entry { .. }) => Kind::Internal,
            Self::Extract(_) => Kind::Invalid,
            Self::Forbidden { .. } => Kind::Forbidden,
            Self::NotImplemented { .. } => Kind::NotImplemented,
            Self::NotModified { .. } => Kind::NotModified,
            // As dockerd answers a program that can't be executed.
            Self::Start { code: 126 | 127, .. } => Kind::Invalid,
            _ => Kind::Internal,
        }
    }

    /// Names what was attempted, for `map_err`.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// Returns what the user can do, where the message does not say it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Stack(error) => error.hint(),
            Self::NoImage { reference } => Some(format!(
                "load it from an archive: bargee load -i FILE, then tag it {reference}"
            )),
            Self::State(StateError::Full { .. }) => {
                Some("nothing was changed: try again once there is room".to_owned())
            }
            _ => None,
        }
    }

    /// Returns the message with all its causes, as clients get it.
    pub fn full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let more = error.to_string();
            // A transparent error repeats its source's text.
            if !text.ends_with(&more) {
                text = format!("{text}: {}", plain(&more));
            }
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_plain() {
        assert_eq!(plain("No such file or directory (os error 2)"), "no such file or directory");
        assert_eq!(plain("exec: Permission denied (os error 13)"), "exec: permission denied");
        assert_eq!(plain("No such image: x"), "No such image: x");
    }
}
