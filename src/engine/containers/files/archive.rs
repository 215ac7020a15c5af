//! `cp`: what a path is, its archive, and an archive put there.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Stat, StatVfsMountFlags};

use super::open::{Files, Hold};
use super::path::AskedPath;
use crate::archive::{Extraction, Limits, Packer, extract};
use crate::engine::background;
use crate::engine::containers::layered::{Found, Merged, is_link};
use crate::engine::containers::users;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::merge;

/// What a path in a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    pub name: String,
    pub size: i64,
    /// As stat(2) has it.
    pub mode: u32,
    /// Unix time in seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Of a link: where it leads in the end, below the container's root.
    pub link_target: Option<PathBuf>,
}

/// What a path has in it, to be written as an archive.
#[derive(Debug)]
pub struct PathArchive {
    files: Files,
    path: AskedPath,
    found: Found,
}

/// How an archive is put into a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyIn {
    /// The folder that it is unpacked into.
    pub path: String,
    /// A folder is never replaced by something else, nor the other way round.
    pub keep_kinds: bool,
    /// What is unpacked belongs to the user that the container runs as.
    pub as_user: bool,
}

impl Engine {
    pub async fn stat_path(
        self: &Arc<Self>,
        word: &str,
        path: &str,
    ) -> Result<PathStat, EngineError> {
        let files = self.open_files(word).await?;
        let path = AskedPath::new(path);
        tokio::task::block_in_place(|| files.stat(&path, &files.find(&path)?))
    }

    /// Opens a path to be written as an archive, and says what it is.
    pub async fn read_path(
        self: &Arc<Self>,
        word: &str,
        path: &str,
    ) -> Result<(PathStat, PathArchive), EngineError> {
        let files = self.open_files(word).await?;
        let path = AskedPath::new(path);
        let (stat, found) = tokio::task::block_in_place(|| {
            let found = files.find(&path)?;
            Ok::<_, EngineError>((files.stat(&path, &found)?, found))
        })?;
        self.announce(&files.row, "archive-path", &[]);
        Ok((stat, PathArchive { files, path, found }))
    }

    /// Unpacks an archive, plain or packed, into a folder of a container. `archive` is told whether others wait for
    /// the archive's end.
    pub async fn write_path<R>(
        self: &Arc<Self>,
        word: &str,
        how: CopyIn,
        archive: impl FnOnce(Hold) -> R,
    ) -> Result<(), EngineError>
    where
        R: Read + Send + 'static,
    {
        let files = self.open_files(word).await?;
        let engine = Arc::clone(self);
        let archive = archive(files.hold());
        background::run(move || engine.unpack_into(&files, &how, archive)).await?
    }

    fn unpack_into(
        &self,
        files: &Files,
        how: &CopyIn,
        archive: impl Read,
    ) -> Result<(), EngineError> {
        let path = AskedPath::new(&how.path);
        let doing = || EngineError::io(format!("open {} in container {}", how.path, files.row.id));
        let folder = match files.root.find(&path.clean).map_err(doing())? {
            Some(Found::Folder(folder)) => folder,
            Some(Found::File { .. }) => {
                let message = "extraction point is not a directory".to_owned();
                return Err(EngineError::Invalid { message });
            }
            None => return Err(files.missing(&path)),
        };
        let resolved = files.root.resolve(&path.clean).map_err(doing())?;
        files.check_writable(&folder, &resolved).map_err(|error| match error {
            Unwritable::ReadOnly(message) => EngineError::Forbidden { message: message.to_owned() },
            Unwritable::Unknown(error) => doing()(error),
        })?;
        let facts = self.image_facts(&files.row);
        let user = merge::user(&files.row.spec, &facts);
        let owner = if how.as_user && !user.is_empty() {
            let identity = users::identify(&files.root, user, &[])?;
            Some((identity.uid, identity.gid))
        } else {
            None
        };
        let extraction = Extraction {
            folder: resolved.strip_prefix("/").unwrap_or(&resolved).to_owned(),
            keep_kinds: how.keep_kinds,
            owner,
            rename: None,
        };
        let root = files.root.folder().top().expect("an open root has a folder");
        extract(archive, root.as_fd(), &extraction, &UNLIMITED)?;
        self.announce(&files.row, "extract-to-dir", &[]);
        Ok(())
    }
}

/// The client may fill the container's disk by other means too; levels of folders are what costs us.
const UNLIMITED: Limits = Limits { entries: u64::MAX, bytes: u64::MAX, depth: 256 };

enum Unwritable {
    ReadOnly(&'static str),
    Unknown(io::Error),
}

impl Files {
    fn find(&self, path: &AskedPath) -> Result<Found, EngineError> {
        let found =
            if path.is_folder { self.root.find(&path.clean) } else { self.root.entry(&path.clean) };
        let doing = format!("open {} in container {}", path.clean.display(), self.row.id);
        match found.map_err(EngineError::io(doing))? {
            Some(Found::File { .. }) if path.is_folder => {
                let message = format!("{}: not a directory", path.clean.display());
                Err(EngineError::Invalid { message })
            }
            Some(found) => Ok(found),
            None => Err(self.missing(path)),
        }
    }

    fn missing(&self, path: &AskedPath) -> EngineError {
        EngineError::NoPath { path: path.clean.clone(), container: self.row.name.clone() }
    }

    fn stat(&self, path: &AskedPath, found: &Found) -> Result<PathStat, EngineError> {
        let doing = || EngineError::io(format!("look at {}", path.clean.display()));
        let stat = stat_of(found).map_err(doing())?;
        let link_target = is_link(&stat).then(|| self.root.resolve(&path.clean)).transpose();
        Ok(PathStat {
            name: path.base.clone(),
            size: stat.st_size,
            mode: stat.st_mode,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default()),
            link_target: link_target.map_err(doing())?,
        })
    }

    /// Tells a read-only root from a read-only mount in docker's words.
    fn check_writable(&self, folder: &Merged, path: &Path) -> Result<(), Unwritable> {
        let top = folder.top().expect("a folder that was found is open");
        let facts = rustix::fs::fstatvfs(top).map_err(|error| Unwritable::Unknown(error.into()))?;
        if !facts.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Ok(());
        }
        let in_mount = self.row.spec.mounts.iter().any(|mount| path.starts_with(&mount.target));
        Err(Unwritable::ReadOnly(if in_mount {
            "mounted volume is marked read-only"
        } else {
            "container rootfs is marked read-only"
        }))
    }
}

impl PathArchive {
    pub fn hold(&self) -> Hold {
        self.files.hold()
    }

    /// Writes the archive. The names in it begin with the last name of the path. Blocking.
    pub fn write(self, output: impl Write) -> io::Result<()> {
        let mut packer = Packer::new(output);
        let prefix = self.path.prefix().as_bytes();
        match &self.found {
            Found::File { folder, name, stat } => {
                packer.file(folder.as_fd(), name, stat, prefix)?
            }
            Found::Folder(folder) => {
                packer.folder(&stat_of(&self.found)?, &[prefix, b"/"].concat())?;
                pack_below(&mut packer, folder, &[prefix, b"/"].concat())?;
            }
        }
        self.files.check_whole()?;
        packer.finish()?.flush()
    }
}

/// Packs all that is below `folder`; the names begin with `prefix`.
pub(super) fn pack_below<W: Write>(
    packer: &mut Packer<W>,
    folder: &Merged,
    prefix: &[u8],
) -> io::Result<()> {
    folder.visit(&mut |path, found| {
        let mut name = [prefix, path.as_os_str().as_bytes()].concat();
        match found {
            Found::Folder(_) => {
                name.push(b'/');
                packer.folder(&stat_of(found)?, &name)
            }
            Found::File { folder, name: own, stat } => {
                match packer.file(folder.as_fd(), own, stat, &name) {
                    // A program in there removed it meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    other => other,
                }
            }
        }
    })
}

pub(super) fn stat_of(found: &Found) -> io::Result<Stat> {
    match found {
        Found::Folder(folder) => {
            Ok(rustix::fs::fstat(folder.top().expect("a folder that was found is open"))?)
        }
        Found::File { stat, .. } => Ok(*stat),
    }
}
