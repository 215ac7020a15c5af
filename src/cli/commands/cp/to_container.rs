//! From here to a container.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{Args, PathStat, local, says_folder, split, stat};
use crate::cli::client::{Client, Method};
use crate::cli::commands::path;
use crate::cli::commands::source::{Source, open};
use crate::cli::error::CliError;
use crate::cli::global::Global;

/// Returns the bytes of the archive, unless it came from standard input.
pub(super) async fn copy(
    global: &Global,
    args: &Args,
    from: &str,
    container: &str,
    to: &str,
) -> Result<Option<u64>, CliError> {
    let client = global.connect().await?;
    let (to, there) = destination(&client, container, to).await?;
    let query = |folder: &str| {
        let owners = if args.archive { "true" } else { "false" };
        let pairs = [("path", folder), ("noOverwriteDirNonDir", "true"), ("copyUIDGID", owners)];
        pairs.map(|(key, value)| (key, value.to_owned()))
    };
    let at = path(container, "archive");
    if from == "-" {
        if there.is_some_and(|there| !there.is_folder()) {
            let message = format!("destination \"{container}:{to}\" must be a directory");
            return Err(CliError::Failed(message));
        }
        let archive = open(Source::Input).await?;
        send(&client, &at, &query(&to), archive).await?;
        return Ok(None);
    }
    let doing = || CliError::io(format!("look at {from}"));
    let (path, facts) = if args.follow_link {
        let real = fs::canonicalize(from).map_err(doing())?;
        let facts = fs::metadata(&real).map_err(doing())?;
        (real, facts)
    } else {
        let facts = if says_folder(from) { fs::metadata(from) } else { fs::symlink_metadata(from) };
        (PathBuf::from(from), facts.map_err(doing())?)
    };
    if says_folder(from) && !facts.is_dir() {
        return Err(CliError::Failed(format!("{from}: not a directory")));
    }
    let (folder, name) = target(from, facts.is_dir(), &to, there.as_ref())?;
    let pipe = || CliError::io("make a pipe between two threads of ours");
    let (sender, receiver) = UnixStream::pair().map_err(pipe())?;
    receiver.set_nonblocking(true).map_err(pipe())?;
    let receiver = tokio::net::UnixStream::from_std(receiver).map_err(pipe())?;
    let packing = tokio::task::spawn_blocking(move || {
        local::pack(&path, &name, io::BufWriter::with_capacity(128 << 10, sender))
    });
    let sent = send(&client, &at, &query(&folder), receiver).await;
    let packed =
        packing.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    // When the engine refuses, packing has nobody to write to.
    sent?;
    packed.map(Some).map_err(CliError::io(format!("read {from}")))
}

/// Returns the destination with a link at it followed, and what it is.
async fn destination(
    client: &Client,
    container: &str,
    to: &str,
) -> Result<(String, Option<PathStat>), CliError> {
    let there = stat(client, container, to).await?;
    match there {
        Some(link) if link.is_link() => {
            let target = link.link_target;
            let there = stat(client, container, &target).await?;
            Ok((target, there))
        }
        there => Ok((to.to_owned(), there)),
    }
}

/// Decides into which folder of the container, and under which name (docker's `archive.PrepareArchiveCopy`).
fn target(
    from: &str,
    is_folder: bool,
    to: &str,
    there: Option<&PathStat>,
) -> Result<(String, String), CliError> {
    let failed = |message: &str| Err(CliError::Failed(message.to_owned()));
    let name = split(from).1;
    let name = if name == "/" { ".".to_owned() } else { name };
    let (parent, last) = split(to);
    let parent = parent.to_string_lossy().into_owned();
    match there {
        Some(there) if there.is_folder() => Ok((to.to_owned(), real_name(from, name)?)),
        Some(_) if is_folder => failed("cannot copy directory"),
        Some(_) => Ok((parent, last)),
        None if !is_folder && says_folder(to) => failed("no such directory"),
        None => Ok((parent, last)),
    }
}

/// `..` names a folder that is called otherwise.
fn real_name(from: &str, name: String) -> Result<String, CliError> {
    if name != ".." {
        return Ok(name);
    }
    let real = fs::canonicalize(Path::new(from)).map_err(CliError::io(format!("follow {from}")))?;
    Ok(real.file_name().map_or_else(|| ".".to_owned(), |name| name.to_string_lossy().into_owned()))
}

async fn send<R: tokio::io::AsyncRead + Send + 'static>(
    client: &Client,
    at: &str,
    query: &[(&str, String)],
    archive: R,
) -> Result<(), CliError> {
    let query: Vec<(&str, &str)> =
        query.iter().map(|(key, value)| (*key, value.as_str())).collect();
    // The answer has no body; its end is the copy's.
    let mut answer = client.upload(Method::PUT, at, &query, archive).await?;
    while answer.next().await?.is_some() {}
    Ok(())
}
