//! Images in and out of the store as archives.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::sync::PoisonError;

use super::blobs::{BlobError, io_error};
use super::open::{Loaded, Store, StoreError};
use crate::images::archive::staged::{ArchiveError, Staged, stage};
use crate::images::archive::{Format, docker, oci, write};
use crate::images::descriptor::{Descriptor, OCI_MANIFEST};
use crate::images::manifest::Index;
use crate::images::platform::Platform;
use crate::spec::digest::Digest;

impl Store {
    /// Adds the images of an archive: `docker save`'s or an OCI layout, plain or packed. When one of them
    /// is wrong, it is not added and the load ends there.
    pub fn load(&self, archive: impl Read) -> Result<Vec<Loaded>, StoreError> {
        let mut staged = Staged::default();
        let result = {
            let _content = self.content.read().unwrap_or_else(PoisonError::into_inner);
            self.load_staged(archive, &mut staged)
        };
        let _content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        self.delete_leftovers(&staged.fresh)?;
        result
    }

    fn load_staged(
        &self,
        archive: impl Read,
        staged: &mut Staged,
    ) -> Result<Vec<Loaded>, StoreError> {
        stage(archive, &self.blobs, staged)?;
        let images = if staged.contains(docker::MANIFEST) {
            docker::images(staged, &self.blobs)?
        } else if staged.contains(oci::INDEX) {
            oci::images(staged, &self.blobs, &Platform::host())?
        } else {
            return Err(ArchiveError::NoImage.into());
        };
        let mut loaded = Vec::with_capacity(images.len());
        for image in images {
            loaded.push(Loaded { names: image.names, ..self.commit_locked(&image.manifest)? });
        }
        Ok(loaded)
    }

    /// Writes `images`, each with the names it shall have there, into one archive.
    pub fn save(
        &self,
        images: &[(Digest, Vec<String>)],
        output: impl Write,
        format: Format,
    ) -> Result<(), StoreError> {
        let _content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        let mut blobs: BTreeSet<Digest> = BTreeSet::new();
        let (mut manifests, mut items) = (Vec::new(), Vec::new());
        for (id, names) in images {
            let (image, manifest) = (self.image(id)?, self.manifest(id)?);
            blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
            blobs.extend([id.clone(), image.manifest.clone()]);
            let kind =
                if manifest.media_type.is_empty() { OCI_MANIFEST } else { &manifest.media_type };
            let plain =
                Descriptor::new(kind, image.manifest.clone(), self.blobs.size(&image.manifest)?);
            manifests.extend(
                names
                    .iter()
                    .map(|name| Descriptor { annotations: annotations(name), ..plain.clone() }),
            );
            if names.is_empty() {
                manifests.push(plain);
            }
            items.push(docker::Item {
                config: oci::member(id),
                repo_tags: Some(names.clone()),
                layers: manifest.layers.iter().map(|layer| oci::member(&layer.digest)).collect(),
            });
        }
        let mut builder = tar::Builder::new(output);
        let failed =
            |source| BlobError::Io { doing: "write", path: "the image archive".into(), source };
        for digest in &blobs {
            let size = self.blobs.size(digest)?;
            write::file(&mut builder, &oci::member(digest), 0o444, size, self.blobs.open(digest)?)
                .map_err(failed)?;
        }
        let index = serde_json::to_vec(&Index::new(manifests)).expect("an index is always JSON");
        let items = serde_json::to_vec(&items).expect("a manifest is always JSON");
        let mut documents =
            vec![(oci::INDEX, index), (oci::LAYOUT, oci::LAYOUT_TEXT.as_bytes().to_vec())];
        if format == Format::Docker {
            documents.push((docker::MANIFEST, items));
        }
        for (name, text) in &documents {
            write::file(&mut builder, name, 0o444, text.len() as u64, text.as_slice())
                .map_err(failed)?;
        }
        let mut output = builder.into_inner().map_err(failed)?;
        Ok(output.flush().map_err(io_error("write", "the image archive".as_ref()))?)
    }
}

/// Says a name as containerd and docker do: in full, and its tag alone.
fn annotations(name: &str) -> BTreeMap<String, String> {
    let tag = name
        .rsplit_once(':')
        .map(|(_, tag)| tag)
        .filter(|tag| !tag.contains('/'))
        .unwrap_or("latest");
    BTreeMap::from([
        (oci::FULL_NAME.to_owned(), name.to_owned()),
        (oci::REF_NAME.to_owned(), tag.to_owned()),
    ])
}
