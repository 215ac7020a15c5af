//! Mounts, volumes and devices.

use serde_json::{Map, Value, json};

use super::{Body, mounts, pairs};
use crate::cli::error::CliError;
use crate::spec::value::size;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct StorageFlags {
    /// Mount a folder or a volume: [SOURCE:]TARGET[:OPTIONS]
    #[arg(short, long, value_name = "VOLUME")]
    volume: Vec<String>,
    /// Mount, in fields: type=bind,source=…,target=…
    #[arg(long, value_name = "FIELDS")]
    mount: Vec<String>,
    /// Mount a tmpfs: PATH[:OPTIONS]
    #[arg(long, value_name = "PATH")]
    tmpfs: Vec<String>,
    /// Mount what another container mounts
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<String>,
    /// Driver of volumes that are created
    #[arg(long, value_name = "DRIVER")]
    volume_driver: Option<String>,
    /// Option of the root's storage
    #[arg(long, value_name = "NAME=VALUE")]
    storage_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// Device of the host: HOST[:CONTAINER[:PERMISSIONS]]
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// Rule for devices, as in c 1:3 rwm
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
    /// GPUs: all, a number, or device=ID
    #[arg(long, value_name = "GPUS")]
    gpus: Option<String>,
}

impl StorageFlags {
    pub(super) fn put(&self, body: &mut Body) -> Result<(), CliError> {
        let (mut binds, mut anonymous) = (Vec::new(), Map::new());
        for word in &self.volume {
            match word.split_once(':') {
                None => {
                    anonymous.insert(word.clone(), json!({}));
                }
                Some((source, rest)) => {
                    // Words that begin with a dot or a slash are folders here; others are volumes.
                    let source = if source.starts_with('.') {
                        absolute(source)
                            .map_err(|why| CliError::Usage(format!("-v {word}: {why}")))?
                    } else {
                        source.to_owned()
                    };
                    binds.push(format!("{source}:{rest}"));
                }
            }
        }
        body.host("Binds", binds);
        body.config("Volumes", anonymous);
        let mounts: Vec<Value> =
            self.mount.iter().map(|text| mounts::read(text)).collect::<Result<_, _>>()?;
        body.host("Mounts", mounts);
        let tmpfs: Map<String, Value> = self
            .tmpfs
            .iter()
            .map(|word| word.split_once(':').unwrap_or((word, "")))
            .map(|(path, options)| (path.to_owned(), Value::from(options)))
            .collect();
        body.host("Tmpfs", tmpfs);
        body.host("VolumesFrom", self.volumes_from.clone());
        body.host("VolumeDriver", self.volume_driver.clone());
        body.host("StorageOpt", pairs(&self.storage_opt));
        if let Some(text) = &self.shm_size {
            body.host("ShmSize", size::parse(text)?);
        }
        let devices: Vec<Value> =
            self.device.iter().map(|word| device(word)).collect::<Result<_, _>>()?;
        body.host("Devices", devices);
        body.host("DeviceCgroupRules", self.device_cgroup_rule.clone());
        if let Some(text) = &self.gpus {
            body.host("DeviceRequests", vec![gpus(text)?]);
        }
        Ok(())
    }
}

/// Returns `path` without dots, from our current folder.
pub(super) fn absolute(path: &str) -> Result<String, String> {
    let current = std::env::current_dir()
        .map_err(|error| format!("cannot find the current folder: {error}"))?;
    let path = current.join(path);
    let text = path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))?;
    Ok(crate::spec::value::mount::clean(text))
}

fn device(word: &str) -> Result<Value, CliError> {
    let mut parts = word.splitn(3, ':');
    let host = parts.next().unwrap_or("");
    if !host.starts_with('/') {
        return Err(CliError::Usage(format!(
            "--device {word}: expected a path, as in /dev/fuse (names of CDI devices are not supported)"
        )));
    }
    let (container, permissions) = match (parts.next(), parts.next()) {
        (Some(container), Some(permissions)) => (container, permissions),
        (Some(word), None) if word.starts_with('/') => (word, "rwm"),
        (Some(permissions), None) => (host, permissions),
        (None, _) => (host, "rwm"),
    };
    if permissions.is_empty() || !permissions.chars().all(|letter| "rwm".contains(letter)) {
        return Err(CliError::Usage(format!("--device {word}: permissions are some of rwm")));
    }
    Ok(json!({"PathOnHost": host, "PathInContainer": container, "CgroupPermissions": permissions}))
}

/// Reads `all`, a count, or fields: `device=ID`, `count=N`, `driver=…`, `capabilities=…`.
fn gpus(text: &str) -> Result<Value, CliError> {
    let wrong = || {
        CliError::Usage(format!(
            "--gpus {text}: expected all, a number, or device=, count=, driver="
        ))
    };
    let count = |value: &str| match value {
        "all" => Ok(-1),
        number => number.parse::<i64>().map_err(|_| wrong()),
    };
    let mut request = json!({"Driver": "", "Capabilities": [["gpu"]]});
    for field in mounts::fields(text)? {
        match field.split_once('=') {
            None => request["Count"] = json!(count(&field)?),
            Some(("count", value)) => request["Count"] = json!(count(value)?),
            Some(("driver", value)) => request["Driver"] = json!(value),
            Some(("device", value)) => {
                request["DeviceIDs"] = json!(value.split(',').collect::<Vec<_>>());
            }
            Some(("capabilities", value)) => {
                let words: Vec<&str> = std::iter::once("gpu").chain(value.split(',')).collect();
                request["Capabilities"] = json!([words]);
            }
            Some(_) => return Err(wrong()),
        }
    }
    Ok(request)
}
