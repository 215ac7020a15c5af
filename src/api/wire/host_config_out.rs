//! `HostConfig` as `inspect` shows it: what `host_config` reads, the other way round.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::spec::container::{
    ContainerSpec, Mount, MountKind, NetworkMode, PortSpec, Protocol, Resources, RestartPolicy,
};

/// Writes all keys that docker writes, in its order; clients read `null` and zero as "not set".
pub fn write(spec: &ContainerSpec) -> Value {
    let resources = &spec.resources;
    let mut host = json!({
        "Binds": or_null(binds(spec)),
        "ContainerIDFile": "",
        "LogConfig": {
            "Type": if spec.logging.driver.is_empty() { "json-file" } else { &spec.logging.driver },
            "Config": spec.logging.options,
        },
        "NetworkMode": network_mode(&spec.network_mode),
        "PortBindings": port_bindings(&spec.ports),
        "RestartPolicy": restart(spec.restart),
        "AutoRemove": spec.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": or_null(spec.volumes_from.clone()),
        "ConsoleSize": spec.console_size.unwrap_or((0, 0)),
    });
    if !spec.annotations.is_empty() {
        host["Annotations"] = json!(spec.annotations);
    }
    let rest = json!({
        "CapAdd": or_null(spec.cap_add.clone()),
        "CapDrop": or_null(spec.cap_drop.clone()),
        "CgroupnsMode": or(&spec.cgroupns_mode, "private"),
        "Dns": spec.dns,
        "DnsOptions": spec.dns_options,
        "DnsSearch": spec.dns_search,
        "ExtraHosts": or_null(spec.extra_hosts.clone()),
        "GroupAdd": or_null(spec.group_add.clone()),
        "IpcMode": or(&spec.ipc_mode, "private"),
        "Cgroup": "",
        "Links": or_null(spec.links.clone()),
        "OomScoreAdj": resources.oom_score_adj.unwrap_or(0),
        "PidMode": spec.pid_mode,
        "Privileged": spec.privileged,
        "PublishAllPorts": spec.publish_all,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": or_null(spec.security_opt.clone()),
        "UTSMode": spec.uts_mode,
        "UsernsMode": spec.userns_mode,
        "ShmSize": spec.shm_size.unwrap_or(64 << 20),
        "Runtime": spec.runtime.as_deref().unwrap_or("bargee"),
        "Isolation": "",
    });
    append(&mut host, rest);
    append(&mut host, limits(spec));
    optional(&mut host, spec);
    host
}

/// What docker writes only when it is set.
fn optional(host: &mut Value, spec: &ContainerSpec) {
    let mounts = long_mounts(spec);
    if !mounts.is_empty() {
        host["Mounts"] = json!(mounts);
    }
    let tmpfs = short_tmpfs(spec);
    if !tmpfs.is_empty() {
        host["Tmpfs"] = json!(tmpfs);
    }
    if !spec.sysctls.is_empty() {
        host["Sysctls"] = json!(spec.sysctls);
    }
    if spec.init {
        host["Init"] = json!(true);
    }
    // A client that re-creates the container sends back what it read; `null` is "docker's own".
    host["MaskedPaths"] = json!(spec.masked_paths);
    host["ReadonlyPaths"] = json!(spec.readonly_paths);
    host["BargeeProfile"] = json!(spec.profile);
}

fn limits(spec: &ContainerSpec) -> Value {
    let Resources {
        memory,
        memory_swap,
        memory_reservation,
        memory_swappiness,
        nano_cpus,
        cpu_shares,
        cpu_period,
        cpu_quota,
        cpuset_cpus,
        cpuset_mems,
        pids_limit,
        oom_kill_disable,
        blkio_weight,
        oom_score_adj: _,
    } = &spec.resources;
    let devices: Vec<Value> = spec
        .devices
        .iter()
        .map(|device| {
            json!({
                "PathOnHost": device.host,
                "PathInContainer": device.container,
                "CgroupPermissions": device.permissions,
            })
        })
        .collect();
    let ulimits: Vec<Value> = spec
        .ulimits
        .iter()
        .map(|(name, limit)| json!({ "Name": name, "Hard": limit.hard, "Soft": limit.soft }))
        .collect();
    json!({
        "CpuShares": cpu_shares.unwrap_or(0),
        "Memory": memory.unwrap_or(0),
        "NanoCpus": nano_cpus.unwrap_or(0),
        "CgroupParent": spec.cgroup_parent,
        "BlkioWeight": blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [],
        "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [],
        "CpuPeriod": cpu_period.unwrap_or(0),
        "CpuQuota": cpu_quota.unwrap_or(0),
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": cpuset_cpus.as_deref().unwrap_or(""),
        "CpusetMems": cpuset_mems.as_deref().unwrap_or(""),
        "Devices": devices,
        "DeviceCgroupRules": or_null(spec.device_cgroup_rules.clone()),
        "DeviceRequests": null,
        "MemoryReservation": memory_reservation.unwrap_or(0),
        "MemorySwap": memory_swap.unwrap_or_else(|| swap_of(memory.unwrap_or(0))),
        "MemorySwappiness": memory_swappiness,
        "OomKillDisable": oom_kill_disable,
        "PidsLimit": pids_limit,
        "Ulimits": ulimits,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    })
}

/// Memory and swap together, when a client limits the memory alone: as much swap again.
fn swap_of(memory: u64) -> i64 {
    i64::try_from(memory.saturating_mul(2)).unwrap_or(i64::MAX)
}

/// Returns the word that the client gave, as far as it is kept.
pub fn network_mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Default => "bridge".to_owned(),
        NetworkMode::Networks(name) => name.clone(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Container(container) => format!("container:{container}"),
    }
}

fn restart(policy: RestartPolicy) -> Value {
    let (name, max) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { max } => ("on-failure", max),
    };
    json!({ "Name": name, "MaximumRetryCount": max })
}

/// Returns `80/tcp`.
pub fn port(container: u16, protocol: Protocol) -> String {
    format!("{container}/{}", protocol_word(protocol))
}

pub fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

fn port_bindings(ports: &[PortSpec]) -> Value {
    let mut bindings: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for spec in ports {
        let host = match spec.host {
            (0, 0) => String::new(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let address = spec.host_ip.map_or_else(String::new, |address| address.to_string());
        bindings
            .entry(port(spec.container, spec.protocol))
            .or_default()
            .push(json!({ "HostIp": address, "HostPort": host }));
    }
    json!(bindings)
}

/// `-v` mounts. What was asked for by `--mount` and says nothing more looks the same.
fn binds(spec: &ContainerSpec) -> Vec<String> {
    spec.mounts.iter().filter_map(bind).collect()
}

fn bind(mount: &Mount) -> Option<String> {
    let (source, mut words) = match &mount.kind {
        MountKind::Bind { source, create_host_path: true, recursive: true, propagation } => {
            (source, vec![propagation.as_str()])
        }
        MountKind::Volume { name: Some(name), nocopy, subpath } if subpath.is_empty() => {
            (name, vec![if *nocopy { "nocopy" } else { "" }])
        }
        _ => return None,
    };
    words.push(if mount.read_only { "ro" } else { "" });
    words.retain(|word| !word.is_empty());
    let target = &mount.target;
    Some(if words.is_empty() {
        format!("{source}:{target}")
    } else {
        format!("{source}:{target}:{}", words.join(","))
    })
}

fn short_tmpfs(spec: &ContainerSpec) -> BTreeMap<&str, String> {
    spec.mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Tmpfs { size: 0, mode: None, options } => {
                Some((mount.target.as_str(), options.join(",")))
            }
            _ => None,
        })
        .collect()
}

fn long_mounts(spec: &ContainerSpec) -> Vec<Value> {
    spec.mounts.iter().filter(|mount| bind(mount).is_none()).filter_map(long_mount).collect()
}

fn long_mount(mount: &Mount) -> Option<Value> {
    let mut value = match &mount.kind {
        MountKind::Bind { source, create_host_path, recursive, propagation } => json!({
            "Type": "bind",
            "Source": source,
            "Target": mount.target,
            "BindOptions": {
                "Propagation": propagation,
                "NonRecursive": !recursive,
                "CreateMountpoint": create_host_path,
            },
        }),
        // An anonymous one of `Config.Volumes`.
        MountKind::Volume { name: None, .. } => return None,
        MountKind::Volume { name, nocopy, subpath } => json!({
            "Type": "volume",
            "Source": name,
            "Target": mount.target,
            "VolumeOptions": { "NoCopy": nocopy, "Subpath": subpath },
        }),
        MountKind::Tmpfs { size: 0, mode: None, .. } => return None,
        MountKind::Tmpfs { size, mode, .. } => json!({
            "Type": "tmpfs",
            "Target": mount.target,
            "TmpfsOptions": { "SizeBytes": size, "Mode": mode.unwrap_or(0o1777) },
        }),
    };
    if mount.read_only {
        value["ReadOnly"] = json!(true);
    }
    Some(value)
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

/// An empty Go slice that was never set is `null`.
pub fn or_null<T: serde::Serialize>(items: Vec<T>) -> Value {
    if items.is_empty() { Value::Null } else { json!(items) }
}

fn append(to: &mut Value, from: Value) {
    let (Value::Object(to), Value::Object(from)) = (to, from) else { return };
    to.extend::<Map<String, Value>>(from);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;
    use crate::api::wire::create;

    #[test]
    fn what_is_written_reads_back_to_the_same_container() {
        let asked = json!({
            "Image": "a",
            "HostConfig": {
                "Binds": ["/src:/data:ro", "cache:/cache:nocopy", "/p:/p:rshared,ro"],
                "Mounts": [
                    { "Type": "bind", "Source": "/m", "Target": "/n" },
                    { "Type": "tmpfs", "Target": "/t", "TmpfsOptions": { "SizeBytes": 4096 } },
                    { "Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": { "Subpath": "x" } },
                ],
                "Tmpfs": { "/run": "size=1m,mode=755" },
                "PortBindings": { "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "8080-8090" }], "53/udp": [{}] },
                "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 3 },
                "NetworkMode": "container:x",
                "Memory": 67108864, "MemorySwap": -1, "NanoCpus": 500000000, "PidsLimit": 7,
                "Ulimits": [{ "Name": "nofile", "Soft": 1, "Hard": 2 }],
                "Devices": [{ "PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "rw" }],
                "CapAdd": ["NET_ADMIN"], "SecurityOpt": ["no-new-privileges"], "Sysctls": { "net.x": "1" },
                "Init": true, "ShmSize": 1048576, "BargeeProfile": "strict", "Annotations": { "k": "v" },
                "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m" } },
            },
        });
        let spec = create::read(&asked).unwrap().spec;
        let again = json!({ "Image": "a", "HostConfig": write(&spec) });
        let mut back = create::read(&again).unwrap().spec;
        // Words that docker fills in.
        for mode in [&mut back.cgroupns_mode, &mut back.ipc_mode] {
            assert_eq!(mode, "private");
            mode.clear();
        }
        back.mounts.sort_by(|a, b| a.target.cmp(&b.target));
        let mut expected = spec;
        expected.mounts.sort_by(|a, b| a.target.cmp(&b.target));
        for mount in &mut expected.mounts {
            if let MountKind::Tmpfs { size: 4096, mode, .. } = &mut mount.kind {
                *mode = Some(0o1777);
            }
        }
        assert_eq!(back, expected);
    }
}
