//! The bundle of a container, written anew before each start: `config.json`, `shim.json` and the files that
//! the engine binds into `/etc`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layered::Root;
use super::{devices, logging, seccomp, users};
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::{Container, Phase};
use crate::engine::translate::{self, Resolved, ResolvedMount};
use crate::engine::{merge, profile};
use crate::runtime::bundle::{FileInside, Lookup, Rootfs, ShimConfig, Sources};
use crate::spec::container::{ContainerSpec, InlineFile, MountKind, NetworkMode};

/// Files of ours that are bound over those of the image.
const NETWORK_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];

impl Engine {
    /// Writes the bundle (`config.json`, `shim.json`) anew from the row, its addresses and this machine, right
    /// before a start.
    pub(crate) fn write_bundle(
        self: &Arc<Self>,
        handle: &super::Handle,
    ) -> Result<(), EngineError> {
        let row = handle.row();
        let folder = self.paths.container(&row.id);
        let files = self.network_files(handle)?;
        let contents = [&files.resolv_conf, &files.hostname, &files.hosts];
        for (target, content) in NETWORK_FILES.iter().zip(contents) {
            write(&in_folder(&folder, target), content)?;
        }
        self.write_config(&row)?;
        let shim = serde_json::to_string_pretty(&self.shim_config(&row)?)
            .expect("a shim's config is always JSON");
        write(&folder.join("shim.json"), &shim)
    }

    pub(super) fn write_config(self: &Arc<Self>, row: &Container) -> Result<(), EngineError> {
        let config = translate::to_json(&self.config_of(row)?)?;
        write(&self.paths.container(&row.id).join("config.json"), &config)
    }

    /// Returns the OCI config of a container as it would be started now.
    pub(crate) fn config_of(
        self: &Arc<Self>,
        row: &Container,
    ) -> Result<oci_spec::runtime::Spec, EngineError> {
        let image = self.image_of(&row.image_id)?;
        let mut spec = row.spec.clone();
        spec.shm_size =
            spec.shm_size.filter(|size| *size > 0).or(Some(self.config.containers.shm_size));
        let resolved = self.resolved(row)?;
        let filter = if spec.privileged {
            None
        } else {
            let capabilities = profile::capabilities(
                spec.profile,
                &spec.cap_add,
                &spec.cap_drop,
                &resolved.bounding,
            )
            .map_err(translate::TranslateError::from)?;
            let kernel = rustix::system::uname();
            seccomp::filter(&spec.security_opt, &capabilities, &kernel.release().to_string_lossy())?
        };
        let mut config = translate::translate(&spec, &image.facts, &resolved, filter)?;
        if let (Some(propagation), Some(linux)) = (propagation(&spec.mounts), config.linux_mut()) {
            linux.set_rootfs_propagation(Some(propagation.to_owned()));
        }
        Ok(config)
    }

    /// Returns the cgroup of a container below each hierarchy's root.
    pub(crate) fn cgroup_of(&self, row: &Container) -> String {
        let parent = match row.spec.cgroup_parent.trim_matches('/') {
            "" => self.paths.cgroup_parent(),
            parent => format!("/{parent}"),
        };
        format!("{parent}/{}", row.id)
    }

    /// Returns the host name inside.
    pub(crate) fn hostname_of(&self, row: &Container) -> String {
        if let Some(name) = row.spec.hostname.as_ref().filter(|name| !name.is_empty()) {
            return name.clone();
        }
        match &row.spec.network_mode {
            NetworkMode::Host => host_name(),
            NetworkMode::Container(other) => match self.container(other) {
                Ok(other) if other.id() != row.id => self.hostname_of(&other.row()),
                _ => row.id[..12].to_owned(),
            },
            _ if row.spec.uts_mode == "host" => host_name(),
            _ => row.id[..12].to_owned(),
        }
    }

    fn resolved(self: &Arc<Self>, row: &Container) -> Result<Resolved, EngineError> {
        let spec = &row.spec;
        let image = self.image_of(&row.image_id)?;
        let root = Root::open(&self.layers_of(row)?)
            .map_err(EngineError::io(format!("read the root of container {}", row.id)))?;
        let identity = users::identify(&root, merge::user(spec, &image.facts), &spec.group_add)?;
        let (sandbox, owns_sandbox) = match &spec.network_mode {
            NetworkMode::Host => (None, false),
            NetworkMode::Container(other) => {
                (Some(self.namespace_of(other, "net", "network")?), false)
            }
            _ => (Some(self.paths.sandbox(&row.id)), true),
        };
        let other = |mode: &str, kind: &str, name: &str| {
            let other = mode.strip_prefix("container:");
            other.map(|other| self.namespace_of(other, kind, name)).transpose()
        };
        let devices =
            if spec.privileged { devices::all()? } else { devices::resolve(&spec.devices)? };
        Ok(Resolved {
            hostname: self.hostname_of(row),
            rootfs: PathBuf::from("rootfs"),
            cgroup_path: self.cgroup_of(row),
            sandbox,
            owns_sandbox,
            pid_namespace: other(&spec.pid_mode, "pid", "PID")?,
            ipc_namespace: self
                .joined_ipc(spec)?
                .map(|other| self.namespace_of(other, "ipc", "IPC"))
                .transpose()?,
            identity,
            mounts: self.mounts_at_start(row)?,
            devices,
            bounding: self.machine.bounding.clone(),
            hard_limits: self.machine.hard_limits.clone(),
            cgroup_v2: self.machine.cgroups.v1_controller("memory").is_none(),
            masked_too: self.machine.masked_too.clone(),
            default_pids_limit: self.config.containers.pids_limit,
            default_nofile: self.config.containers.nofile,
            apparmor: None,
        })
    }

    /// Returns the container whose IPC namespace and `/dev/shm` are joined; it must have offered them.
    fn joined_ipc<'a>(&self, spec: &'a ContainerSpec) -> Result<Option<&'a str>, EngineError> {
        let Some(other) = spec.ipc_mode.strip_prefix("container:") else {
            return Ok(None);
        };
        let row = self.container(other)?.row();
        if matches!(row.spec.ipc_mode.as_str(), "" | "private" | "none") {
            let message = format!(
                "container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
                row.id
            );
            return Err(EngineError::Invalid { message });
        }
        Ok(Some(other))
    }

    /// Returns the path of a namespace of another container, which must be running.
    fn namespace_of(
        &self,
        container: &str,
        kind: &str,
        name: &str,
    ) -> Result<PathBuf, EngineError> {
        let row = self.container(container)?.row();
        let running = matches!(row.phase, Phase::Running | Phase::Paused | Phase::Stopping);
        match &row.runtime {
            Some(runtime) if running => Ok(format!("/proc/{}/ns/{kind}", runtime.pid).into()),
            _ => {
                let message = format!("cannot join {name} of a non running container: {}", row.id);
                Err(EngineError::Conflict { message })
            }
        }
    }

    /// Returns the container's mounts with what other containers share, which must be running.
    fn mounts_at_start(&self, row: &Container) -> Result<Vec<ResolvedMount>, EngineError> {
        let mut all = self.resolved_mounts(row)?;
        if let Some(other) = self.joined_ipc(&row.spec)?
            && !all.iter().any(|mount| mount.target == "/dev/shm")
        {
            let namespace = self.namespace_of(other, "mnt", "IPC")?;
            let mount = bound("/dev/shm", Path::new("/dev/shm"), false);
            all.push(ResolvedMount { lookup: Some(Lookup::Namespace(namespace)), ..mount });
        }
        Ok(all)
    }

    pub(super) fn resolved_mounts(
        &self,
        row: &Container,
    ) -> Result<Vec<ResolvedMount>, EngineError> {
        let spec = &row.spec;
        let mut all = Vec::new();
        for mount in &spec.mounts {
            all.push(self.resolved_mount(mount)?);
        }
        let taken =
            |all: &[ResolvedMount], target: &str| all.iter().any(|mount| mount.target == target);
        let folder = self.paths.container(&row.id);
        for target in NETWORK_FILES {
            if !taken(&all, target) {
                let source = in_folder(&folder, target);
                all.push(bound(target, &source, spec.read_only));
            }
        }
        for (number, file) in secrets(&spec.files) {
            all.push(bound(&file.target, &self.secret(&row.id, number), true));
        }
        if spec.ipc_mode == "host" && !taken(&all, "/dev/shm") {
            all.push(bound("/dev/shm", Path::new("/dev/shm"), false));
        }
        Ok(all)
    }

    fn resolved_mount(
        &self,
        mount: &crate::spec::container::Mount,
    ) -> Result<ResolvedMount, EngineError> {
        match &mount.kind {
            MountKind::Bind { source, recursive, propagation, .. } => {
                let bind = if *recursive { "rbind" } else { "bind" };
                let propagation = if propagation.is_empty() { "rprivate" } else { propagation };
                let mut options = vec![bind.to_owned(), propagation.to_owned()];
                if mount.read_only {
                    options.push(if *recursive { "rro" } else { "ro" }.to_owned());
                }
                let (target, source) = (mount.target.clone(), source.clone());
                Ok(ResolvedMount { target, kind: "bind".into(), source, options, lookup: None })
            }
            MountKind::Volume { name, subpath, .. } => {
                let name = name.as_deref().unwrap_or_default();
                let folder = self.volume_path(name)?;
                let whole = bound(&mount.target, &folder.join(subpath), mount.read_only);
                let lookup = (!subpath.is_empty()).then_some(Lookup::Folder(folder));
                Ok(ResolvedMount { lookup, ..whole })
            }
            MountKind::Tmpfs { size, mode, options } => {
                let mut words: Vec<String> = ["noexec", "nosuid", "nodev"]
                    .into_iter()
                    .filter(|word| !options.iter().any(|asked| *asked == word[2..]))
                    .map(str::to_owned)
                    .collect();
                if *size > 0 {
                    words.push(format!("size={size}"));
                }
                words.extend(mode.map(|mode| format!("mode={mode:o}")));
                words.extend(options.iter().cloned());
                words.extend(mount.read_only.then(|| "ro".to_owned()));
                let (target, source) = (mount.target.clone(), "tmpfs".to_owned());
                Ok(ResolvedMount {
                    target,
                    kind: "tmpfs".into(),
                    source,
                    options: words,
                    lookup: None,
                })
            }
        }
    }

    pub(super) fn rootfs_of(&self, row: &Container) -> Result<Rootfs, EngineError> {
        let folder = self.paths.container(&row.id);
        Ok(Rootfs::Overlay {
            lower: self.image_of(&row.image_id)?.layers(&self.store)?.to_vec(),
            upper: folder.join("upper"),
            work: folder.join("work"),
        })
    }

    fn shim_config(&self, row: &Container) -> Result<ShimConfig, EngineError> {
        let spec = &row.spec;
        let configs = spec.files.iter().filter(|file| !file.secret).map(|file| FileInside {
            target: file.target.clone(),
            content: file.content.clone(),
            uid: file.uid,
            gid: file.gid,
            mode: file.mode,
        });
        // Programs look for it to tell that they run in a container.
        let mark = FileInside {
            target: "/.dockerenv".to_owned(),
            content: Vec::new(),
            uid: 0,
            gid: 0,
            mode: 0o755,
        };
        Ok(ShimConfig {
            id: row.id.clone(),
            rootfs: self.rootfs_of(row)?,
            log: logging::config(
                &spec.logging,
                &self.config.logs,
                self.paths.container_log(&row.id),
            )?,
            open_stdin: spec.open_stdin,
            stdin_once: spec.stdin_once,
            init: spec.init,
            cgroup: self.cgroup_of(row),
            shim_oom_score_adj: SHIM_OOM_SCORE,
            files: configs.chain([mark]).collect(),
            sources: lookups(&self.mounts_at_start(row)?),
        })
    }

    /// Returns the file that a secret is bound from; the run folder is in memory.
    pub(super) fn secret(&self, id: &str, number: usize) -> PathBuf {
        self.paths.container_run(id).join("secrets").join(number.to_string())
    }
}

/// The kernel shall take any other process before a shim, whose death is the container's.
const SHIM_OOM_SCORE: i32 = -998;

/// Returns the secrets among `files`, each with its place in the list.
pub(super) fn secrets(files: &[InlineFile]) -> impl Iterator<Item = (usize, &InlineFile)> {
    files.iter().enumerate().filter(|(_, file)| file.secret)
}

/// A mount that shares with the host needs a root that is not cut off from it, mount_namespaces(7).
fn propagation(mounts: &[crate::spec::container::Mount]) -> Option<&'static str> {
    let words = || {
        mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Bind { propagation, .. } => Some(propagation.as_str()),
            _ => None,
        })
    };
    if words().any(|word| matches!(word, "shared" | "rshared")) {
        return Some("shared");
    }
    words().any(|word| matches!(word, "slave" | "rslave")).then_some("rslave")
}

/// Returns where the sources of mounts are looked up, as the bundle has it.
pub(super) fn lookups(mounts: &[ResolvedMount]) -> Sources {
    let lookups = mounts
        .iter()
        .filter_map(|mount| Some((PathBuf::from(&mount.target), mount.lookup.clone()?)));
    lookups.collect()
}

fn bound(target: &str, source: &Path, read_only: bool) -> ResolvedMount {
    let mut options = vec!["rbind".to_owned(), "rprivate".to_owned()];
    options.extend(read_only.then(|| "rro".to_owned()));
    ResolvedMount {
        target: target.to_owned(),
        kind: "bind".to_owned(),
        source: source.to_string_lossy().into_owned(),
        options,
        lookup: None,
    }
}

/// Returns where a file of `/etc` lies in the container's folder.
fn in_folder(folder: &Path, target: &str) -> PathBuf {
    folder.join(target.rsplit('/').next().unwrap_or(target))
}

fn write(path: &Path, content: &str) -> Result<(), EngineError> {
    fs::write(path, content).map_err(EngineError::io(format!("write {}", path.display())))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
