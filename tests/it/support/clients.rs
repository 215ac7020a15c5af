//! Where stock clients of docker's API are: named by a variable, installed, or where `make deps` unpacked them.
#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where Debian, Ubuntu and docker put compose.
const PLUGINS: [&str; 3] = [
    "/usr/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
];

/// Returns docker's command line, or says why the test is skipped.
pub fn docker() -> Option<PathBuf> {
    // Looked for once, as every command of a test asks.
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let unpacked = cache().join("usr/bin/docker");
        first("DOCKER", [PathBuf::from("docker"), unpacked], |path| {
            Command::new(path).arg("--version").output().is_ok_and(|output| output.status.success())
        })
    });
    told(
        found.clone(),
        "docker's command line is not installed; `make deps` installs it, or name it in DOCKER",
    )
}

/// Returns the plugin docker-compose of version 2.
pub fn compose() -> Option<PathBuf> {
    let found = PLUGINS.map(|folder| Path::new(folder).join("docker-compose"));
    let unpacked =
        PLUGINS.map(|folder| cache().join(folder.trim_start_matches('/')).join("docker-compose"));
    let found = first("DOCKER_COMPOSE", found.into_iter().chain(unpacked), Path::exists);
    told(found, "docker compose v2 is not in this release; name its plugin in DOCKER_COMPOSE")
}

/// Returns a python that has docker-py.
pub fn python() -> Option<PathBuf> {
    let found = first("DOCKER_PY", ["python3", "/usr/bin/python3"].map(PathBuf::from), |path| {
        Command::new(path)
            .args(["-c", "import docker"])
            .output()
            .is_ok_and(|output| output.status.success())
    });
    told(
        found,
        "docker-py is not installed; `make deps` installs it, or name a python in DOCKER_PY",
    )
}

/// The folder that `tests/install-clients` unpacks to.
fn cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map_or("/root".into(), PathBuf::from).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("bargee-tests")
}

fn first(
    variable: &str,
    known: impl IntoIterator<Item = PathBuf>,
    works: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    if let Some(set) = std::env::var_os(variable).map(PathBuf::from) {
        assert!(works(&set), "{variable} names {}, which does not work", set.display());
        return Some(set);
    }
    known.into_iter().find(|path| works(path))
}

fn told(found: Option<PathBuf>, why: &str) -> Option<PathBuf> {
    if found.is_none() {
        eprintln!("skipped: {why}");
    }
    found
}
