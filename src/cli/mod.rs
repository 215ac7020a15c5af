//! The command line: the only place that prints, reads the user's environment and decides the exit code.
//!
//! The verb is found in the arguments first, and only its clap arguments are built (80 verbs cost 2.4 ms).

mod client;
pub mod commands;
mod container;
mod error;
pub mod exit;
mod filters;
mod global;
mod output;
mod place;
mod session;
mod stack;
pub mod stack_files;
mod sys;
mod terminal;
mod verb;
mod verbs;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use global::Start;

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    ExitCode::from(call())
}

fn call() -> u8 {
    match global::read(std::env::args_os().skip(1)) {
        Err(error) => error::report(&error, exit::USAGE),
        Ok(Start::Help) => {
            // A closed pipe leaves nobody to tell.
            drop(verbs::help().print_help());
            exit::OK
        }
        Ok(Start::Version) => {
            drop(writeln!(io::stdout(), "Bargee version {}", env!("CARGO_PKG_VERSION")));
            exit::OK
        }
        Ok(Start::Verb { global, verb, rest }) => verbs::call(&global, &verb, rest),
    }
}

/// Reports how one of our long-running processes ended.
pub fn service<E: Error>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => failed(&error),
    }
}

/// Prints `error` and its causes on one line; exit code 1.
fn failed(error: &dyn Error) -> ExitCode {
    error::tell(error);
    ExitCode::from(exit::FAILURE)
}
