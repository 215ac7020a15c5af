//! What this machine is, read once at the engine's start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use crate::engine::error::EngineError;
use crate::runtime::capabilities;
use crate::runtime::cgroup::Roots;

/// Facts that don't change while the machine runs.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// Of /proc/sys/kernel/random/boot_id.
    pub(crate) boot_id: String,
    pub(crate) cgroups: Roots,
    /// Capabilities that we may give at all.
    pub(crate) bounding: BTreeSet<String>,
    /// Hard limits that we can't raise, by name (`nofile`); see setrlimit(2).
    pub(crate) hard_limits: BTreeMap<String, u64>,
    /// `thermal_throttle` of each CPU, which docker hides too.
    pub(crate) masked_too: Vec<String>,
    /// Path of our own binary.
    pub(crate) program: PathBuf,
    pub(crate) cpus: usize,
    /// Bytes.
    pub(crate) memory: u64,
}

/// Where the hierarchies are mounted.
pub(crate) const CGROUP_MOUNT: &str = "/sys/fs/cgroup";
const CPUS: &str = "/sys/devices/system/cpu";

/// Names as `--ulimit` has them.
const LIMITS: [(&str, Resource); 15] = [
    ("as", Resource::RLIMIT_AS),
    ("core", Resource::RLIMIT_CORE),
    ("cpu", Resource::RLIMIT_CPU),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("locks", Resource::RLIMIT_LOCKS),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("msgqueue", Resource::RLIMIT_MSGQUEUE),
    ("nice", Resource::RLIMIT_NICE),
    ("nofile", Resource::RLIMIT_NOFILE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("rss", Resource::RLIMIT_RSS),
    ("rtprio", Resource::RLIMIT_RTPRIO),
    ("sigpending", Resource::RLIMIT_SIGPENDING),
    ("stack", Resource::RLIMIT_STACK),
];

impl Machine {
    /// Reads them; `program` is the binary whose `__shim` and `__netd` the engine starts.
    pub(crate) fn read(program: PathBuf) -> Result<Self, EngineError> {
        let cgroups = Roots::detect(Path::new(CGROUP_MOUNT))
            .map_err(|error| EngineError::io("find the cgroups")(std::io::Error::other(error)))?;
        let bounding = capabilities::own_bounding().map_err(|error| {
            EngineError::io("read our own capabilities")(std::io::Error::other(error))
        })?;
        Ok(Self {
            boot_id: boot_id(Path::new("/proc/sys/kernel/random/boot_id"))?,
            cgroups,
            bounding: bounding.iter_names().map(|(name, _)| format!("CAP_{name}")).collect(),
            hard_limits: hard_limits(),
            masked_too: thermal_throttles(Path::new(CPUS)),
            program,
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: memory(),
        })
    }
}

fn boot_id(path: &Path) -> Result<String, EngineError> {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(EngineError::io(format!("read {}", path.display())))
}

/// Tries each limit, since a capability in a user namespace of our own raises nothing.
fn hard_limits() -> BTreeMap<String, u64> {
    let mut fixed = BTreeMap::new();
    for (name, resource) in LIMITS {
        let Ok((soft, hard)) = getrlimit(resource) else { continue };
        if hard == RLIM_INFINITY {
            continue;
        }
        if setrlimit(resource, soft, hard + 1).is_err() {
            fixed.insert(name.to_owned(), hard);
            continue;
        }
        // Lowering a hard limit is always allowed.
        let _ = setrlimit(resource, soft, hard);
    }
    // Even root can't open more than this, proc_sys_fs(5).
    if let Some(most) = number(Path::new("/proc/sys/fs/nr_open")) {
        let known = fixed.entry("nofile".to_owned()).or_insert(most);
        *known = (*known).min(most);
    }
    fixed
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Returns the folders that exist, as moby's `daemon/pkg/oci` hides them: they count events of the host.
fn thermal_throttles(cpus: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(cpus) else { return Vec::new() };
    let mut found: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            entry.file_name().to_str().and_then(|name| name.strip_prefix("cpu")).is_some_and(
                |digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
            )
        })
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.exists())
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    found.sort();
    found
}

fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    let (pages, unit) = (info.totalram as u64, u64::from(info.mem_unit));
    pages.saturating_mul(unit)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    #[test]
    fn this_machine_is_read_and_its_limits_are_left_as_they_were() {
        let before: Vec<_> = LIMITS.iter().map(|(_, limit)| getrlimit(*limit).unwrap()).collect();
        let machine = Machine::read("/bin/true".into()).unwrap();
        let after: Vec<_> = LIMITS.iter().map(|(_, limit)| getrlimit(*limit).unwrap()).collect();
        assert_eq!(before, after);
        assert_eq!(machine.boot_id.len(), 36);
        assert!(machine.cpus > 0 && machine.memory > 1 << 20);
        assert!(machine.bounding.iter().all(|name| name.starts_with("CAP_")));
        assert!(machine.hard_limits.contains_key("nofile"));
    }

    #[test]
    fn only_folders_of_cpus_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cpu0/thermal_throttle", "cpufreq/thermal_throttle", "cpu1"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let found = thermal_throttles(folder.path());
        assert_eq!(found, [folder.path().join("cpu0/thermal_throttle").to_string_lossy()]);
    }
}
