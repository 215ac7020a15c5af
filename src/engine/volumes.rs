//! Named and anonymous volumes: a folder and a row each.

mod options;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use options::{Source, unmount as unmount_data};

use crate::engine::core::{Engine, now};
use crate::engine::error::EngineError;
use crate::engine::state::containers::{self, Container};
use crate::engine::state::networks::Phase;
use crate::engine::state::volumes::{self, Volume};
use crate::engine::state::{Durability, StateError, Transaction};
use crate::spec::container::MountKind;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateVolume {
    /// `None`: an anonymous one, named by 64 random hex digits.
    pub name: Option<String>,
    /// "" is `local`.
    pub driver: String,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub stack: Option<String>,
}

impl Engine {
    /// Creates a volume, or returns the one that has the name and the same driver and options.
    pub fn create_volume(&self, request: CreateVolume) -> Result<Volume, EngineError> {
        let wanted = wanted(request)?;
        let made = self.write(Durability::Process, |tx| ensure(tx, &wanted))?;
        if let Ensured::Known(volume) = made {
            if (&volume.driver, &volume.options) != (&wanted.driver, &wanted.options) {
                let message = format!(
                    "a volume with name {} already exists with another driver or other options: remove it first",
                    wanted.name
                );
                return Err(EngineError::Conflict { message });
            }
            return Ok(volume);
        }
        let finished = self
            .make_volume_folder(&wanted.name)
            .and_then(|_| self.finish_volume(&wanted, Durability::Power));
        if let Err(error) = finished {
            // The first error is the one to report; what is left goes with the next start.
            drop(self.clear_volume(&wanted));
            return Err(error);
        }
        Ok(Volume { phase: Phase::Ready, ..wanted })
    }

    /// Returns all volumes, by name.
    pub fn volumes(&self) -> Result<Vec<Volume>, EngineError> {
        let mut all = self.read(volumes::list)?;
        all.retain(|volume| volume.phase != Phase::Removing);
        Ok(all)
    }

    pub fn volume(&self, name: &str) -> Result<Volume, EngineError> {
        self.read(|db| volumes::get(db, name))?
            .filter(|volume| volume.phase != Phase::Removing)
            .ok_or_else(|| EngineError::NoVolume { name: name.to_owned() })
    }

    /// Ids of the containers that mount it.
    pub fn volume_users(&self, name: &str) -> Vec<String> {
        let rows = self.handles();
        let users = rows.iter().filter(|handle| mounts(&handle.row(), name));
        users.map(|handle| handle.id().to_owned()).collect()
    }

    /// Removes a volume and its data; one in use is a `Conflict`. With `force` an absent one is fine.
    pub async fn remove_volume(&self, name: &str, force: bool) -> Result<(), EngineError> {
        let begun = self.write(Durability::Process, |tx| {
            let volume = volumes::get(tx, name)?;
            let volume = volume.ok_or_else(|| EngineError::NoVolume { name: name.to_owned() })?;
            // The rows, not the handles: a container that is being created has none yet.
            let users = users_in(tx, name)?;
            if !users.is_empty() {
                let message = format!("remove {name}: volume is in use - [{}]", users.join(", "));
                return Err(EngineError::Conflict { message });
            }
            volumes::set_phase(tx, name, Phase::Removing)?;
            Ok(volume)
        });
        match begun {
            Err(EngineError::NoVolume { .. }) if force => Ok(()),
            Err(error) => Err(error),
            Ok(volume) => self.clear_volume(&volume),
        }
    }

    /// Removes volumes that nothing mounts: anonymous ones, or with `all` named ones too. Returns their names and
    /// the bytes that were in them.
    pub async fn prune_volumes(
        self: &Arc<Self>,
        wanted: impl Fn(&Volume) -> bool,
    ) -> Result<(Vec<String>, u64), EngineError> {
        let (mut names, mut bytes) = (Vec::new(), 0);
        // As docker: one with options stands for something outside, which nobody calls unused.
        let own = |volume: &Volume| volume.options.is_empty() && wanted(volume);
        for volume in self.volumes()?.into_iter().filter(own) {
            let size = folder_size(&self.paths.volume_data(&volume.name));
            match self.remove_volume(&volume.name, false).await {
                Ok(()) => {
                    names.push(volume.name);
                    bytes += size;
                }
                // Somebody mounts it, or somebody else removed it.
                Err(EngineError::Conflict { .. } | EngineError::NoVolume { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((names, bytes))
    }

    /// Finishes or undoes what a crash left half done.
    pub(crate) fn recover_volumes(&self) -> Result<(), EngineError> {
        for volume in self.read(volumes::unfinished)? {
            let used = !self.read(|db| users_in(db, &volume.name))?.is_empty();
            match volume.phase {
                Phase::Creating if used => {
                    self.make_volume_folder(&volume.name)?;
                    self.write::<_, StateError>(Durability::Process, |tx| {
                        volumes::set_phase(tx, &volume.name, Phase::Ready)
                    })?;
                }
                _ => self.clear_volume(&volume)?,
            }
        }
        Ok(())
    }

    /// Makes the folder of a volume whose row is there. Twice does no harm.
    pub(crate) fn make_volume_folder(&self, name: &str) -> Result<PathBuf, EngineError> {
        let data = self.paths.volume_data(name);
        let parent = data.parent().expect("a volume's data lies in its folder");
        // Only root may look in: a volume may hold set-user-id programs (CVE-2021-41091).
        make_folder(parent.parent().expect("the volumes lie in one folder"), 0o700)?;
        make_folder(parent, 0o700)?;
        make_folder(&data, 0o755)?;
        Ok(data)
    }

    pub(crate) fn finish_volume(
        &self,
        volume: &Volume,
        durability: Durability,
    ) -> Result<(), EngineError> {
        self.write::<_, StateError>(durability, |tx| {
            volumes::set_phase(tx, &volume.name, Phase::Ready)
        })?;
        self.volume_event("create", volume);
        Ok(())
    }

    /// Returns the folder that a container mounts, mounting the volume's own file system first if it has one.
    pub(crate) fn volume_source(&self, name: &str) -> Result<PathBuf, EngineError> {
        let volume = self.volume(name)?;
        match Source::parse(&volume.options)? {
            Source::Folder => self.make_volume_folder(name),
            Source::Bind(path) => {
                if !path.exists() {
                    let message = format!(
                        "failed to mount local volume {name}: {} does not exist",
                        path.display()
                    );
                    return Err(EngineError::Invalid { message });
                }
                Ok(path)
            }
            Source::Mount(mount) => {
                let data = self.make_volume_folder(name)?;
                mount.ensure(&data)?;
                Ok(data)
            }
        }
    }

    /// Deletes data and row of a volume whose row says `Removing` or a half-made one.
    pub(crate) fn clear_volume(&self, volume: &Volume) -> Result<(), EngineError> {
        let data = self.paths.volume_data(&volume.name);
        unmount_data(&data)?;
        let folder = data.parent().expect("a volume's data lies in its folder");
        self.discard(folder)?;
        self.write::<_, StateError>(Durability::Power, |tx| volumes::delete(tx, &volume.name))?;
        self.volume_event("destroy", volume);
        Ok(())
    }

    pub(crate) fn volume_event(&self, action: &str, volume: &Volume) {
        let attributes = [("driver".to_owned(), volume.driver.clone())].into();
        self.emit("volume", action, &volume.name, attributes);
    }
}

/// What [`ensure`] found.
#[derive(Debug)]
pub(crate) enum Ensured {
    Known(Volume),
    /// Its row is `Creating`; the caller makes the rest.
    New,
}

/// Inserts the row of `wanted` unless a volume has its name.
pub(crate) fn ensure(tx: &Transaction<'_>, wanted: &Volume) -> Result<Ensured, EngineError> {
    match volumes::get(tx, &wanted.name)? {
        Some(volume) if volume.phase == Phase::Removing => {
            let message = format!("volume {} is being removed: try again", wanted.name);
            Err(EngineError::Conflict { message })
        }
        Some(volume) => Ok(Ensured::Known(volume)),
        None => {
            volumes::insert(tx, wanted)?;
            Ok(Ensured::New)
        }
    }
}

/// Returns the row that a request asks for.
pub(crate) fn wanted(request: CreateVolume) -> Result<Volume, EngineError> {
    let anonymous = request.name.is_none();
    let name = match request.name {
        Some(name) => name,
        None => crate::engine::containers::random_hex(),
    };
    check_name(&name)?;
    if !matches!(request.driver.as_str(), "" | "local") {
        let message = format!(
            "error looking up volume plugin {0}: plugin \"{0}\" not found: the one driver is `local`",
            request.driver
        );
        return Err(EngineError::Invalid { message });
    }
    Source::parse(&request.options)?;
    Ok(Volume {
        name,
        driver: "local".to_owned(),
        options: request.options,
        labels: request.labels,
        stack: request.stack,
        anonymous,
        phase: Phase::Creating,
        created_at: now(),
    })
}

/// A volume's name is a folder's too.
pub(crate) fn check_name(name: &str) -> Result<(), EngineError> {
    if crate::spec::name::ObjectName::try_from(name).is_ok() && name.len() > 1 {
        return Ok(());
    }
    let message = format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    );
    Err(EngineError::Invalid { message })
}

/// Returns the ids of the containers whose rows mount the volume.
pub(crate) fn users_in(
    db: &crate::engine::state::Connection,
    name: &str,
) -> Result<Vec<String>, StateError> {
    let rows = containers::list(db)?;
    Ok(rows.into_iter().filter(|row| mounts(row, name)).map(|row| row.id).collect())
}

fn mounts(row: &Container, volume: &str) -> bool {
    row.spec.mounts.iter().any(|mount| match &mount.kind {
        MountKind::Volume { name, .. } => name.as_deref() == Some(volume),
        _ => false,
    })
}

fn make_folder(path: &Path, mode: u32) -> Result<(), EngineError> {
    use std::os::unix::fs::PermissionsExt;
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        Err(source) => {
            return Err(EngineError::io(format!("create the folder {}", path.display()))(source));
        }
    }
    // The umask took part of the mode away.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(EngineError::io(format!("set the mode of {}", path.display())))
}

/// Returns the bytes that the files of a folder take on the disk; what can't be read counts as nothing.
pub(crate) fn folder_size(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut waiting = vec![folder.to_owned()];
    let mut total = 0;
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            total += metadata.blocks() * 512;
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    #[test]
    fn a_volumes_name_is_no_path() {
        for name in ["", "a", "../x", "a/b", ".a", "a b"] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(
                error.contains("includes invalid characters for a local volume name"),
                "{error}"
            );
        }
        check_name("stack_data.1").unwrap();
    }

    #[test]
    fn an_anonymous_volume_gets_a_random_name() {
        let one = wanted(CreateVolume::default()).unwrap();
        let two = wanted(CreateVolume::default()).unwrap();
        assert_eq!((one.name.len(), one.anonymous), (64, true));
        assert_ne!(one.name, two.name);
    }

    #[test]
    fn another_driver_is_refused() {
        let request = CreateVolume { driver: "rexray".into(), ..CreateVolume::default() };
        assert!(wanted(request).unwrap_err().to_string().contains("plugin \"rexray\" not found"));
    }
}
