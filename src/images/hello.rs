//! The built-in image `bargee/hello`: our own static binary as one layer, run as a tiny web service, so
//! that the first example needs no registry. The same binary always gives the same image id.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::PoisonError;

use super::archive::write;
use super::config::{Empty, HealthConfig, History, ImageConfig, RootFs, RunConfig};
use super::descriptor::{Descriptor, OCI_CONFIG, OCI_LAYER};
use super::manifest::Manifest;
use super::platform::Platform;
use super::store::blobs::io_error;
use super::store::{Loaded, Store, StoreError};

mod dns;
mod serve;

pub use serve::serve;

pub const NAME: &str = "bargee/hello:latest";
const CREATED: &str = "1970-01-01T00:00:00Z";

impl Store {
    /// Adds `bargee/hello` made of `binary`, usually `/proc/self/exe`.
    pub fn hello(&self, binary: &Path) -> Result<Loaded, StoreError> {
        let _content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        let file = File::open(binary).map_err(io_error("open", binary))?;
        let size = file.metadata().map_err(io_error("look at", binary))?.len();
        let layer = self.blobs.write(None, |sink| layer(sink, file, size))?;
        let platform = Platform::host();
        let config = ImageConfig {
            created: Some(CREATED.to_owned()),
            architecture: platform.architecture,
            os: platform.os,
            config: run_config(),
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![layer.digest.clone()] },
            history: vec![History {
                created: Some(CREATED.to_owned()),
                created_by: Some("bargee: its own binary".to_owned()),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        let config = serde_json::to_vec(&config).expect("an image config is always JSON");
        let config = self.blobs.ingest(config.as_slice(), None)?;
        let manifest = Manifest::new(
            Descriptor::new(OCI_CONFIG, config.digest, config.size),
            vec![Descriptor::new(OCI_LAYER, layer.digest, layer.size)],
        );
        let loaded =
            self.commit_locked(&serde_json::to_vec(&manifest).expect("a manifest is always JSON"))?;
        Ok(Loaded { names: vec![NAME.to_owned()], ..loaded })
    }
}

fn layer(sink: &mut impl io::Write, binary: File, size: u64) -> io::Result<()> {
    let mut builder = tar::Builder::new(sink);
    write::file(&mut builder, "bargee", 0o755, size, binary)?;
    for folder in ["dev", "etc", "proc", "sys"] {
        write::folder(&mut builder, folder, 0o755)?;
    }
    write::folder(&mut builder, "tmp", 0o1777)?;
    builder.finish()
}

fn run_config() -> RunConfig {
    RunConfig {
        cmd: Some(vec!["/bargee".to_owned(), "__hello".to_owned()]),
        env: vec!["PATH=/".to_owned()],
        exposed_ports: [("80/tcp".to_owned(), Empty {})].into(),
        working_dir: "/".to_owned(),
        healthcheck: None::<HealthConfig>,
        ..RunConfig::default()
    }
}
