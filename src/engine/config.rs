//! `/etc/bargee/config.toml`: every setting has a default; an unknown key is an error with its line.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;

pub use crate::protocol::{InvalidLogLevel, LogLevel};

pub const DEFAULT_PATH: &str = "/etc/bargee/config.toml";

/// The engine's settings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the engine logs.
    pub log_level: LogLevel,
    /// Addresses of the API besides the socket in the run folder, such as `tcp://127.0.0.1:2375`.
    pub listen: Vec<String>,
    /// Group that may open the socket; root alone when absent.
    pub socket_group: Option<String>,
    /// Also links `/var/run/docker.sock` to our socket when nothing is there.
    pub docker_socket: bool,
    pub containers: Containers,
    pub logs: Logs,
    pub network: Network,
    pub images: Images,
    /// The keeper's word, not the file's: engines crashed again and again, so that no stack's loop should act.
    #[serde(skip)]
    pub after_crashes: bool,
}

/// Defaults of a container that says nothing itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Containers {
    pub pids_limit: i64,
    /// Soft and hard limit of open files; never above the host's own hard limit.
    pub nofile: [u64; 2],
    /// Seconds between the stop signal and SIGKILL.
    pub stop_timeout: i64,
    /// Seconds that a client may stall who copies files of a container that does not run, and keeps it from being
    /// started or removed meanwhile.
    pub stalled_copy: u64,
    /// Bytes of /dev/shm.
    pub shm_size: u64,
    /// Path of another OCI runtime, by the name that `--runtime` takes.
    pub runtimes: BTreeMap<String, PathBuf>,
}

/// Rotation of json-file logs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logs {
    /// Bytes; zero never rotates.
    pub max_size: u64,
    pub max_files: u32,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Networks without a subnet take a block of `size` bits out of the first pool with room.
    pub pools: Vec<Pool>,
    /// Upstream resolvers; the host's own when empty.
    pub dns: Vec<IpAddr>,
    /// What `host-gateway` means; the default bridge's gateway when absent.
    pub host_gateway: Option<IpAddr>,
    pub mtu: u32,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    pub base: IpNet,
    pub size: u8,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Images {
    /// Layers of one pull that are fetched at once.
    pub parallel_downloads: u32,
    /// Registries that are spoken to without TLS; loopback always may be.
    pub insecure: Vec<String>,
    /// Mirrors to try first, by registry.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Bytes that images and build cache may take; zero is no limit.
    pub quota: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log_level: LogLevel::info(),
            listen: Vec::new(),
            socket_group: None,
            docker_socket: true,
            containers: Containers::default(),
            logs: Logs::default(),
            network: Network::default(),
            images: Images::default(),
            after_crashes: false,
        }
    }
}

impl Default for Containers {
    fn default() -> Self {
        Self {
            pids_limit: 4096,
            nofile: [1024, 524_288],
            stop_timeout: 10,
            stalled_copy: 60,
            shm_size: 64 << 20,
            runtimes: BTreeMap::new(),
        }
    }
}

impl Default for Logs {
    fn default() -> Self {
        Self { max_size: 10 << 20, max_files: 3 }
    }
}

impl Default for Network {
    /// Docker's own pools: 172.17–31 as /16, then 192.168 as /20.
    fn default() -> Self {
        let pool =
            |base: &str, size| Pool { base: base.parse().expect("the literal is a subnet"), size };
        let mut pools: Vec<Pool> =
            (17..=31).map(|n| pool(&format!("172.{n}.0.0/16"), 16)).collect();
        pools.push(pool("192.168.0.0/16", 20));
        Self { pools, dns: Vec::new(), host_gateway: None, mtu: 1500 }
    }
}

impl Default for Images {
    fn default() -> Self {
        Self { parallel_downloads: 4, insecure: Vec::new(), mirrors: BTreeMap::new(), quota: 0 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The message of `source` holds line, column and the line's text.
    #[error("{} is no valid configuration", path.display())]
    Parse { path: PathBuf, source: toml::de::Error },
    #[error("{}: network.pools[{index}]: size {size} is not between {base} and a host's own length", path.display())]
    PoolSize { path: PathBuf, index: usize, size: u8, base: IpNet },
}

/// Reads the file at `path`. A missing one gives the defaults, unless the user named it.
pub fn load(path: &Path, named: Named) -> Result<Config, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound && named == Named::ByDefault => {
            Ok(Config::default())
        }
        Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
    }
}

/// Who chose the path of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    ByDefault,
    ByUser,
}

/// Parses the text of the file that messages call `path`.
pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let config: Config = toml::from_str(text)
        .map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
    for (index, pool) in config.network.pools.iter().enumerate() {
        if pool.size < pool.base.prefix_len() || pool.size > pool.base.max_prefix_len() - 2 {
            let (path, size, base) = (path.to_owned(), pool.size, pool.base);
            return Err(ConfigError::PoolSize { path, index, size, base });
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use std::error::Error as _;

    use super::*;

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config = parse(Path::new("c"), "").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.logs, Logs { max_size: 10_485_760, max_files: 3 });
    }

    #[test]
    fn a_section_keeps_the_defaults_of_what_it_leaves_out() {
        let config = parse(Path::new("c"), "[logs]\nmax_files = 9\n").unwrap();
        assert_eq!(config.logs, Logs { max_files: 9, ..Logs::default() });
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let error = parse(Path::new("c"), "[logs]\nmax_files = 9\nmax_flies = 1\n").unwrap_err();
        let detail = error.source().unwrap().to_string();
        assert!(detail.contains("line 3") && detail.contains("max_flies"), "{detail}");
    }

    #[test]
    fn an_unknown_log_level_is_an_error_that_lists_the_known_ones() {
        let error = parse(Path::new("c"), "log_level = \"loud\"\n").unwrap_err();
        let detail = error.source().unwrap().to_string();
        assert!(detail.contains("line 1") && detail.contains("info, debug or trace"), "{detail}");
    }

    #[test]
    fn a_pool_that_cannot_be_split_is_refused() {
        let text = "[[network.pools]]\nbase = \"10.0.0.0/16\"\nsize = 8\n";
        assert!(matches!(parse(Path::new("c"), text), Err(ConfigError::PoolSize { index: 0, .. })));
    }

    #[test]
    fn only_a_path_that_the_user_named_must_exist() {
        let path = Path::new("/nonexistent/config.toml");
        assert_eq!(load(path, Named::ByDefault).unwrap(), Config::default());
        assert!(matches!(load(path, Named::ByUser), Err(ConfigError::Read { .. })));
    }
}
