//! One container's cgroup: the same path below every hierarchy of the host.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::{CgroupError, Roots, Stats, Unenforced, events, files, stats, v1, v2};

/// A cgroup that exists in every mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    pub(super) roots: Roots,
    /// Relative to each mount, without a leading slash.
    pub(super) path: String,
    v2_dir: Option<PathBuf>,
    unenforced: Vec<Unenforced>,
}

/// Where a child of ours begins its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birth {
    /// In the version 2 cgroup, by `CLONE_INTO_CGROUP`: a move there later waits for an RCU grace period, 5 to 25 ms.
    Inside,
    /// Where its parent is. A kernel that mixes up `kill_seq` of the parent's cgroup and of the child's kills one that is
    /// born inside when either was ever written to `cgroup.kill` (`cgroup_css_set_fork`, seen on Linux 6.18).
    Outside,
}

/// A cgroup's files that take a process in: one that is between clone and exec can open nothing by name.
#[derive(Debug)]
pub struct Doors {
    /// Of each version 1 hierarchy; writing `0` moves the writer.
    pub tasks: Vec<fs::File>,
    /// Of version 2; writing `0` moves the writer.
    pub procs: Option<fs::File>,
    /// The version 2 folder, for `CLONE_INTO_CGROUP`.
    pub dir: Option<fs::File>,
}

impl Cgroup {
    /// Creates the cgroup `path` below each hierarchy and sets its limits.
    ///
    /// An empty one that a crash left behind is taken over; one with processes is refused. When a limit cannot
    /// be set, the directories that were made for it are removed again.
    pub fn create(
        roots: &Roots,
        path: &str,
        resources: Option<&LinuxResources>,
    ) -> Result<Cgroup, CgroupError> {
        let mut cgroup = Cgroup::at(roots, path)?;
        cgroup.refuse_occupied()?;
        let made = cgroup.make_dirs().and_then(|()| match resources {
            Some(resources) => cgroup.update(resources),
            None => Ok(Vec::new()),
        });
        match made {
            Ok(unenforced) => cgroup.unenforced = unenforced,
            Err(error) => {
                // The first error is the one to report; what this removal leaves, the next create takes over.
                let _ = cgroup.remove();
                return Err(error);
            }
        }
        Ok(cgroup)
    }

    /// Opens a cgroup that was created earlier; it may lack some hierarchies, but not all.
    pub fn open(roots: &Roots, path: &str) -> Result<Cgroup, CgroupError> {
        let cgroup = Cgroup::at(roots, path)?;
        if !cgroup.dirs().iter().any(|dir| dir.is_dir()) {
            return Err(CgroupError::NotFound { path: cgroup.path });
        }
        Ok(cgroup)
    }

    /// Creates the cgroup without limits unless it is there, whoever is in it.
    pub fn ensure(roots: &Roots, path: &str) -> Result<Cgroup, CgroupError> {
        let cgroup = Cgroup::at(roots, path)?;
        cgroup.make_dirs()?;
        Ok(cgroup)
    }

    /// Opens what a new process needs to be born in the cgroup or to enter it.
    pub fn doors(&self) -> Result<Doors, CgroupError> {
        let tasks = self.roots.v1_mounts();
        let tasks = tasks.iter().map(|mount| door(&mount.join(&self.path).join("tasks")));
        let procs = self.v2_dir.as_ref().map(|dir| door(&dir.join("cgroup.procs")));
        let dir = self.v2_dir.as_ref().map(|dir| {
            let failed = |source| CgroupError::Read { file: dir.clone(), source };
            fs::File::open(dir).map_err(failed)
        });
        Ok(Doors {
            tasks: tasks.collect::<Result<_, _>>()?,
            procs: procs.transpose()?,
            dir: dir.transpose()?,
        })
    }

    /// Returns the limits that `create` was asked for and this host cannot enforce.
    pub fn unenforced(&self) -> &[Unenforced] {
        &self.unenforced
    }

    /// Returns the directory in the version 2 tree, for `CLONE_INTO_CGROUP`.
    pub fn v2_dir(&self) -> Option<&Path> {
        self.v2_dir.as_deref()
    }

    /// Returns the directory of a version 1 controller.
    pub fn v1_dir(&self, controller: &str) -> Option<PathBuf> {
        self.roots.v1_controller(controller).map(|mount| mount.join(&self.path))
    }

    /// Moves the calling process into the cgroup, in every hierarchy that it isn't in by its [`Birth`].
    ///
    /// The cloned, single-threaded child calls this: writing `0` to a version 1 `tasks` file moves the writer without
    /// the RCU wait that `cgroup.procs` costs. Once in, unshare the cgroup namespace.
    pub fn join(&self, birth: Birth) -> Result<(), CgroupError> {
        for mount in self.roots.v1_mounts() {
            files::write(&mount.join(&self.path).join("tasks"), "0")?;
        }
        if let (Birth::Outside, Some(dir)) = (birth, self.v2_dir()) {
            files::write(&dir.join("cgroup.procs"), "0")?;
        }
        Ok(())
    }

    /// Changes limits; keys that `resources` leaves out stay as they are.
    pub fn update(&self, resources: &LinuxResources) -> Result<Vec<Unenforced>, CgroupError> {
        let mut unenforced = v1::apply(self, resources)?;
        unenforced.extend(v2::apply(self, resources)?);
        Ok(unenforced)
    }

    /// Reads what the container uses now.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        stats::read(self)
    }

    /// Returns how many of the cgroup's processes the kernel killed for want of memory.
    pub fn oom_count(&self) -> Result<u64, CgroupError> {
        stats::oom_count(self)
    }

    /// Stops all processes; returns once the kernel says that they stand still.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        events::set_frozen(self, events::Freezer::Frozen)
    }

    /// Lets frozen processes go on.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        events::set_frozen(self, events::Freezer::Thawed)
    }

    /// Kills every process of the cgroup and of those below it. They may take a moment to go: see [`Self::remove`].
    pub fn kill(&self) -> Result<(), CgroupError> {
        events::kill(self)
    }

    /// Lists the processes of the cgroup and of those below it.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        events::processes(self)
    }

    /// Waits until the cgroup is empty, then removes it and those below it. An absent one is fine.
    ///
    /// Kills nobody: a cgroup that stays populated for five seconds is an error.
    pub fn remove(&self) -> Result<(), CgroupError> {
        events::remove(self)
    }

    /// Removes the cgroup wherever nothing is in it or below it, and waits for nothing.
    pub fn remove_if_empty(&self) {
        for dir in self.dirs() {
            // Whoever is still in it removes it later.
            let _ = fs::remove_dir(dir);
        }
    }

    /// Gives no controller to those below any more, unless they need it: a version 2 cgroup that does takes no process
    /// in. The next cgroup that is made below gets them again.
    pub fn take_controllers_back(&self) -> Result<(), CgroupError> {
        self.v2_dir().map_or(Ok(()), v2::take_controllers_back)
    }

    /// Returns the directory below each mount, version 2 last.
    pub(super) fn dirs(&self) -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> =
            self.roots.v1_mounts().iter().map(|mount| mount.join(&self.path)).collect();
        dirs.extend(self.v2_dir.clone());
        dirs
    }

    fn at(roots: &Roots, path: &str) -> Result<Cgroup, CgroupError> {
        let path = checked_path(path)?;
        let v2_dir = roots.v2_mount().map(|mount| mount.join(&path));
        Ok(Cgroup { roots: roots.clone(), path, v2_dir, unenforced: Vec::new() })
    }

    fn refuse_occupied(&self) -> Result<(), CgroupError> {
        for dir in self.dirs() {
            let occupied = files::read_optional(&dir.join("cgroup.procs"))?;
            if occupied.is_some_and(|processes| !processes.trim().is_empty()) {
                return Err(CgroupError::Occupied { dir });
            }
        }
        Ok(())
    }

    fn make_dirs(&self) -> Result<(), CgroupError> {
        for mount in self.roots.v1_mounts() {
            for dir in self.levels(mount) {
                make_dir(&dir)?;
                // A new cpuset is empty and takes no process until it has CPUs and nodes (cpuset(7)).
                v1::inherit_cpuset(&dir)?;
            }
        }
        if let Some(mount) = &self.roots.v2 {
            let mut parent = mount.clone();
            for dir in self.levels(mount) {
                v2::delegate_controllers(&parent)?;
                make_dir(&dir)?;
                parent = dir;
            }
        }
        Ok(())
    }

    /// Returns the directories from the first below `mount` down to the cgroup itself.
    fn levels(&self, mount: &Path) -> Vec<PathBuf> {
        let mut dir = mount.to_owned();
        self.path
            .split('/')
            .map(|part| {
                dir.push(part);
                dir.clone()
            })
            .collect()
    }
}

fn door(file: &Path) -> Result<fs::File, CgroupError> {
    let failed =
        |source| CgroupError::Write { file: file.to_owned(), value: "0".to_owned(), source };
    fs::OpenOptions::new().write(true).open(file).map_err(failed)
}

/// Returns the names of the cgroups right below `path`, in whatever hierarchy they are.
pub fn children(roots: &Roots, path: &str) -> BTreeSet<String> {
    let Ok(parent) = Cgroup::at(roots, path) else { return BTreeSet::new() };
    // A hierarchy without the parent has none.
    let entries = parent.dirs().into_iter().flat_map(fs::read_dir).flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn make_dir(dir: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(source) => Err(CgroupError::Create { dir: dir.to_owned(), source }),
    }
}

/// Refuses `..` and the root itself: `remove` on those would reach foreign cgroups.
fn checked_path(path: &str) -> Result<String, CgroupError> {
    let bad = || CgroupError::BadPath { path: path.to_owned() };
    let mut parts = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(bad)?),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(bad()),
        }
    }
    if parts.is_empty() {
        return Err(bad());
    }
    Ok(parts.join("/"))
}
