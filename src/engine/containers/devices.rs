//! Devices of the host for a container: numbers are read from the host's nodes at each start.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::engine::error::EngineError;
use crate::engine::translate::ResolvedDevice;
use crate::spec::container::Device;

/// What a privileged container has of its own below /dev.
const OWN: [&str; 6] = ["pts", "shm", "fd", "mqueue", "console", ".udev"];

/// Returns the nodes that `devices` mean; a folder means all nodes below it.
pub(super) fn resolve(devices: &[Device]) -> Result<Vec<ResolvedDevice>, EngineError> {
    let mut all = Vec::new();
    for device in devices {
        let doing =
            || format!("gather information on the device {} for the container", device.host);
        let access = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
        if !access.chars().all(|letter| "rwm".contains(letter)) {
            let message = format!("invalid device mode: {access}: it is some of r, w and m");
            return Err(EngineError::Invalid { message });
        }
        // A link such as /dev/disk/by-id/… stands for its node.
        let host = fs::canonicalize(&device.host).map_err(EngineError::io(doing()))?;
        let inside = if device.container.is_empty() { &device.host } else { &device.container };
        let found = nodes(&host, Path::new(inside), access).map_err(EngineError::io(doing()))?;
        if found.is_empty() {
            let message = format!("{} is not a device node, nor a folder with one", device.host);
            return Err(EngineError::Invalid { message });
        }
        all.extend(found);
    }
    Ok(all)
}

/// Returns all nodes of the host, for a privileged container.
pub(super) fn all() -> Result<Vec<ResolvedDevice>, EngineError> {
    let mut found = Vec::new();
    let doing = || EngineError::io("list the host's devices");
    for entry in fs::read_dir("/dev").map_err(doing())? {
        let entry = entry.map_err(doing())?;
        let name = entry.file_name();
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        found.extend(nodes(&entry.path(), &entry.path(), "rwm").map_err(doing())?);
    }
    found.sort_by(|one: &ResolvedDevice, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Returns the node `host`, or those below it. Links are not followed, and what vanishes meanwhile is left out.
fn nodes(host: &Path, inside: &Path, access: &str) -> io::Result<Vec<ResolvedDevice>> {
    let metadata = match fs::symlink_metadata(host) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        metadata => metadata?,
    };
    let kind = metadata.file_type();
    if kind.is_dir() {
        let mut all = Vec::new();
        for entry in fs::read_dir(host)? {
            let entry = entry?;
            all.extend(nodes(&entry.path(), &inside.join(entry.file_name()), access)?);
        }
        return Ok(all);
    }
    if !kind.is_block_device() && !kind.is_char_device() {
        return Ok(Vec::new());
    }
    Ok(vec![ResolvedDevice {
        path: inside.to_string_lossy().into_owned(),
        block: kind.is_block_device(),
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
        mode: metadata.mode() & 0o777,
        access: access.to_owned(),
    }])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    fn device(host: &str, container: &str, permissions: &str) -> Device {
        Device { host: host.into(), container: container.into(), permissions: permissions.into() }
    }

    #[test]
    fn a_node_has_the_hosts_numbers_and_the_name_inside() {
        let found = resolve(&[device("/dev/null", "/dev/nothing", "r")]).unwrap();
        let [node] = &found[..] else { panic!("{found:?}") };
        assert_eq!((node.path.as_str(), node.major, node.minor), ("/dev/nothing", 1, 3));
        assert!(!node.block && node.access == "r");
    }

    #[test]
    fn what_is_no_device_is_refused() {
        assert!(resolve(&[device("/etc/hostname", "", "")]).is_err());
        assert!(resolve(&[device("/dev/nowhere", "", "")]).is_err());
        assert!(resolve(&[device("/dev/null", "", "rx")]).is_err());
    }

    #[test]
    fn a_privileged_container_gets_no_terminals_of_the_host() {
        let found = all().unwrap();
        assert!(found.iter().any(|node| node.path == "/dev/null"));
        assert!(!found.iter().any(|node| node.path.starts_with("/dev/pts/")));
    }
}
