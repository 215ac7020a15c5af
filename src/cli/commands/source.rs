//! A file or standard input that is sent to the engine.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use tokio::fs::File;

use crate::cli::error::CliError;

#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    File(&'a Path),
    Input,
}

/// Opens it for reading.
///
/// # Errors
/// The file can't be opened.
pub(super) async fn open(source: Source<'_>) -> Result<File, CliError> {
    match source {
        Source::File(path) => {
            let doing = format!("open {}", path.display());
            File::open(path).await.map_err(CliError::io(doing))
        }
        Source::Input => {
            let input = io::stdin().as_fd().try_clone_to_owned();
            let input = input.map_err(CliError::io("open standard input"))?;
            Ok(File::from_std(input.into()))
        }
    }
}
