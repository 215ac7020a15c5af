//! An image archive comes as a stream in any order, so its members are put into the content store as they
//! pass; what they mean is looked up afterwards, by name, inside the archive alone.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::de::DeserializeOwned;
use tar::EntryType;

use crate::archive::compression::decompress;
use crate::archive::read::{ReadError, TarReader};
use crate::images::manifest::MAX_DOCUMENT;
use crate::images::store::blobs::{BlobError, Blobs, Ingested};
use crate::spec::digest::Digest;

const MAX_MEMBERS: usize = 20_000;
const MAX_LINKS: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("the image archive cannot be read")]
    Read(#[from] ReadError),
    #[error("a member of the image archive cannot be stored")]
    Store(#[from] BlobError),
    #[error("the archive has neither manifest.json nor index.json, so it holds no image")]
    NoImage,
    #[error("the archive names {name:?}, which is no file in it")]
    Missing { name: String },
    #[error("{name:?} in the archive is no valid document")]
    Document { name: String, source: serde_json::Error },
    #[error("{name:?} in the archive has {size} bytes, more than {MAX_DOCUMENT}")]
    HugeDocument { name: String, size: u64 },
    #[error("the archive has more than {MAX_MEMBERS} members")]
    TooManyMembers,
    #[error("{name:?} in the archive has the digest {found}")]
    WrongDigest { name: String, found: Digest },
    #[error("the archive has no image for {architecture}")]
    NoPlatform { architecture: String },
    #[error("indexes in the archive are nested too deeply")]
    NestedIndex,
    #[error("{0:?} is not an image name")]
    Name(String),
}

#[derive(Debug)]
enum Member {
    File {
        digest: Digest,
        size: u64,
    },
    /// A member's name, already resolved.
    Link(String),
}

#[derive(Debug, Default)]
pub(crate) struct Staged {
    members: BTreeMap<String, Member>,
    /// Blobs that were not in the store before.
    pub(crate) fresh: Vec<Digest>,
}

/// Reads the whole archive, packed or not, into `blobs`. What was stored is in `staged` on failure too.
pub(crate) fn stage(
    input: impl Read,
    blobs: &Blobs,
    staged: &mut Staged,
) -> Result<(), ArchiveError> {
    let (plain, _) = decompress(input).map_err(ReadError::from)?;
    let mut reader = TarReader::new(plain);
    while let Some(entry) = reader.next()? {
        if staged.members.len() >= MAX_MEMBERS {
            return Err(ArchiveError::TooManyMembers);
        }
        let Some(name) = resolve("", &String::from_utf8_lossy(&entry.path)) else { continue };
        let link = String::from_utf8_lossy(&entry.link);
        let member = match entry.kind {
            EntryType::Regular | EntryType::Continuous => {
                let Ingested { digest, size, fresh } = blobs.ingest(&mut reader, None)?;
                if fresh {
                    staged.fresh.push(digest.clone());
                }
                Member::File { digest, size }
            }
            EntryType::Symlink => {
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                match resolve(folder, &link) {
                    Some(target) => Member::Link(target),
                    None => continue,
                }
            }
            EntryType::Link => match resolve("", &link) {
                Some(target) => Member::Link(target),
                None => continue,
            },
            _ => continue,
        };
        staged.members.insert(name, member);
    }
    io::copy(&mut reader.into_inner(), &mut io::sink()).map_err(ReadError::from)?;
    Ok(())
}

impl Staged {
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// Returns digest and size of the file `name`. Links lead to members, never to the host's files.
    pub(crate) fn find(&self, name: &str) -> Result<(&Digest, u64), ArchiveError> {
        let missing = || ArchiveError::Missing { name: name.to_owned() };
        let mut current = resolve("", name).ok_or_else(missing)?;
        for _ in 0..MAX_LINKS {
            match self.members.get(&current) {
                Some(Member::File { digest, size }) => return Ok((digest, *size)),
                Some(Member::Link(target)) => current.clone_from(target),
                None => return Err(missing()),
            }
        }
        Err(missing())
    }

    pub(crate) fn document<T: DeserializeOwned>(
        &self,
        name: &str,
        blobs: &Blobs,
    ) -> Result<T, ArchiveError> {
        let (digest, size) = self.find(name)?;
        if size > MAX_DOCUMENT {
            return Err(ArchiveError::HugeDocument { name: name.to_owned(), size });
        }
        let text = blobs.read(digest, MAX_DOCUMENT)?;
        serde_json::from_slice(&text)
            .map_err(|source| ArchiveError::Document { name: name.to_owned(), source })
    }
}

/// Joins `folder` and `name` by their text; `None` when that is outside or the archive itself.
fn resolve(folder: &str, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    if parts.is_empty() { None } else { Some(parts.join("/")) }
}

/// Refuses names that could not be typed: control characters, spaces, endless text.
pub(crate) fn checked_name(name: &str) -> Result<String, ArchiveError> {
    let valid =
        !name.is_empty() && name.len() <= 512 && name.bytes().all(|byte| byte.is_ascii_graphic());
    if valid {
        Ok(name.to_owned())
    } else {
        Err(ArchiveError::Name(name.escape_debug().take(80).collect()))
    }
}
