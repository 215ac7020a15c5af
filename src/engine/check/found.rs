//! What the kernel and the disk have of this root.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::things::Thing;
use super::wanted::Wanted;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::state::containers::Container;
use crate::engine::state::{addresses, ports};
use crate::runtime::cgroup;

impl Engine {
    /// Looks at everything.
    ///
    /// # Errors
    /// The kernel doesn't tell.
    pub(super) async fn found_things(
        &self,
        wanted: &Wanted,
    ) -> Result<BTreeSet<Thing>, EngineError> {
        let mut found = BTreeSet::new();
        let present = self.networks_present().await?;
        let is_wanted = |link: &String| {
            self.owns_link(link) || wanted.must.contains(&Thing::Link(link.clone()))
        };
        found.extend(present.links.into_iter().filter(is_wanted).map(Thing::Link));
        found.extend(present.sandboxes.into_iter().map(Thing::Sandbox));
        found.extend(present.rules.into_iter().map(Thing::Rule));
        if let Some(report) = present.netd {
            let port = |(address, protocol)| Thing::Port { address, protocol };
            found.extend(report.held.into_iter().map(port));
            found.extend(report.resolvers.into_iter().map(Thing::Resolver));
        }
        tokio::task::block_in_place(|| self.find_here(wanted, &mut found))?;
        Ok(found)
    }

    fn find_here(&self, wanted: &Wanted, found: &mut BTreeSet<Thing>) -> Result<(), EngineError> {
        self.find_mounts(found)?;
        self.find_cgroups(wanted, found);
        self.find_processes(found)?;
        self.find_files(found);
        self.find_promises(found)?;
        let ids = self.store.images()?;
        // One that lacks a file is not there, and what is needless can't be told beside it.
        let whole = ids.iter().filter(|id| self.store.image(id).is_ok());
        let before = found.len();
        found.extend(whole.map(|id| Thing::Image(id.to_string())));
        if found.len() - before == ids.len() {
            // While an image is added, its content belongs to nothing yet.
            let needless = self.store.leftovers()?.unwrap_or_default();
            found.extend(needless.into_iter().map(Thing::Content));
        }
        Ok(())
    }

    /// Mounts below the root or the run folder, pinned namespaces aside.
    fn find_mounts(&self, found: &mut BTreeSet<Thing>) -> Result<(), EngineError> {
        let table = Path::new("/proc/thread-self/mountinfo");
        let text = fs::read(table).map_err(EngineError::io("read the table of mounts"))?;
        for (ours, place) in self.places() {
            let pins = place.join("netns");
            for point in text.split(|byte| *byte == b'\n').filter_map(mount_point) {
                let below = point.strip_prefix(&place).ok().filter(|rest| *rest != Path::new(""));
                if let Some(below) = below.filter(|_| !point.starts_with(&pins)) {
                    found.insert(Thing::Mount(ours.join(below)));
                }
            }
        }
        Ok(())
    }

    /// Root and run folder as they are called, and as the kernel calls them.
    fn places(&self) -> Vec<(PathBuf, PathBuf)> {
        let places = [self.paths.root(), self.paths.run()];
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        places.iter().map(|path| ((*path).to_owned(), real(path))).collect()
    }

    fn find_cgroups(&self, wanted: &Wanted, found: &mut BTreeSet<Thing>) {
        let parent = self.paths.cgroup_parent();
        let below = cgroup::children(&self.machine.cgroups, &parent);
        found.extend(below.iter().map(|name| Thing::Cgroup(format!("{parent}/{name}"))));
        // Those whose parent is the container's own choice.
        for thing in wanted.must.iter().chain(&wanted.may) {
            if let Thing::Cgroup(path) = thing
                && cgroup::Cgroup::open(&self.machine.cgroups, path).is_ok()
            {
                found.insert(thing.clone());
            }
        }
        let is_there = |path: &str| cgroup::Cgroup::open(&self.machine.cgroups, path).is_ok();
        if is_there(&parent) {
            found.insert(Thing::Cgroup(parent));
        }
        for (container, path) in self.cgroups_elsewhere() {
            // Its name is the container's id: nobody else's.
            if path.ends_with(&format!("/{container}")) && is_there(&path) {
                found.insert(Thing::Cgroup(path));
            } else if self.handle(&container).is_none() {
                found.insert(Thing::File(self.paths.cgroups_elsewhere().join(container)));
            }
        }
    }

    /// Our own program as shim or netd of this root, and children of ours that nobody waits for.
    fn find_processes(&self, found: &mut BTreeSet<Thing>) -> Result<(), EngineError> {
        let containers = self.paths.container_run("");
        let netd = self.paths.run().join("netd/state.json");
        for entry in fs::read_dir("/proc").map_err(EngineError::io("list the processes"))? {
            let Ok(entry) = entry else { continue };
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
            let Some(pid) = pid else { continue };
            // A process may end while we look.
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            if line.is_empty() {
                found.extend(own_zombie(pid, &entry.path()));
                continue;
            }
            let words: Vec<&Path> = line
                .split(|byte| *byte == 0)
                .map(|word| Path::new(std::ffi::OsStr::from_bytes(word)))
                .collect();
            let Some(role) = words.get(1).filter(|_| self.is_our_program(&entry.path())) else {
                continue;
            };
            if *role == Path::new("__netd") && words.get(2) == Some(&netd.as_path()) {
                found.insert(Thing::Netd { pid });
            }
            let run = words.iter().skip(2).find_map(|word| word.strip_prefix(&containers).ok());
            if let Some(container) = run.filter(|_| *role == Path::new("__shim")) {
                let container = container.to_string_lossy().into_owned();
                found.insert(Thing::Shim { container, pid });
            }
        }
        Ok(())
    }

    /// A binary that an upgrade replaced is still ours.
    fn is_our_program(&self, process: &Path) -> bool {
        let Ok(program) = fs::read_link(process.join("exe")) else { return false };
        let bytes = program.into_os_string().into_vec();
        let path = bytes.strip_suffix(b" (deleted)").unwrap_or(&bytes);
        path == self.machine.program.as_os_str().as_bytes()
    }

    fn find_files(&self, found: &mut BTreeSet<Thing>) {
        let (root, run) = (self.paths.root(), self.paths.run());
        let folders = [
            root.join("containers"),
            root.join("volumes"),
            root.join("trash"),
            run.join("containers"),
            self.paths.at_work(),
        ];
        // A folder that is not there yet holds nothing.
        let all = folders.iter().flat_map(fs::read_dir).flatten().flatten();
        found.extend(all.map(|entry| Thing::File(entry.path())));
    }

    fn find_promises(&self, found: &mut BTreeSet<Thing>) -> Result<(), EngineError> {
        let mut owners = self.network_account().port_owners;
        // A container that starts has its ports before it is connected, as one that stops has for a moment more.
        for row in self.handles().iter().map(|handle| handle.row()) {
            if row.phase.is_intent() {
                owners.extend(port_owners(&row));
            }
        }
        for (owner, port) in self.read(ports::list)? {
            if !owners.contains(&owner) {
                found.insert(Thing::PromisedPort { owner, port });
            }
        }
        for (container, address) in self.read(addresses::list)? {
            if self.handle(&container).is_none() {
                found.insert(Thing::PromisedAddress { container, address });
            }
        }
        Ok(())
    }
}

/// Names that a container may have host ports under.
fn port_owners(row: &Container) -> impl Iterator<Item = String> + use<> {
    let service = row.replica.as_ref().map(|one| format!("{}/{}", one.stack, one.service));
    service.into_iter().chain([row.id.clone()])
}

/// Reads the fifth field of a line, where a space is `\040` (proc_pid_mountinfo(5)).
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                rest = &after[3..];
            }
            None => {
                path.push(*first);
                rest = after;
            }
        }
    }
    Some(std::ffi::OsString::from_vec(path).into())
}

fn own_zombie(pid: i32, process: &Path) -> Option<Thing> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let (name, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let is_zombie = fields.next() == Some("Z");
    let parent: u32 = fields.next()?.parse().ok()?;
    let program = name.split_once('(').map_or("", |(_, name)| name).to_owned();
    (is_zombie && parent == std::process::id()).then_some(Thing::Zombie { pid, program })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_may_hold_spaces() {
        let line = br"36 35 98:0 /a /run/my\040place\134x rw shared:1 - tmpfs tmpfs rw";
        assert_eq!(mount_point(line), Some(PathBuf::from(r"/run/my place\x")));
        assert_eq!(mount_point(b""), None);
    }
}
