//! Which blobs and layers nothing needs any more. Pure: the store lists, this decides, the store deletes.

use std::collections::BTreeSet;

use crate::spec::digest::Digest;

/// Blobs and unpacked layers (by chain id), as a set of what is there, needed, or to be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    pub blobs: BTreeSet<Digest>,
    pub layers: BTreeSet<Digest>,
}

/// Returns what of `present` none of `needed` names.
pub fn plan<'a>(present: &Content, needed: impl IntoIterator<Item = &'a Content>) -> Content {
    let mut garbage = present.clone();
    for content in needed {
        garbage.blobs.retain(|blob| !content.blobs.contains(blob));
        garbage.layers.retain(|layer| !content.layers.contains(layer));
    }
    garbage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_two_images_share_stays_until_both_are_gone() {
        let digest = |byte| Digest::from_bytes(&[byte; 32]);
        let present = Content { blobs: [digest(1), digest(2)].into(), layers: [digest(3)].into() };
        let first = Content { blobs: [digest(1)].into(), layers: [digest(3)].into() };
        let second = Content { blobs: [digest(2)].into(), layers: [digest(3)].into() };
        assert_eq!(plan(&present, [&first, &second]), Content::default());
        assert_eq!(
            plan(&present, [&second]),
            Content { blobs: [digest(1)].into(), layers: BTreeSet::new() }
        );
        assert_eq!(plan(&present, []), present);
    }
}
