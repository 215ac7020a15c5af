//! OCI image layouts (OCI image spec, `image-layout.md`) in a tar: `index.json` names blobs by digest.

use super::docker::Described;
use super::staged::{ArchiveError, Staged, checked_name};
use crate::images::descriptor::Descriptor;
use crate::images::manifest::{Index, MAX_DOCUMENT};
use crate::images::platform::Platform;
use crate::images::store::blobs::Blobs;
use crate::spec::digest::Digest;

pub(crate) const INDEX: &str = "index.json";
pub(crate) const LAYOUT: &str = "oci-layout";
pub(crate) const LAYOUT_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The full name; `REF_NAME` is by custom the tag alone.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";
const MAX_NESTING: usize = 4;

/// Returns the name of a blob's member.
pub(crate) fn member(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Returns the images of a staged layout, of a multi-platform one the `host`'s.
pub(crate) fn images(
    staged: &Staged,
    blobs: &Blobs,
    host: &Platform,
) -> Result<Vec<Described>, ArchiveError> {
    let index: Index = staged.document(INDEX, blobs)?;
    let mut images: Vec<(Digest, Described)> = Vec::new();
    for descriptor in &index.manifests {
        if descriptor.platform.as_ref().is_some_and(|platform| !platform.runs_on(host)) {
            continue;
        }
        let found = select(descriptor, staged, blobs, host, 0)?;
        let name =
            descriptor.annotations.get(FULL_NAME).or_else(|| descriptor.annotations.get(REF_NAME));
        let name = name.map(|name| checked_name(name)).transpose()?;
        match images.iter_mut().find(|(digest, _)| *digest == found) {
            Some((_, image)) => image.names.extend(name),
            None => {
                let manifest = blobs.read(verified(&found, staged)?, MAX_DOCUMENT)?;
                images.push((found, Described { manifest, names: name.into_iter().collect() }));
            }
        }
    }
    if images.is_empty() {
        return Err(ArchiveError::NoPlatform { architecture: host.architecture.clone() });
    }
    Ok(images.into_iter().map(|(_, image)| image).collect())
}

fn select(
    descriptor: &Descriptor,
    staged: &Staged,
    blobs: &Blobs,
    host: &Platform,
    depth: usize,
) -> Result<Digest, ArchiveError> {
    verified(&descriptor.digest, staged)?;
    if !descriptor.is_index() {
        return Ok(descriptor.digest.clone());
    }
    if depth >= MAX_NESTING {
        return Err(ArchiveError::NestedIndex);
    }
    let index: Index = staged.document(&member(&descriptor.digest), blobs)?;
    let fits =
        |child: &&Descriptor| child.platform.as_ref().is_none_or(|platform| platform.runs_on(host));
    let child = index
        .manifests
        .iter()
        .find(fits)
        .ok_or_else(|| ArchiveError::NoPlatform { architecture: host.architecture.clone() })?;
    select(child, staged, blobs, host, depth + 1)
}

fn verified<'d>(digest: &'d Digest, staged: &Staged) -> Result<&'d Digest, ArchiveError> {
    let name = member(digest);
    let (found, _) = staged.find(&name)?;
    if found != digest {
        return Err(ArchiveError::WrongDigest { name, found: found.clone() });
    }
    Ok(digest)
}
