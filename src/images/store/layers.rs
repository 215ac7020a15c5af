//! Unpacked layers by chain id. A layer is whole or absent: it is unpacked in `tmp`, its content is checked
//! against its diff id, and only then renamed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::blobs::{self, io_error};
use super::{BlobError, StoreError};
use crate::archive::apply::{Limits, apply};
use crate::archive::compression::{decompress, drain};
use crate::spec::digest::Digest;

#[derive(Debug)]
pub(crate) struct Layers {
    folder: PathBuf,
    tmp: PathBuf,
}

/// A layer that is complete but has no name yet; it goes away unless it is published.
#[derive(Debug)]
pub(crate) struct Unpacked {
    path: PathBuf,
    published: bool,
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if !self.published {
            // Should it stay, the next start empties `tmp`.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

struct Hashing<R> {
    input: R,
    hasher: Sha256,
    left: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, "the unpacked layer is too large")
        })?;
        Ok(count)
    }
}

impl Layers {
    pub(crate) fn new(root: &Path, tmp: &Path) -> Self {
        Self { folder: root.join("layers"), tmp: tmp.to_owned() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, chain: &Digest) -> PathBuf {
        self.folder.join(chain.hex())
    }

    pub(crate) fn contains(&self, chain: &Digest) -> bool {
        self.path(chain).is_dir()
    }

    /// Unpacks `blob` and checks that its plain form has the digest `diff_id`.
    pub(crate) fn unpack(
        &self,
        blob: File,
        diff_id: &Digest,
        limits: &Limits,
    ) -> Result<Unpacked, StoreError> {
        let path = blobs::scratch(&self.tmp);
        DirBuilder::new().mode(0o755).create(&path).map_err(io_error("create", &path))?;
        let unpacked = Unpacked { path, published: false };
        // The umask does not decide what a rootfs looks like.
        fs::set_permissions(&unpacked.path, fs::Permissions::from_mode(0o755))
            .map_err(io_error("set the mode of", &unpacked.path))?;
        let root = File::open(&unpacked.path).map_err(io_error("open", &unpacked.path))?;
        let failed = |source| StoreError::ReadLayer { layer: diff_id.clone(), source };
        let (plain, _) = decompress(blob).map_err(failed)?;
        let hashing = Hashing { input: plain, hasher: Sha256::new(), left: limits.bytes };
        let applied =
            apply(BufReader::with_capacity(128 << 10, hashing), &root, limits).map_err(|source| {
                StoreError::Unpack { layer: diff_id.clone(), source: Box::new(source) }
            });
        let mut rest = applied?;
        drain(&mut rest).map_err(failed)?;
        let found = blobs::finish(rest.into_inner().hasher);
        if found != *diff_id {
            return Err(StoreError::Blob(BlobError::WrongDigest {
                expected: diff_id.clone(),
                found,
            }));
        }
        Ok(unpacked)
    }

    /// Gives a complete layer its name. Another thread may have been first: then its layer stays.
    pub(crate) fn publish(&self, mut layer: Unpacked, chain: &Digest) -> Result<(), BlobError> {
        let target = self.path(chain);
        match fs::rename(&layer.path, &target) {
            Ok(()) => layer.published = true,
            Err(_) if target.is_dir() => {}
            Err(error) => return Err(io_error("rename into the store", &target)(error)),
        }
        Ok(())
    }

    /// Removes a layer: first its name at once, then its files.
    pub(crate) fn remove(&self, chain: &Digest) -> Result<(), BlobError> {
        let (path, trash) = (self.path(chain), blobs::scratch(&self.tmp));
        match fs::rename(&path, &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(io_error("remove", &path))?,
        }
        fs::remove_dir_all(&trash).map_err(io_error("remove", &trash))
    }
}
