//! The composition root.

use std::process::ExitCode;

use bargee::cli;

fn main() -> ExitCode {
    cli::main()
}
