//! The command line: the only place that prints, reads the user's environment and decides the exit code.

pub mod commands;
pub mod exit;
pub(crate) mod stack;
pub mod stack_files;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

/// A container engine and a declarative supervisor in one binary
#[derive(Debug, Parser)]
#[command(name = "bargee", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Read the stack files, check them, and print the merged stack
    Config(commands::config::Args),
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.command {
        Command::Config(args) => commands::config::run(&args),
    }
}

/// Prints a usage error or the help. Clap's own code for the former is 2, which `plan` uses for "there
/// are changes".
fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe leaves nobody to tell.
    drop(error.print());
    if error.use_stderr() { ExitCode::from(exit::FAILURE) } else { ExitCode::from(exit::OK) }
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
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    // A closed standard error leaves nobody to tell; the exit code still says it.
    drop(writeln!(io::stderr(), "error: {}", crate::diagnostic::escape_controls(&text)));
    ExitCode::from(exit::FAILURE)
}
