//! The composition root.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use bargee::runtime::shim::{self, protocol::ShimPaths};

/// A usage error of a docker verb.
const USAGE: u8 = 125;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    match arguments.next() {
        // Before any thread exists: the shim clones its children without a re-exec.
        Some(verb) if verb == "__shim" => match shim_paths(arguments) {
            Some(paths) => shim::run(&paths),
            None => ExitCode::from(USAGE),
        },
        _ => ExitCode::SUCCESS,
    }
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
