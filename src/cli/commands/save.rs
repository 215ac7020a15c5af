//! `bargee save`: images as an archive.

use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt;

use crate::cli::client::{Download, Method};
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::global::Global;
use crate::cli::output::printer;
use crate::cli::verb::Verb;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Platform of the image to save
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Verb for Args {
    async fn run(self, global: &Global) -> Result<u8, CliError> {
        check_output(self.output.as_deref())?;
        let mut query: Vec<(&str, &str)> =
            self.images.iter().map(|image| ("names", image.as_str())).collect();
        query.extend(self.platform.as_deref().map(|platform| ("platform", platform)));
        let client = global.connect().await?;
        let archive = client.download(Method::GET, "/images/get", &query, None).await?;
        write_out(self.output.as_deref(), archive).await?;
        Ok(exit::OK)
    }
}

/// Refuses to write an archive to a terminal.
pub(super) fn check_output(file: Option<&Path>) -> Result<(), CliError> {
    if file.is_none() && printer::is_terminal() {
        let text = "an archive is nothing for a terminal; give --output FILE, or redirect";
        return Err(CliError::Usage(text.to_owned()));
    }
    Ok(())
}

/// Writes an archive to a file, or to standard output.
pub(super) async fn write_out(file: Option<&Path>, mut archive: Download) -> Result<(), CliError> {
    match file {
        Some(path) => write_file(path, &mut archive).await,
        None => {
            while let Some(piece) = archive.next().await? {
                printer::print_bytes(&piece)?;
            }
            Ok(())
        }
    }
}

/// Writes beside the file and renames, so that a broken download leaves what was there.
async fn write_file(path: &Path, archive: &mut Download) -> Result<(), CliError> {
    let doing = || CliError::io(format!("write {}", path.display()));
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = async {
        let mut file = tokio::fs::File::create_new(&beside).await.map_err(doing())?;
        while let Some(piece) = archive.next().await? {
            file.write_all(&piece).await.map_err(doing())?;
        }
        file.flush().await.map_err(doing())?;
        tokio::fs::rename(&beside, path).await.map_err(doing())
    };
    let result = written.await;
    if result.is_err() {
        // What was written is of no use; the first error is the one to tell.
        drop(tokio::fs::remove_file(&beside).await);
    }
    result
}
