//! Content by digest. A blob appears under its name only when all of it is on the disk and its digest and
//! size are right: write to `tmp`, verify, fsync, rename, fsync the folder.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use crate::spec::digest::Digest;

#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("cannot {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("blob {digest} is not in the store")]
    Missing { digest: Digest },
    #[error("content has the digest {found}, expected {expected}")]
    WrongDigest { expected: Digest, found: Digest },
    #[error("blob {digest} has {found} bytes, expected {expected}")]
    WrongSize { digest: Digest, expected: u64, found: u64 },
    #[error("blob {digest} has more than {limit} bytes")]
    TooLarge { digest: Digest, limit: u64 },
}

/// What went into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingested {
    pub digest: Digest,
    pub size: u64,
    /// It was not there before.
    pub fresh: bool,
}

#[derive(Debug)]
pub(crate) struct Blobs {
    folder: PathBuf,
    tmp: PathBuf,
}

/// Returns the digest of `bytes`.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    finish(Sha256::new_with_prefix(bytes))
}

pub(crate) fn finish(hasher: Sha256) -> Digest {
    Digest::from_bytes(&hasher.finalize().into())
}

/// Returns a name that nothing else of this process uses.
pub(crate) fn scratch(tmp: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    tmp.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let path = path.to_owned();
    move |source| BlobError::Io { doing, path, source }
}

/// A new file that is hashed while it is written, and goes away unless it is kept.
#[derive(Debug)]
pub(crate) struct Sink {
    file: File,
    path: PathBuf,
    hasher: Sha256,
    size: u64,
    kept: bool,
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.file.write(data)?;
        self.hasher.update(&data[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if !self.kept {
            // Should it stay, the next start empties `tmp`.
            drop(fs::remove_file(&self.path));
        }
    }
}

impl Blobs {
    pub(crate) fn new(root: &Path, tmp: &Path) -> Self {
        Self { folder: root.join("blobs/sha256"), tmp: tmp.to_owned() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Stores what `input` gives. `expected` bounds how much is read of it.
    pub(crate) fn ingest(
        &self,
        mut input: impl Read,
        expected: Option<(&Digest, u64)>,
    ) -> Result<Ingested, BlobError> {
        let limit = expected.map_or(u64::MAX, |(_, size)| size.saturating_add(1));
        self.write(expected, |sink| io::copy(&mut input.by_ref().take(limit), sink).map(drop))
    }

    /// Stores what `fill` writes.
    pub(crate) fn write(
        &self,
        expected: Option<(&Digest, u64)>,
        fill: impl FnOnce(&mut Sink) -> io::Result<()>,
    ) -> Result<Ingested, BlobError> {
        let path = scratch(&self.tmp);
        let file = File::create_new(&path).map_err(io_error("create", &path))?;
        let mut sink = Sink { file, path, hasher: Sha256::new(), size: 0, kept: false };
        fill(&mut sink).map_err(io_error("fill", &sink.path))?;
        let digest = finish(sink.hasher.clone());
        let size = sink.size;
        if let Some((wanted, wanted_size)) = expected {
            if size != wanted_size {
                return Err(BlobError::WrongSize {
                    digest: wanted.clone(),
                    expected: wanted_size,
                    found: size,
                });
            }
            if digest != *wanted {
                return Err(BlobError::WrongDigest { expected: wanted.clone(), found: digest });
            }
        }
        let target = self.path(&digest);
        if target.is_file() {
            return Ok(Ingested { digest, size, fresh: false });
        }
        sink.file.sync_all().map_err(io_error("sync", &sink.path))?;
        fs::rename(&sink.path, &target).map_err(io_error("rename into the store", &target))?;
        sink.kept = true;
        sync_folder(&self.folder)?;
        Ok(Ingested { digest, size, fresh: true })
    }

    pub(crate) fn open(&self, digest: &Digest) -> Result<File, BlobError> {
        let path = self.path(digest);
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BlobError::Missing { digest: digest.clone() },
            _ => BlobError::Io { doing: "open", path, source },
        })
    }

    pub(crate) fn size(&self, digest: &Digest) -> Result<u64, BlobError> {
        let file = self.open(digest)?;
        Ok(file.metadata().map_err(io_error("look at", &self.path(digest)))?.len())
    }

    /// Returns all of a small blob, verified again.
    pub(crate) fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, BlobError> {
        let mut bytes = Vec::new();
        let mut file = self.open(digest)?.take(limit.saturating_add(1));
        file.read_to_end(&mut bytes).map_err(io_error("read", &self.path(digest)))?;
        if bytes.len() as u64 > limit {
            return Err(BlobError::TooLarge { digest: digest.clone(), limit });
        }
        let found = digest_of(&bytes);
        if found != *digest {
            return Err(BlobError::WrongDigest { expected: digest.clone(), found });
        }
        Ok(bytes)
    }

    /// Returns the first bytes of a blob, at most four.
    pub(crate) fn start(&self, digest: &Digest) -> Result<Vec<u8>, BlobError> {
        let mut bytes = Vec::new();
        let mut file = self.open(digest)?.take(4);
        file.read_to_end(&mut bytes).map_err(io_error("read", &self.path(digest)))?;
        Ok(bytes)
    }

    /// Removes a blob; one that is gone already is no error.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Makes a rename or removal in `folder` last (fsync(2): the entry needs a sync of its own).
pub(crate) fn sync_folder(folder: &Path) -> Result<(), BlobError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(io_error("sync", folder))
}
