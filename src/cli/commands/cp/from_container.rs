//! From a container to here.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt as _;

use super::{Args, PATH_STAT, PathStat, local, says_folder, split, stat};
use crate::cli::client::{Download, Method};
use crate::cli::commands::{path, save};
use crate::cli::error::CliError;
use crate::cli::global::Global;

/// Where an archive is unpacked, and what its first component becomes.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    folder: PathBuf,
    rename: Option<String>,
    /// The folder is made first: the archive's names begin with `.`.
    is_new: bool,
}

/// Returns the bytes of the archive, unless it was for standard output.
pub(super) async fn copy(
    global: &Global,
    args: &Args,
    container: &str,
    from: &str,
    to: &str,
) -> Result<Option<u64>, CliError> {
    if to == "-" {
        save::check_output(None)?;
    }
    let client = global.connect().await?;
    let mut from = from.to_owned();
    let mut name = split(&from).1;
    if args.follow_link
        && let Some(link) = stat(&client, container, &from).await?.filter(PathStat::is_link)
    {
        from = link.link_target;
    } else if name == "/" {
        name = ".".to_owned();
    }
    let at = path(container, "archive");
    let archive = client.download(Method::GET, &at, &[("path", &from)], None).await?;
    if to == "-" {
        save::write_out(None, archive).await?;
        return Ok(None);
    }
    let found = PathStat::parse(archive.header(PATH_STAT))?;
    let target = target(&name, found.is_folder(), split(&from).1 != name, Path::new(to), to)?;
    let doing = || CliError::io(format!("open {}", target.folder.display()));
    if target.is_new {
        fs::create_dir(&target.folder)
            .map_err(CliError::io(format!("create {}", target.folder.display())))?;
    }
    let folder = File::open(&target.folder).map_err(doing())?;
    unpack(archive, folder, target.rename, args.archive).await.map(Some)
}

/// Decides what the copy is called (docker's `archive.PrepareArchiveCopy`).
fn target(
    name: &str,
    is_folder: bool,
    renamed: bool,
    to: &Path,
    text: &str,
) -> Result<Target, CliError> {
    let failed = |message: &str| Err(CliError::Failed(message.to_owned()));
    let (parent, last) = split(text);
    let is_dot = name == ".";
    match fs::metadata(to) {
        Ok(there) if there.is_dir() => {
            let rename = (renamed && !is_dot).then(|| name.to_owned());
            Ok(Target { folder: to.to_owned(), rename, is_new: false })
        }
        Ok(_) if is_folder => failed("cannot copy directory"),
        Ok(_) if says_folder(text) => failed("not a directory"),
        Ok(_) => {
            // Docker writes where a link leads.
            let real = fs::canonicalize(to).map_err(CliError::io(format!("follow {text}")))?;
            let (parent, last) = split(&real.to_string_lossy());
            Ok(Target { folder: parent, rename: Some(last), is_new: false })
        }
        Err(_) if is_folder && is_dot => {
            Ok(Target { folder: parent.join(last), rename: None, is_new: true })
        }
        Err(_) if !is_folder && says_folder(text) => failed("no such directory"),
        Err(_) => Ok(Target { folder: parent, rename: Some(last), is_new: false }),
    }
}

async fn unpack(
    mut archive: Download,
    folder: File,
    rename: Option<String>,
    keep_owners: bool,
) -> Result<u64, CliError> {
    let pipe = || CliError::io("make a pipe between two threads of ours");
    let (sender, receiver) = UnixStream::pair().map_err(pipe())?;
    sender.set_nonblocking(true).map_err(pipe())?;
    let mut sender = tokio::net::UnixStream::from_std(sender).map_err(pipe())?;
    let unpacking = tokio::task::spawn_blocking(move || {
        local::unpack(receiver, &folder, rename.as_deref(), keep_owners)
    });
    let (mut sent, mut bytes) = (Ok(()), 0);
    while let Some(piece) = archive.next().await? {
        sent = sender.write_all(&piece).await;
        if sent.is_err() {
            break;
        }
        bytes += piece.len() as u64;
    }
    drop(sender);
    let unpacked =
        unpacking.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    unpacked.map_err(|error| CliError::Failed(crate::cli::error::chain(&error)))?;
    // An unpacking that ended early told why.
    sent.map_err(pipe())?;
    Ok(bytes)
}
