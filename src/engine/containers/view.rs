//! A container as clients see it: its row, its image, its endpoints.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::merge::{self, ImageFacts};
use crate::engine::profile::{SystemPaths, system_paths};
use crate::engine::state::containers::Container;
use crate::engine::volumes::Source;
use crate::spec::container::{Mount, MountKind};

/// All that `inspect` and `ps` need.
#[derive(Debug, Clone)]
pub struct View {
    pub row: Arc<Container>,
    pub facts: ImageFacts,
    pub endpoints: Vec<EndpointView>,
    /// Where each volume mount's data is, by target.
    pub mounts: Vec<MountView>,
    /// Host name, resolved program and arguments.
    pub hostname: String,
    pub arguments: Vec<String>,
    pub log_path: PathBuf,
    /// What of the kernel is closed to it; `None` for a privileged one.
    pub system_paths: Option<SystemPaths>,
}

/// One endpoint on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointView {
    pub network_id: String,
    pub network: String,
    pub addresses: Vec<ipnet::IpNet>,
    pub gateways: Vec<IpAddr>,
    pub mac: String,
    pub aliases: Vec<String>,
    /// All names that resolve to it.
    pub names: Vec<String>,
}

/// One mount as `inspect`'s `Mounts` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountView {
    /// `bind`, `volume`, `tmpfs`.
    pub kind: &'static str,
    /// Of a volume.
    pub name: Option<String>,
    pub source: String,
    pub target: String,
    pub read_only: bool,
    pub propagation: String,
}

impl Engine {
    pub fn view_container(&self, word: &str) -> Result<View, EngineError> {
        let row = self.container(word)?.row();
        let facts = self.image_of(&row.image_id)?.facts.clone();
        Ok(View {
            endpoints: self.endpoints(&row)?.into_values().collect(),
            mounts: row.spec.mounts.iter().map(|mount| self.mount_view(mount)).collect(),
            hostname: self.hostname_of(&row),
            arguments: merge::arguments(&row.spec, &facts),
            log_path: self.paths.container_log(&row.id),
            system_paths: (!row.spec.privileged)
                .then(|| system_paths(&row.spec, &self.machine.masked_too)),
            facts,
            row,
        })
    }

    /// Returns where a volume's data is, without mounting anything.
    pub(crate) fn volume_path(&self, name: &str) -> Result<PathBuf, EngineError> {
        Ok(match Source::parse(&self.volume(name)?.options)? {
            Source::Bind(path) => path,
            Source::Folder | Source::Mount(_) => self.paths.volume_data(name),
        })
    }

    fn mount_view(&self, mount: &Mount) -> MountView {
        let (target, read_only) = (mount.target.clone(), mount.read_only);
        match &mount.kind {
            MountKind::Bind { source, propagation, .. } => MountView {
                kind: "bind",
                name: None,
                source: source.clone(),
                target,
                read_only,
                propagation: if propagation.is_empty() { "rprivate" } else { propagation }
                    .to_owned(),
            },
            MountKind::Volume { name, .. } => {
                let name = name.clone().unwrap_or_default();
                let source = self.paths.volume_data(&name).to_string_lossy().into_owned();
                MountView {
                    kind: "volume",
                    name: Some(name),
                    source,
                    target,
                    read_only,
                    propagation: String::new(),
                }
            }
            MountKind::Tmpfs { .. } => {
                MountView { kind: "tmpfs", target, read_only, ..MountView::default() }
            }
        }
    }
}
