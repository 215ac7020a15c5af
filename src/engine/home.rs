//! Which cgroup the engine works below: the one it was given, or the one in which containers of its root already run.
//!
//! A service manager gives us a cgroup of a unit's, an engine started by hand has none. Containers keep their cgroup as
//! long as they run, so an engine that was given another one than the last must go on with the last one's.

use std::fs;
use std::io;

use crate::engine::error::EngineError;
use crate::engine::paths::Paths;
use crate::runtime::cgroup::{Cgroup, Roots};

/// Returns `paths` with the home to use, and records it.
pub(crate) fn settle(paths: Paths, roots: &Roots) -> Result<Paths, EngineError> {
    let record = paths.home_record();
    let doing = |verb: &str| format!("{verb} {}", record.display());
    let last = match fs::read_to_string(&record) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(EngineError::io(doing("read"))(error)),
    };
    let last = paths.clone().at_home(&last);
    if last.home() != paths.home() && is_populated(roots, &last.cgroup_parent()) {
        tracing::info!(
            home = last.home(),
            asked = paths.home(),
            "containers run below another cgroup; it stays ours until they end"
        );
        return Ok(last);
    }
    fs::write(&record, paths.home()).map_err(EngineError::io(doing("write")))?;
    Ok(paths)
}

/// A boot ended whatever was there: then the cgroup is gone or empty.
fn is_populated(roots: &Roots, path: &str) -> bool {
    Cgroup::open(roots, path)
        .and_then(|parent| parent.processes())
        .is_ok_and(|processes| !processes.is_empty())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn the_home_of_running_containers_stays_until_they_end() {
        let folder = tempfile::tempdir().unwrap();
        let mount = folder.path().join("mount");
        let paths = Paths::new(folder.path().join("root"), folder.path().to_owned());
        let cgroup = mount.join(paths.cgroup_parent().trim_start_matches('/'));
        fs::create_dir_all(cgroup.join("abc")).unwrap();
        for file in [mount.join("cgroup.controllers"), cgroup.join("cgroup.procs")] {
            fs::write(file, "").unwrap();
        }
        fs::write(cgroup.join("abc/cgroup.procs"), "12\n").unwrap();
        let roots = Roots::detect(&mount).unwrap();

        let given = paths.clone().at_home("/x.scope");
        assert_eq!(settle(given.clone(), &roots).unwrap().home(), "", "one runs");
        fs::write(cgroup.join("abc/cgroup.procs"), "").unwrap();
        assert_eq!(settle(given, &roots).unwrap().home(), "/x.scope");
        assert_eq!(fs::read_to_string(paths.home_record()).unwrap(), "/x.scope");
        // The next one is told nothing, and none runs.
        assert_eq!(settle(paths, &roots).unwrap().home(), "");
    }
}
