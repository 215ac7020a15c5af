//! `HostConfig` of a create request.

use serde_json::Value;

use super::lenient::{InvalidBody, Object, invalid};
use crate::spec::container::{
    ContainerSpec, Device, Logging, Mount, MountKind, NetworkMode, PortSpec, Protocol, Resources,
    RestartPolicy, Ulimit,
};

pub(super) fn read(host: &mut Object<'_>, spec: &mut ContainerSpec) -> Result<(), InvalidBody> {
    spec.resources = resources(host)?;
    security(host, spec)?;
    namespaces(host, spec)?;
    mounts(host, spec)?;
    network(host, spec)?;
    let mut log = host.child("LogConfig")?;
    spec.logging = Logging { driver: log.text("Type")?, options: log.text_map("Config")? };
    spec.restart = restart(host)?;
    spec.auto_remove = host.flag("AutoRemove")?;
    spec.init = host.flag("Init")?;
    // `inspect` shows ours by this name; a client may send it back.
    spec.runtime = host.optional_text("Runtime")?.filter(|name| name != "bargee");
    spec.annotations = host.text_map("Annotations")?;
    spec.shm_size = host.unsigned("ShmSize")?;
    spec.sysctls = host.text_map("Sysctls")?;
    for mut limit in host.children("Ulimits")? {
        let soft = limit.number("Soft")?.unwrap_or(0);
        let hard = limit.number("Hard")?.unwrap_or(0);
        spec.ulimits.insert(limit.text("Name")?, Ulimit { soft, hard });
    }
    spec.console_size = match host.value("ConsoleSize") {
        None | Some(Value::Null) => None,
        Some(size) => {
            let [rows, columns]: [u16; 2] = serde_json::from_value(size.clone())
                .map_err(|_| invalid("HostConfig.ConsoleSize", "rows and columns", size))?;
            (rows > 0 && columns > 0).then_some((rows, columns))
        }
    };
    // Where the client wrote the id, on its own disk.
    host.value("ContainerIDFile");
    Ok(())
}

/// Reads limits; `POST /containers/{id}/update` has the same fields at its top.
pub(super) fn resources(host: &mut Object<'_>) -> Result<Resources, InvalidBody> {
    Ok(Resources {
        memory: host.unsigned("Memory")?,
        memory_swap: host.number("MemorySwap")?,
        memory_reservation: host.unsigned("MemoryReservation")?,
        // -1 is what clients send for "not set".
        memory_swappiness: host
            .number("MemorySwappiness")?
            .and_then(|value| u64::try_from(value).ok()),
        nano_cpus: host.unsigned("NanoCpus")?,
        cpu_shares: host.unsigned("CpuShares")?,
        cpu_period: host.unsigned("CpuPeriod")?,
        cpu_quota: host.number("CpuQuota")?,
        cpuset_cpus: host.optional_text("CpusetCpus")?,
        cpuset_mems: host.optional_text("CpusetMems")?,
        pids_limit: host.number("PidsLimit")?,
        oom_score_adj: narrow(host, "OomScoreAdj")?,
        oom_kill_disable: host.flag("OomKillDisable")?,
        blkio_weight: narrow(host, "BlkioWeight")?,
    })
}

fn narrow<T: TryFrom<i64>>(host: &mut Object<'_>, key: &str) -> Result<Option<T>, InvalidBody> {
    match host.number(key)? {
        None => Ok(None),
        Some(number) => match T::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(invalid(&host.at(key), "a smaller number", &Value::from(number))),
        },
    }
}

fn security(host: &mut Object<'_>, spec: &mut ContainerSpec) -> Result<(), InvalidBody> {
    spec.privileged = host.flag("Privileged")?;
    spec.cap_add = host.texts("CapAdd")?;
    spec.cap_drop = host.texts("CapDrop")?;
    spec.security_opt = host.texts("SecurityOpt")?;
    spec.read_only = host.flag("ReadonlyRootfs")?;
    spec.masked_paths = host.optional_texts("MaskedPaths")?;
    spec.readonly_paths = host.optional_texts("ReadonlyPaths")?;
    spec.group_add = host.texts("GroupAdd")?;
    spec.device_cgroup_rules = host.texts("DeviceCgroupRules")?;
    for mut device in host.children("Devices")? {
        spec.devices.push(Device {
            host: device.text("PathOnHost")?,
            container: device.text("PathInContainer")?,
            permissions: device.text("CgroupPermissions")?,
        });
    }
    Ok(())
}

fn namespaces(host: &mut Object<'_>, spec: &mut ContainerSpec) -> Result<(), InvalidBody> {
    spec.pid_mode = host.text("PidMode")?;
    spec.ipc_mode = host.text("IpcMode")?;
    spec.uts_mode = host.text("UTSMode")?;
    spec.cgroupns_mode = host.text("CgroupnsMode")?;
    spec.userns_mode = host.text("UsernsMode")?;
    spec.cgroup_parent = host.text("CgroupParent")?;
    Ok(())
}

fn network(host: &mut Object<'_>, spec: &mut ContainerSpec) -> Result<(), InvalidBody> {
    let mode = host.text("NetworkMode")?;
    spec.network_mode = match mode.as_str() {
        "" | "default" | "bridge" => NetworkMode::Default,
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        other => match other.strip_prefix("container:") {
            Some(container) => NetworkMode::Container(container.to_owned()),
            None => NetworkMode::Networks(mode),
        },
    };
    spec.publish_all = host.flag("PublishAllPorts")?;
    spec.extra_hosts = host.texts("ExtraHosts")?;
    spec.links = host.texts("Links")?;
    spec.dns = host.texts("Dns")?;
    spec.dns_search = host.texts("DnsSearch")?;
    spec.dns_options = host.texts("DnsOptions")?;
    let path = host.at("PortBindings");
    for (port, bindings) in host.entries("PortBindings")? {
        publish(&format!("{path}.{port}"), port, bindings, &mut spec.ports)?;
    }
    spec.ports.sort();
    spec.ports.dedup();
    Ok(())
}

fn publish(
    path: &str,
    port: &str,
    bindings: &Value,
    ports: &mut Vec<PortSpec>,
) -> Result<(), InvalidBody> {
    let wrong = |expected| invalid(path, expected, &Value::from(port));
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let container = number.parse().map_err(|_| wrong("a port number"))?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(wrong("tcp, udp or sctp")),
    };
    let bindings = match bindings {
        Value::Null => return Ok(()),
        Value::Array(bindings) => bindings,
        other => return Err(invalid(path, "a list of bindings", other)),
    };
    for (index, binding) in bindings.iter().enumerate() {
        let mut binding = Object::open(&format!("{path}[{index}]"), binding)?;
        let host_ip = match binding.optional_text("HostIp")? {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                invalid(&binding.at("HostIp"), "an address", &Value::from(text.as_str()))
            })?),
        };
        let written = binding.text("HostPort")?;
        let host = host_range(&written).ok_or_else(|| {
            invalid(&binding.at("HostPort"), "a port or a range", &Value::from(written.as_str()))
        })?;
        ports.push(PortSpec { container, protocol, host_ip, host });
    }
    Ok(())
}

fn host_range(text: &str) -> Option<(u16, u16)> {
    if text.is_empty() {
        return Some((0, 0));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

pub(super) fn restart(host: &mut Object<'_>) -> Result<RestartPolicy, InvalidBody> {
    let mut policy = host.child("RestartPolicy")?;
    let name = policy.text("Name")?;
    let max = narrow(&mut policy, "MaximumRetryCount")?.unwrap_or(0);
    match name.as_str() {
        "" | "no" => Ok(RestartPolicy::No),
        "always" => Ok(RestartPolicy::Always),
        "unless-stopped" => Ok(RestartPolicy::UnlessStopped),
        "on-failure" => Ok(RestartPolicy::OnFailure { max }),
        _ => Err(invalid(
            &policy.at("Name"),
            "no, always, unless-stopped or on-failure",
            &Value::from(name.as_str()),
        )),
    }
}

pub(super) fn anonymous_volume(target: &str) -> Mount {
    let kind = MountKind::Volume { name: None, nocopy: false, subpath: String::new() };
    Mount { target: target.to_owned(), read_only: false, kind }
}

fn mounts(host: &mut Object<'_>, spec: &mut ContainerSpec) -> Result<(), InvalidBody> {
    let path = host.at("Binds");
    for bind in host.texts("Binds")? {
        spec.mounts.push(parse_bind(&bind).ok_or_else(|| {
            invalid(
                &path,
                "source:target[:options] with an absolute target",
                &Value::from(bind.as_str()),
            )
        })?);
    }
    for (target, options) in host.text_map("Tmpfs")? {
        let options =
            options.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let kind = MountKind::Tmpfs { size: 0, mode: None, options };
        spec.mounts.push(Mount { target, read_only: false, kind });
    }
    spec.volumes_from = host.texts("VolumesFrom")?;
    for mut mount in host.children("Mounts")? {
        spec.mounts.push(long_mount(&mut mount)?);
    }
    Ok(())
}

/// `source:target[:words]`, as `docker run -v` sends it; a lone path is an anonymous volume.
fn parse_bind(text: &str) -> Option<Mount> {
    let mut parts = text.splitn(3, ':');
    let source = parts.next()?;
    let Some(target) = parts.next() else {
        return source.starts_with('/').then(|| anonymous_volume(source));
    };
    if !target.starts_with('/') || source.is_empty() {
        return None;
    }
    let words: Vec<&str> =
        parts.next().unwrap_or("").split(',').filter(|word| !word.is_empty()).collect();
    let known = |word: &&str| {
        matches!(*word, "ro" | "rw" | "nocopy" | "z" | "Z" | "cached" | "delegated" | "consistent")
            || is_propagation(word)
    };
    if !words.iter().all(known) {
        return None;
    }
    let propagation =
        words.iter().find(|word| is_propagation(word)).map_or("", |word| word).to_owned();
    let kind = if source.starts_with('/') {
        MountKind::Bind {
            source: source.to_owned(),
            create_host_path: true,
            recursive: true,
            propagation,
        }
    } else {
        let nocopy = words.contains(&"nocopy");
        MountKind::Volume { name: Some(source.to_owned()), nocopy, subpath: String::new() }
    };
    Some(Mount { target: target.to_owned(), read_only: words.contains(&"ro"), kind })
}

/// mount(8), "shared subtree operations".
fn is_propagation(word: &str) -> bool {
    matches!(word, "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave")
}

fn long_mount(mount: &mut Object<'_>) -> Result<Mount, InvalidBody> {
    let target = mount.text("Target")?;
    if !target.starts_with('/') {
        return Err(invalid(&mount.at("Target"), "an absolute path", &Value::from(target)));
    }
    let source = mount.optional_text("Source")?;
    let read_only = mount.flag("ReadOnly")?;
    let kind = mount.text("Type")?;
    let kind = match (kind.as_str(), source) {
        ("bind", Some(source)) => {
            let mut options = mount.child("BindOptions")?;
            MountKind::Bind {
                source,
                create_host_path: options.flag("CreateMountpoint")?,
                recursive: !options.flag("NonRecursive")?,
                propagation: options.text("Propagation")?,
            }
        }
        ("volume", name) => {
            let mut options = mount.child("VolumeOptions")?;
            MountKind::Volume {
                name,
                nocopy: options.flag("NoCopy")?,
                subpath: options.text("Subpath")?,
            }
        }
        ("tmpfs", None) => {
            let mut options = mount.child("TmpfsOptions")?;
            let mode = narrow(&mut options, "Mode")?;
            MountKind::Tmpfs {
                size: options.unsigned("SizeBytes")?.unwrap_or(0),
                mode,
                options: Vec::new(),
            }
        }
        (other, _) => {
            return Err(invalid(
                &mount.at("Type"),
                "bind with a source, volume, or tmpfs without one",
                &Value::from(other),
            ));
        }
    };
    Ok(Mount { target, read_only, kind })
}
