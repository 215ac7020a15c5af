//! Where everything of one engine lies: below a root that survives reboots and a run folder that need not.
//!
//! Names that a second engine could collide with (bridges, nft table, cgroups) carry the root's id.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub const DEFAULT_ROOT: &str = "/var/lib/bargee";
pub const DEFAULT_RUN: &str = "/run/bargee";

/// The layout of one engine's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
    run: PathBuf,
    id: String,
    /// The cgroup that was given to us, such as `/system.slice/x.scope`; empty for the root of each hierarchy.
    home: String,
}

impl Paths {
    /// Takes the folders as the caller got them (`--root`, `BARGEE_ROOT` or the default).
    pub fn new(root: PathBuf, run: PathBuf) -> Self {
        let id = root_id(&root);
        Self { root, run, id, home: String::new() }
    }

    /// Places all cgroups of ours below `home`, a path below each hierarchy's root.
    #[must_use]
    pub fn at_home(self, home: &str) -> Self {
        let home = home.trim_matches('/');
        let home = if home.is_empty() { String::new() } else { format!("/{home}") };
        Self { home, ..self }
    }

    /// Returns the cgroup that was given to us; empty when none was.
    pub fn home(&self) -> &str {
        &self.home
    }

    /// Says which home the containers that run have.
    pub fn home_record(&self) -> PathBuf {
        self.run.join("cgroup")
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Returns the six hex digits that tell this engine's kernel objects from another's.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn database(&self) -> PathBuf {
        self.root.join("state.db")
    }

    pub fn lock(&self) -> PathBuf {
        self.root.join("engine.lock")
    }

    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// Folders on their way out.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub fn container(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    pub fn container_log(&self, id: &str) -> PathBuf {
        self.container(id).join(format!("{id}-json.log"))
    }

    pub fn volume_data(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name).join("_data")
    }

    pub fn socket(&self) -> PathBuf {
        self.run.join("bargee.sock")
    }

    /// A file for each stack that is worked on.
    pub fn at_work(&self) -> PathBuf {
        self.run.join("at-work")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.run.join("engine.pid")
    }

    /// Returns the folder of the shim's socket, state and exit record.
    pub fn container_run(&self, id: &str) -> PathBuf {
        self.run.join("containers").join(id)
    }

    /// Returns the folder with a file for each container whose cgroup lies elsewhere than below
    /// [`Paths::cgroup_parent`].
    pub fn cgroups_elsewhere(&self) -> PathBuf {
        self.run.join("cgroups")
    }

    pub fn sandbox(&self, id: &str) -> PathBuf {
        self.run.join("netns").join(id)
    }

    /// Returns the cgroup that all containers of this root lie in, below each hierarchy's root.
    pub fn cgroup_parent(&self) -> String {
        format!("{}/bargee-{}", self.home, self.id)
    }

    /// Returns the cgroup of shims and netd, which outlive the engine: theirs must not be its own when a service
    /// manager looks after that. Without a home they stay where the engine is.
    pub fn cgroup_of_helpers(&self) -> Option<String> {
        (!self.home.is_empty()).then(|| format!("{}/shims-{}", self.home, self.id))
    }

    pub fn nft_table(&self) -> String {
        format!("bargee-{}", self.id)
    }
}

/// Returns six hex digits of the root path's sha256.
fn root_id(root: &Path) -> String {
    let digest = Sha256::digest(root.as_os_str().as_bytes());
    digest.iter().take(3).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_roots_share_no_kernel_name() {
        let one = Paths::new(DEFAULT_ROOT.into(), DEFAULT_RUN.into());
        let two = Paths::new("/tmp/other".into(), DEFAULT_RUN.into());
        assert_eq!(one.id().len(), 6);
        assert_ne!(one.cgroup_parent(), two.cgroup_parent());
        assert_ne!(one.nft_table(), two.nft_table());
        assert_eq!(one.id(), Paths::new(DEFAULT_ROOT.into(), "/elsewhere".into()).id());
    }

    #[test]
    fn cgroups_lie_below_the_home_that_was_given() {
        let paths = Paths::new("/r".into(), "/x".into());
        assert_eq!(paths.cgroup_of_helpers(), None);
        let id = paths.id().to_owned();
        assert_eq!(paths.cgroup_parent(), format!("/bargee-{id}"));
        let paths = paths.at_home("system.slice/b.service/");
        assert_eq!(paths.cgroup_parent(), format!("/system.slice/b.service/bargee-{id}"));
        assert_eq!(paths.cgroup_of_helpers(), Some(format!("/system.slice/b.service/shims-{id}")));
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let paths = Paths::new("/r".into(), "/run/x".into());
        assert_eq!(paths.database(), Path::new("/r/state.db"));
        assert_eq!(paths.volume_data("v"), Path::new("/r/volumes/v/_data"));
        assert_eq!(paths.container_run("c"), Path::new("/run/x/containers/c"));
        assert_eq!(paths.sandbox("c"), Path::new("/run/x/netns/c"));
    }
}
