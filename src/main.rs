//! The composition root: which of this binary's processes this one is.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

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
        Some("__hello") => images::hello::serve(),
        Some("__netd") => net_state(arguments)
            .map_or(ExitCode::from(USAGE), |state| cli::service(net::netd::run(&state))),
        _ => cli::main(),
    }
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
