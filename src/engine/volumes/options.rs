//! `type`, `o` and `device` of the `local` driver: a folder of ours, a folder of the host, or a file system
//! of its own, which is mounted when a container first needs it and stays until the volume is removed.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags};

use crate::engine::error::EngineError;

/// Where a volume's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Folder,
    Bind(PathBuf),
    Mount(Filesystem),
}

/// What to mount on the volume's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filesystem {
    kind: String,
    device: String,
    attributes: MountAttrFlags,
    /// For the file system itself, mount(8).
    data: Vec<(String, Option<String>)>,
}

const FLAGS: [(&str, MountAttrFlags); 7] = [
    ("ro", MountAttrFlags::MOUNT_ATTR_RDONLY),
    ("nosuid", MountAttrFlags::MOUNT_ATTR_NOSUID),
    ("nodev", MountAttrFlags::MOUNT_ATTR_NODEV),
    ("noexec", MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ("noatime", MountAttrFlags::MOUNT_ATTR_NOATIME),
    ("nodiratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME),
    ("strictatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME),
];

impl Source {
    /// Reads the options; one that the driver doesn't have is an error.
    pub(crate) fn parse(options: &BTreeMap<String, String>) -> Result<Self, EngineError> {
        let invalid = |message: String| EngineError::Invalid { message };
        if let Some(unknown) =
            options.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device"))
        {
            return Err(invalid(format!(
                "invalid option for the local volume driver: \"{unknown}\": it has type, o and device"
            )));
        }
        let of = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
        let (kind, device) = (of("type"), of("device"));
        let words: Vec<&str> = of("o").split(',').filter(|word| !word.is_empty()).collect();
        if words.iter().any(|word| matches!(*word, "bind" | "rbind")) {
            if !device.starts_with('/') {
                return Err(invalid(format!(
                    "a bind volume needs an absolute path as `device`, not \"{device}\""
                )));
            }
            let other = words.iter().find(|word| !matches!(**word, "bind" | "rbind" | "rw"));
            if let Some(word) = other {
                return Err(invalid(format!(
                    "the option `{word}` of a bind volume has no effect here: say it at the mount, as in `:ro`"
                )));
            }
            return Ok(Self::Bind(device.into()));
        }
        if options.is_empty() {
            return Ok(Self::Folder);
        }
        if kind.is_empty() || kind == "none" || device.is_empty() {
            return Err(invalid(
                "missing required option: `type` and `device`, or `o=bind`".into(),
            ));
        }
        Ok(Self::Mount(Filesystem::parse(kind, device, &words)?))
    }
}

impl Filesystem {
    fn parse(kind: &str, device: &str, words: &[&str]) -> Result<Self, EngineError> {
        let mut attributes = MountAttrFlags::empty();
        let mut data = Vec::new();
        for word in words.iter().filter(|word| !matches!(**word, "rw" | "defaults")) {
            if let Some((_, flag)) = FLAGS.iter().find(|(name, _)| name == word) {
                attributes |= *flag;
                continue;
            }
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (*word, None),
            };
            // The kernel resolves no names, nfs(5) leaves that to mount.nfs.
            let is_address = value.as_deref().is_some_and(|text| text.parse::<IpAddr>().is_ok());
            if key == "addr" && !is_address {
                let message =
                    format!("`{word}`: give the server's IP address, as names may change");
                return Err(EngineError::Invalid { message });
            }
            data.push((key.to_owned(), value));
        }
        if matches!(kind, "nfs" | "nfs4") && !data.iter().any(|(key, _)| key == "addr") {
            let message =
                "an nfs volume needs the server's address, as in `o=addr=10.0.0.5`".into();
            return Err(EngineError::Invalid { message });
        }
        Ok(Self { kind: kind.to_owned(), device: device.to_owned(), attributes, data })
    }

    /// Mounts it on `folder` unless something is mounted there.
    pub(crate) fn ensure(&self, folder: &Path) -> Result<(), EngineError> {
        let doing = format!("mount {} {} on {}", self.kind, self.device, folder.display());
        if is_mount_point(folder).map_err(EngineError::io(doing.clone()))? {
            return Ok(());
        }
        self.mount(folder).map_err(|error| EngineError::io(doing)(error.into()))
    }

    fn mount(&self, folder: &Path) -> rustix::io::Result<()> {
        let context = rustix::mount::fsopen(self.kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(context.as_fd(), "source", self.device.as_str())?;
        for (key, value) in &self.data {
            match value {
                Some(value) => {
                    rustix::mount::fsconfig_set_string(context.as_fd(), key.as_str(), value)?;
                }
                None => rustix::mount::fsconfig_set_flag(context.as_fd(), key.as_str())?,
            }
        }
        rustix::mount::fsconfig_create(context.as_fd())?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let mount = rustix::mount::fsmount(context.as_fd(), flags, self.attributes)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&mount, "", rustix::fs::CWD, folder, flags)
    }
}

/// Unmounts a volume's own file system, if one is mounted.
pub(crate) fn unmount(folder: &Path) -> Result<(), EngineError> {
    let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
    match rustix::mount::unmount(folder, flags) {
        // Nothing is mounted there, or there is no folder.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(EngineError::io(format!("unmount {}", folder.display()))(error.into())),
    }
}

/// A mount point is on another device than its parent; statx(2) says so since Linux 5.8 in any case.
fn is_mount_point(folder: &Path) -> io::Result<bool> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
    let stat = rustix::fs::statx(CWD, folder, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Source, String> {
        let options =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Source::parse(&options).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bind_is_a_folder_of_the_host() {
        assert_eq!(parse(&[]), Ok(Source::Folder));
        let bind = parse(&[("type", "none"), ("o", "bind"), ("device", "/srv")]);
        assert_eq!(bind, Ok(Source::Bind("/srv".into())));
        assert!(parse(&[("o", "bind"), ("device", "srv")]).is_err());
        assert!(parse(&[("o", "bind,ro"), ("device", "/srv")]).unwrap_err().contains("`ro`"));
    }

    #[test]
    fn other_file_systems_are_checked_before_anything_is_mounted() {
        let tmpfs = parse(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,nosuid,uid=5")]);
        let Ok(Source::Mount(filesystem)) = tmpfs else { panic!("{tmpfs:?}") };
        assert_eq!(filesystem.attributes, MountAttrFlags::MOUNT_ATTR_NOSUID);
        assert_eq!(filesystem.data.len(), 2);
        let nfs = |o| parse(&[("type", "nfs"), ("device", ":/data"), ("o", o)]);
        assert!(nfs("addr=10.0.0.5,rw").is_ok());
        assert!(nfs("rw").unwrap_err().contains("address"));
        assert!(nfs("addr=nas.lan").unwrap_err().contains("IP address"));
        assert!(parse(&[("size", "1m")]).unwrap_err().contains("type, o and device"));
        assert!(parse(&[("type", "tmpfs")]).is_err());
    }
}
