//! `export`: the container's root as one archive, without its volumes.

use std::io::{self, Write};
use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::archive::pack_below;
use super::open::{Hold, Stillness, check_whole};
use crate::archive::Packer;
use crate::engine::containers::Handle;
use crate::engine::containers::layered::Root;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;

/// A container's root, to be written as an archive.
#[derive(Debug)]
pub struct Export {
    handle: Arc<Handle>,
    root: Root,
    verb: Option<OwnedMutexGuard<()>>,
}

impl Engine {
    /// Opens a container's layers. One that does not run stays so while the export lives.
    pub async fn export_container(self: &Arc<Self>, word: &str) -> Result<Export, EngineError> {
        let handle = self.container(word)?;
        let verb = match self.hold_still(&handle).await? {
            Stillness::Runs(..) => None,
            Stillness::Held(verb) => Some(verb),
        };
        let row = handle.row();
        let root = tokio::task::block_in_place(|| {
            let doing = format!("open the layers of container {}", row.id);
            Root::open(&self.layers_of(&row)?).map_err(EngineError::io(doing))
        })?;
        self.announce(&row, "export", &[]);
        Ok(Export { handle, root, verb })
    }
}

impl Export {
    pub fn hold(&self) -> Hold {
        Hold::by(self.verb.as_ref())
    }

    /// Writes the archive. Blocking.
    pub fn write(self, output: impl Write) -> io::Result<()> {
        let mut packer = Packer::new(output);
        pack_below(&mut packer, self.root.folder(), b"")?;
        check_whole(&self.handle)?;
        packer.finish()?.flush()
    }
}
