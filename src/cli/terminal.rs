//! The user's terminal: raw mode that is always undone, and its size.

use std::io::{self, IsTerminal};

use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::error::CliError;

/// Standard input in raw mode; dropping it restores what was.
#[derive(Debug)]
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Keys go to the container unseen: no echo, no line editing, no signals.
    ///
    /// # Errors
    /// Standard input is no terminal.
    pub(crate) fn enter() -> Result<Self, CliError> {
        let failed = |error: rustix::io::Errno| CliError::Io {
            doing: "set the terminal to raw mode".to_owned(),
            source: error.into(),
        };
        let before = tcgetattr(stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

pub(crate) fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Returns rows and columns of the terminal, if there is one.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdout()).or_else(|_| tcgetwinsize(stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
