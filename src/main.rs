//! The composition root: which of this binary's processes this one is.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use bargee::process;
use bargee::runtime::shim::{self, protocol::ShimPaths};
use bargee::{cli, images, net};

/// A process of ours was started in a way that ours never is.
const USAGE: u8 = 125;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let verb = arguments.next().unwrap_or_default();
    // Before any thread exists: the shim clones its children without a re-exec, netd enters namespaces.
    match verb.to_str() {
        Some("__shim") => {
            shim_paths(arguments).map_or(ExitCode::from(USAGE), |paths| shim::run(&paths))
        }
        Some("engine") if is_engine_itself() => engine(arguments),
        Some("__parked") => cli::service(process::park()),
        Some("__hello") => images::hello::serve(),
        Some("__netd") => net_state(arguments)
            .map_or(ExitCode::from(USAGE), |state| cli::service(net::netd::run(&state))),
        _ => cli::main(),
    }
}

/// Tells `bargee engine [--flag …]`, the process, from `bargee engine start` and `--help`, which are commands.
fn is_engine_itself() -> bool {
    env::args_os().nth(2).is_none_or(|word| {
        word.to_str().is_some_and(|word| word.starts_with("--") && word != "--help")
    })
}

fn engine(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let ended = process::Options::parse(arguments, |name| env::var_os(name))
        .map_err(process::ProcessError::from)
        .and_then(|options| process::run(&options));
    cli::service(ended)
}

/// Reads the state file's path.
fn net_state(mut arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let state = arguments.next()?.into();
    arguments.next().is_none().then_some(state)
}

/// Reads `--bundle DIR --run DIR`.
fn shim_paths(mut arguments: impl Iterator<Item = OsString>) -> Option<ShimPaths> {
    let (mut bundle, mut run) = (None, None);
    while let Some(flag) = arguments.next() {
        let folder = Some(PathBuf::from(arguments.next()?));
        match flag.to_str()? {
            "--bundle" => bundle = folder,
            "--run" => run = folder,
            _ => return None,
        }
    }
    Some(ShimPaths { bundle: bundle?, run: run? })
}
