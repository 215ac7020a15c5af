//! What the user has to know about the engine's disk and about other firewalls, as `info` and `ps` tell it.

use std::path::Path;

use rustix::fs::StatVfsMountFlags;

use crate::engine::core::Engine;
use crate::engine::state::Place;

/// With less than this, images can't be unpacked and logs soon can't be written.
const LITTLE: u64 = 16 << 20;

impl Engine {
    /// Returns a sentence for each thing that is wrong with the disk of the root or of the run folder, or that
    /// keeps networks closed.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Place::Copy { of, at } = self.state_place() {
            warnings.push(format!(
                "{} is on a read-only disk: the engine works on a copy, {}, which is lost at the next boot; make the \
                 disk writable and restart the engine",
                of.display(),
                at.display()
            ));
        }
        warnings.extend(read_only(self.paths.run()));
        warnings.extend([self.paths.root(), self.paths.run()].into_iter().filter_map(little_room));
        warnings.extend(self.networks.firewall_warning());
        warnings
    }
}

fn read_only(folder: &Path) -> Option<String> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    disk.f_flag.contains(StatVfsMountFlags::RDONLY).then(|| {
        format!(
            "{} is on a read-only disk: no container can be started; make the disk writable",
            folder.display()
        )
    })
}

fn little_room(folder: &Path) -> Option<String> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let no_files = disk.f_files > 0 && disk.f_favail == 0;
    let what = match (free < LITTLE, no_files) {
        (true, _) => format!("has {free} bytes free"),
        (_, true) => "has no room for another file".to_owned(),
        _ => return None,
    };
    let hint = "make room there, such as by `bargee system prune`";
    Some(format!("the disk of {} {what}: {hint}", folder.display()))
}
