//! `bargee engine`: the process that puts engine and API together, and the keeper that restarts it.
//!
//! Whoever binds the socket holds `bargee.sock.lock` as long as it lives: the keeper, or an engine that was started
//! by itself. An engine whose keeper was killed makes itself another one. Under systemd the socket comes with the
//! process and nobody binds, and systemd restarts us.

mod arguments;
mod cgroup;
mod crashes;
mod engine;
mod keeper;
mod keeper_watch;
mod kept;
mod listen;
mod logging;
mod rebind;
mod sd_notify;
mod sys;

pub use arguments::{Options, Start, UsageError};

use crate::engine::config::{InvalidLogLevel, LogLevel};

/// What ends the process with an error.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("cannot {doing}")]
    Io { doing: String, source: std::io::Error },
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    #[error(transparent)]
    Config(#[from] crate::engine::config::ConfigError),
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    #[error("cannot read BARGEE_LOG")]
    LogVariable { source: InvalidLogLevel },
    #[error("cannot log at {level}")]
    Log { level: LogLevel, source: tracing_subscriber::filter::ParseError },
    /// Its log says why.
    #[error("the engine crashed {times} times within a minute; see {}", log.display())]
    Crashes { times: usize, log: std::path::PathBuf },
}

impl ProcessError {
    fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// Runs what `options` ask for, until it is told to end. Call it before any thread exists.
///
/// # Errors
/// The engine can't start, or its keeper gave it up.
pub fn run(options: &Options) -> Result<(), ProcessError> {
    match options.start {
        Start::Detached => keeper::start(options),
        Start::Foreground => engine::run(options),
        Start::Keeper(engine) => keeper::adopt(options, engine),
    }
}

/// Holds the unit that containers live in, until it is told to end. Call it before any thread exists.
///
/// # Errors
/// This process has no cgroup of its own, or can't make one below it.
pub fn park() -> Result<(), ProcessError> {
    cgroup::park()
}
