//! Creating a container: its row, addresses, ports, volumes and folders. Nothing runs yet.

pub(super) mod check;
mod mounts;
mod places;

pub(super) use mounts::check_source;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::copy_up;
use super::layered::Root;
use crate::engine::background;
use crate::engine::core::{Engine, now};
use crate::engine::error::EngineError;
use crate::engine::images::Known;
use crate::engine::state::containers::{self, Container, Phase, Replica};
use crate::engine::state::volumes::{self, Volume};
use crate::engine::state::{Durability, StateError, networks};
use crate::engine::volumes::{Ensured, ensure, users_in};
use crate::engine::{merge, names};
use crate::images::snapshot::overlay;
use crate::spec::container::{ContainerSpec, Mount, MountKind};

/// What to create.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// `None`: a random one.
    pub name: Option<String>,
    /// Names of images, networks and volumes are names on this machine.
    pub spec: ContainerSpec,
    /// The stack's replica that it is.
    pub replica: Option<Replica>,
    /// Of the desired replica.
    pub hash: String,
}

/// A created container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Created {
    pub id: String,
    /// What the caller should know, in docker's words where it has them.
    pub warnings: Vec<String>,
}

/// Random names that are tried before a digit is added to one.
const NAMES_TRIED: u8 = 8;

impl Engine {
    /// Creates a container; an image that is not here is `NoImage`.
    pub async fn create_container(
        self: &Arc<Self>,
        request: CreateRequest,
    ) -> Result<Created, EngineError> {
        let create = |request: CreateRequest| {
            let engine = Arc::clone(self);
            // Copying an image's content into a volume takes as long as it takes.
            background::run(move || engine.create_now(request))
        };
        match create(request.clone()).await? {
            Err(EngineError::State(StateError::Exhausted { .. })) => {
                self.free_addresses().await?;
                create(request).await?
            }
            created => created,
        }
    }

    fn create_now(self: &Arc<Self>, request: CreateRequest) -> Result<Created, EngineError> {
        let CreateRequest { name, mut spec, replica, hash } = request;
        if let Some(name) = &name {
            check::name(name)?;
        }
        let held = self.images.hold();
        let image = self.find_image(&spec.image)?;
        let mut warnings = check::spec(&spec)?;
        warnings.extend(check::image(&spec, &image.facts, &image.loaded.config)?);
        self.resolve_places(&mut spec)?;
        let inherited = self.inherited_mounts(&spec)?;
        let volumes = mounts::complete(&mut spec.mounts, inherited, &image.facts.volumes)?;
        let row = Container {
            id: random_id(),
            name: name.clone().unwrap_or_default(),
            spec,
            image_id: image.id().to_owned(),
            replica,
            hash,
            phase: Phase::Creating,
            stopped_by_user: false,
            runtime: None,
            exit: None,
            health: None,
            bound_ports: Vec::new(),
            restart_count: 0,
            error: None,
            created_at: now(),
        };
        let (row, fresh) = match name {
            Some(_) => self.write_intent(row, &volumes)?,
            None => self.write_intent_with_random_name(row, &volumes)?,
        };
        // The row keeps the image from here on.
        drop(held);
        let made = self.make(&row, &image).and_then(|()| self.finish_creation(row.clone(), &fresh));
        if let Err(error) = made {
            self.undo_creation(&row)?;
            return Err(error);
        }
        Ok(Created { id: row.id, warnings })
    }

    /// Writes the rows of the container and of the volumes that are missing, with its addresses and ports, or
    /// nothing. Returns the volumes that are to be made.
    fn write_intent(
        &self,
        row: Container,
        volumes: &[Volume],
    ) -> Result<(Container, Vec<Volume>), EngineError> {
        let name = row.name.clone();
        self.write(Durability::Process, move |tx| {
            let mut row = row;
            let mut fresh = Vec::new();
            for volume in volumes {
                if let Ensured::New = ensure(tx, volume)? {
                    fresh.push(volume.clone());
                }
            }
            self.reserve_endpoints(tx, &mut row)?;
            containers::put(tx, &row)?;
            Ok((row, fresh))
        })
        .map_err(|error| name_conflict(error, &name))
    }

    fn write_intent_with_random_name(
        &self,
        row: Container,
        volumes: &[Volume],
    ) -> Result<(Container, Vec<Volume>), EngineError> {
        let mut tried = 0;
        loop {
            let random = u32::from_ne_bytes(random());
            let digit = (tried > NAMES_TRIED).then(|| random.to_ne_bytes()[0] % 10);
            let name = names::name_from(random, digit);
            let written = self.write_intent(Container { name, ..row.clone() }, volumes);
            tried += 1;
            match written {
                Err(EngineError::Conflict { message })
                    if tried < u8::MAX && is_name_conflict(&message) => {}
                other => return other,
            }
        }
    }

    /// Makes folders, snapshot and the first content of its volumes.
    fn make(&self, row: &Container, image: &Known) -> Result<(), EngineError> {
        let folder = self.paths.container(&row.id);
        let parent = folder.parent().expect("the containers lie in one folder");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .and_then(|()| fs::DirBuilder::new().mode(0o700).create(&folder))
            .map_err(EngineError::io(format!("create the folder {}", folder.display())))?;
        let layers = image.layers(&self.store)?;
        let snapshot = overlay::prepare(&folder, layers.to_vec())
            .map_err(|error| EngineError::Io { doing: error.to_string(), source: error.source })?;
        let reading = || EngineError::io(format!("read the image {}", row.spec.image));
        let root = Root::open(layers).map_err(reading())?;
        let working_dir = merge::working_dir(&row.spec, &image.facts);
        root.make_folder(&snapshot.upper, &working_dir).map_err(EngineError::io(format!(
            "make the working folder {working_dir} in the container"
        )))?;
        for mount in &row.spec.mounts {
            self.fill_volume(&root, mount)?;
        }
        Ok(())
    }

    fn fill_volume(&self, root: &Root, mount: &Mount) -> Result<(), EngineError> {
        let MountKind::Volume { name: Some(name), nocopy, subpath } = &mount.kind else {
            return Ok(());
        };
        let data = self.volume_source(name)?;
        if *nocopy || !subpath.is_empty() {
            return Ok(());
        }
        let doing = format!("copy the image's {} into the volume {name}", mount.target);
        copy_up::fill(root, &mount.target, &data).map_err(EngineError::io(doing))
    }

    fn finish_creation(
        self: &Arc<Self>,
        row: Container,
        fresh: &[Volume],
    ) -> Result<(), EngineError> {
        // What removes itself is not worth waiting for the disk.
        let durability = if row.spec.auto_remove { Durability::Process } else { Durability::Power };
        let row = Container { phase: Phase::Created, ..row };
        self.write::<_, StateError>(durability, |tx| {
            for volume in fresh {
                volumes::set_phase(tx, &volume.name, networks::Phase::Ready)?;
            }
            containers::set_phase(tx, &row.id, Phase::Created)
        })?;
        for volume in fresh {
            self.volume_event("create", volume);
        }
        let handle = self.insert_handle(row);
        self.announce(&handle.row(), "create", &[]);
        Ok(())
    }

    /// Takes back everything of a container whose row says `Creating`; recovery calls it too.
    pub(crate) fn undo_creation(&self, row: &Container) -> Result<(), EngineError> {
        self.discard(&self.paths.container(&row.id))?;
        let abandoned: Vec<Volume> = self.write(Durability::Process, |tx| {
            self.release_endpoints(tx, &row.id)?;
            containers::delete(tx, &row.id)?;
            let mut abandoned = Vec::new();
            for name in mounts::volume_names(&row.spec.mounts) {
                let volume = volumes::get(tx, name)?;
                let half_made = volume.filter(|volume| volume.phase == networks::Phase::Creating);
                let Some(volume) = half_made else { continue };
                if users_in(tx, name)?.is_empty() {
                    volumes::set_phase(tx, name, networks::Phase::Removing)?;
                    abandoned.push(volume);
                } else {
                    volumes::set_phase(tx, name, networks::Phase::Ready)?;
                }
            }
            Ok::<_, EngineError>(abandoned)
        })?;
        abandoned.iter().try_for_each(|volume| self.clear_volume(volume))
    }

    /// Returns the mounts of the containers that the spec takes volumes from, and checks what only the host knows.
    fn inherited_mounts(&self, spec: &ContainerSpec) -> Result<Vec<Mount>, EngineError> {
        for mount in &spec.mounts {
            if let MountKind::Bind { source, create_host_path: false, .. } = &mount.kind {
                mounts::check_source(source)?;
            }
        }
        let mut rows: BTreeMap<&str, Arc<Container>> = BTreeMap::new();
        for word in &spec.volumes_from {
            let (name, _) = mounts::split_from(word)?;
            rows.insert(name, self.container(name)?.row());
        }
        let mut all = Vec::new();
        for word in &spec.volumes_from {
            let (name, read_only) = mounts::split_from(word)?;
            all.extend(mounts::inherit(&rows[name].spec.mounts, read_only));
        }
        Ok(all)
    }

    /// Returns the folder of a container's changes and, below it, its image's layers, from the top down.
    pub(crate) fn layers_of(&self, row: &Container) -> Result<Vec<PathBuf>, EngineError> {
        let image = self.image_of(&row.image_id)?;
        let mut all = vec![self.paths.container(&row.id).join("upper")];
        all.extend_from_slice(image.layers(&self.store)?);
        Ok(all)
    }
}

/// Returns 64 random hex digits.
pub(crate) fn random_hex() -> String {
    random::<32>().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random_id() -> String {
    loop {
        if let Some(id) = names::id_from(random()) {
            return id;
        }
    }
}

fn random<const SIZE: usize>() -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    getrandom::fill(&mut bytes).expect("the kernel's random numbers are there since early boot");
    bytes
}

const NAME_CONFLICT: &str = "Conflict. The container name";

/// Says that a name is taken in docker's words, which scripts look for.
pub(super) fn name_conflict(error: EngineError, name: &str) -> EngineError {
    match error {
        EngineError::State(StateError::NameTaken { kind: "container", by, .. }) => {
            let message = format!(
                "{NAME_CONFLICT} \"/{name}\" is already in use by container \"{by}\". You have to remove (or \
                 rename) that container to be able to reuse that name."
            );
            EngineError::Conflict { message }
        }
        other => other,
    }
}

fn is_name_conflict(message: &str) -> bool {
    message.starts_with(NAME_CONFLICT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_is_told_in_dockers_words() {
        let taken = StateError::NameTaken { kind: "container", name: "x".into(), by: "abc".into() };
        let error = name_conflict(taken.into(), "x");
        assert_eq!(
            error.to_string(),
            "Conflict. The container name \"/x\" is already in use by container \"abc\". You have to remove (or \
             rename) that container to be able to reuse that name."
        );
        assert!(is_name_conflict(&error.to_string()));
        assert_eq!(error.kind(), crate::engine::Kind::Conflict);
    }

    #[test]
    fn ids_are_64_hex_digits() {
        let id = random_id();
        assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert_ne!(id, random_id());
    }
}
