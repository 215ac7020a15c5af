//! `POST /containers/create`: the body as a [`ContainerSpec`].
//!
//! Source of the fields: the Docker Engine API reference, v1.24 to v1.51, `ContainerCreate`.

use serde_json::Value;

use super::host_config;
use super::lenient::{InvalidBody, Object, invalid};
use crate::spec::container::{ContainerSpec, Endpoint, Healthcheck, NetworkMode, Profile};

/// A container as a client asked for it, and what we shall tell it that we don't do.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub spec: ContainerSpec,
    /// The response's `Warnings`: fields that were set and have no effect here.
    pub warnings: Vec<String>,
}

/// Reads the body of a create request.
///
/// # Errors
/// A field is of the wrong kind, or says something that no container can have; the API answers 400.
pub fn read(body: &Value) -> Result<Asked, InvalidBody> {
    let mut root = Object::open("", body)?;
    let mut spec = ContainerSpec {
        image: root.text("Image")?,
        entrypoint: root.optional_texts("Entrypoint")?,
        command: root.optional_texts("Cmd")?,
        env: root.texts("Env")?,
        working_dir: root.optional_text("WorkingDir")?,
        user: root.optional_text("User")?,
        hostname: root.optional_text("Hostname")?,
        domainname: root.optional_text("Domainname")?,
        labels: root.text_map("Labels")?,
        tty: root.flag("Tty")?,
        open_stdin: root.flag("OpenStdin")?,
        stdin_once: root.flag("StdinOnce")?,
        attach: [root.flag("AttachStdin")?, root.flag("AttachStdout")?, root.flag("AttachStderr")?],
        stop_signal: root.optional_text("StopSignal")?,
        // An explicit zero means "kill at once", so Go's zero rule does not apply.
        stop_timeout: root.value("StopTimeout").and_then(Value::as_i64),
        ..ContainerSpec::default()
    };
    // An empty list clears nothing: docker takes `Cmd: []` for "the image's".
    spec.command = spec.command.filter(|words| !words.is_empty());
    spec.entrypoint =
        spec.entrypoint.map(|words| words.into_iter().filter(|word| !word.is_empty()).collect());
    spec.healthcheck = healthcheck(&mut root)?;
    spec.exposed =
        root.entries("ExposedPorts")?.into_iter().map(|(port, _)| with_protocol(port)).collect();
    anonymous_volumes(&mut root, &mut spec)?;
    let mac = root.optional_text("MacAddress")?;

    let volumes = spec.mounts.len();
    let mut host = root.child("HostConfig")?;
    host_config::read(&mut host, &mut spec)?;
    // Clients name the target of a bind among the volumes too.
    let named = spec.mounts.split_off(volumes);
    spec.mounts.retain(|volume| named.iter().all(|mount| mount.target != volume.target));
    spec.mounts.extend(named);
    spec.profile = profile(&mut host)?;
    let mut networking = root.child("NetworkingConfig")?;
    endpoints(&mut networking, &mut spec, mac)?;

    let mut unread = root.unread();
    unread.extend(host.unread());
    unread.extend(networking.unread());
    let warnings =
        unread.into_iter().map(|path| format!("{path} has no effect on this engine")).collect();
    Ok(Asked { spec, warnings })
}

/// Our own addition, which our own command line sends.
fn profile(host: &mut Object<'_>) -> Result<Profile, InvalidBody> {
    match host.text("BargeeProfile")?.as_str() {
        "" | "docker" => Ok(Profile::Docker),
        "bargee" => Ok(Profile::Bargee),
        "strict" => Ok(Profile::Strict),
        other => {
            let path = host.at("BargeeProfile");
            Err(invalid(&path, "docker, bargee or strict", &Value::from(other)))
        }
    }
}

fn with_protocol(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}

fn healthcheck(root: &mut Object<'_>) -> Result<Option<Healthcheck>, InvalidBody> {
    if root.value("Healthcheck").is_none() {
        return Ok(None);
    }
    let mut check = root.child("Healthcheck")?;
    let retries = check.unsigned("Retries")?.unwrap_or(0);
    Ok(Some(Healthcheck {
        test: check.texts("Test")?,
        interval: check.unsigned("Interval")?.unwrap_or(0),
        timeout: check.unsigned("Timeout")?.unwrap_or(0),
        start_period: check.unsigned("StartPeriod")?.unwrap_or(0),
        start_interval: check.unsigned("StartInterval")?.unwrap_or(0),
        retries: u32::try_from(retries)
            .map_err(|_| invalid(&check.at("Retries"), "a count", &Value::from(retries)))?,
    }))
}

/// `Volumes: {"/data": {}}` asks for an anonymous volume at each path.
fn anonymous_volumes(root: &mut Object<'_>, spec: &mut ContainerSpec) -> Result<(), InvalidBody> {
    for (target, _) in root.entries("Volumes")? {
        spec.mounts.push(host_config::anonymous_volume(target));
    }
    Ok(())
}

/// `NetworkingConfig.EndpointsConfig`, over the network that `HostConfig.NetworkMode` names.
fn endpoints(
    networking: &mut Object<'_>,
    spec: &mut ContainerSpec,
    mac: Option<String>,
) -> Result<(), InvalidBody> {
    let path = networking.at("EndpointsConfig");
    for (name, value) in networking.entries("EndpointsConfig")? {
        let endpoint = endpoint(&format!("{path}.{name}"), value)?;
        // The command line names the default network by its mode.
        let name = if name == "default" { "bridge" } else { name };
        spec.networks.insert(name.to_owned(), endpoint);
    }
    if let NetworkMode::Networks(first) = &spec.network_mode {
        spec.networks.entry(first.clone()).or_default();
    } else if spec.network_mode == NetworkMode::Default
        && let Some(first) = spec.networks.keys().next().cloned()
        && first != "bridge"
    {
        // Clients before API 1.44 name the network only here.
        spec.network_mode = NetworkMode::Networks(first);
    }
    if let (Some(mac), NetworkMode::Networks(first)) = (mac, &spec.network_mode) {
        spec.networks.entry(first.clone()).or_default().mac.get_or_insert(mac);
    }
    Ok(())
}

/// One endpoint's settings.
///
/// # Errors
/// An address that is none.
pub fn endpoint(path: &str, value: &Value) -> Result<Endpoint, InvalidBody> {
    let mut settings = Object::open(path, value)?;
    let mut ipam = settings.child("IPAMConfig")?;
    Ok(Endpoint {
        aliases: settings.texts("Aliases")?,
        ipv4: address(&mut ipam, "IPv4Address", "an IPv4 address")?,
        ipv6: address(&mut ipam, "IPv6Address", "an IPv6 address")?,
        mac: settings.optional_text("MacAddress")?,
        driver_opts: settings.text_map("DriverOpts")?,
        gw_priority: settings.number("GwPriority")?.unwrap_or(0),
    })
}

fn address<T: std::str::FromStr>(
    ipam: &mut Object<'_>,
    key: &str,
    expected: &'static str,
) -> Result<Option<T>, InvalidBody> {
    match ipam.optional_text(key)? {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(invalid(&ipam.at(key), expected, &Value::from(text))),
        },
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::container::{MountKind, PortSpec, Protocol, RestartPolicy};

    #[test]
    fn keys_match_in_any_case_and_one_string_is_a_list_of_one() {
        let asked =
            read(&json!({"image": "busybox", "cmd": "ls", "ENV": null, "hostconfig": null}))
                .unwrap();
        assert_eq!(asked.spec.image, "busybox");
        assert_eq!(asked.spec.command, Some(vec!["ls".to_owned()]));
        assert_eq!(asked.warnings, Vec::<String>::new());
    }

    #[test]
    fn a_field_of_the_wrong_kind_is_named_with_its_path() {
        let error = read(&json!({"Image": "a", "HostConfig": {"Memory": "64m"}})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid JSON: HostConfig.Memory: expected a whole number, got \"64m\""
        );
    }

    #[test]
    fn a_field_without_effect_here_is_told_unless_it_is_zero() {
        let asked = read(&json!({
            "Image": "a",
            "HostConfig": {"CpuCount": 2, "CpuPercent": 0, "Isolation": ""},
            "ArgsEscaped": false,
        }));
        assert_eq!(asked.unwrap().warnings, ["HostConfig.CpuCount has no effect on this engine"]);
    }

    #[test]
    fn the_endpoint_of_the_default_network_is_the_bridges() {
        let body = json!({
            "Image": "a",
            "HostConfig": {"NetworkMode": "default"},
            "NetworkingConfig": {"EndpointsConfig": {"default": {}}},
        });
        let spec = read(&body).unwrap().spec;
        assert_eq!(spec.network_mode, NetworkMode::Default);
        assert_eq!(spec.networks.keys().collect::<Vec<_>>(), ["bridge"]);
    }

    #[test]
    fn a_bind_replaces_the_anonymous_volume_at_its_target() {
        let body = json!({
            "Image": "a", "Volumes": {"/v": {}, "/w": {}}, "HostConfig": {"Binds": ["data:/v"]},
        });
        let mounts = read(&body).unwrap().spec.mounts;
        let targets: Vec<&str> = mounts.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(targets, ["/w", "/v"]);
    }

    #[test]
    fn our_own_clients_choose_a_profile() {
        let profile = |word: &str| {
            read(&json!({"Image": "a", "HostConfig": {"BargeeProfile": word}}))
                .map(|asked| asked.spec.profile)
        };
        assert_eq!(profile(""), Ok(Profile::Docker));
        assert_eq!(profile("strict"), Ok(Profile::Strict));
        assert!(profile("lax").is_err());
    }

    #[test]
    fn ports_binds_and_policies_become_typed() {
        let asked = read(&json!({
            "Image": "a",
            "ExposedPorts": {"80/tcp": {}, "53": {}},
            "HostConfig": {
                "Binds": ["/src:/data:ro", "cache:/cache", "/anonymous"],
                "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "53/udp": [{"HostPort": ""}]},
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
                "NetworkMode": "front",
                "Memory": 67108864,
                "NanoCpus": 500000000,
            },
            "NetworkingConfig": {"EndpointsConfig": {"front": {"Aliases": ["w"], "IPAMConfig": {"IPv4Address": "10.0.0.5"}}}},
        }))
        .unwrap()
        .spec;
        assert_eq!(asked.restart, RestartPolicy::OnFailure { max: 3 });
        assert_eq!(asked.network_mode, NetworkMode::Networks("front".to_owned()));
        assert_eq!(asked.networks["front"].ipv4, Some("10.0.0.5".parse().unwrap()));
        assert_eq!(asked.exposed, ["80/tcp", "53/tcp"]);
        let web = PortSpec {
            container: 80,
            protocol: Protocol::Tcp,
            host_ip: Some("127.0.0.1".parse().unwrap()),
            host: (8080, 8080),
        };
        assert!(asked.ports.contains(&web), "{:?}", asked.ports);
        assert!(
            asked.ports.iter().any(|port| port.protocol == Protocol::Udp && port.host == (0, 0))
        );
        assert!(asked.mounts[0].read_only);
        assert!(
            matches!(&asked.mounts[1].kind, MountKind::Volume { name: Some(name), .. } if name == "cache")
        );
        assert_eq!(asked.mounts[2].target, "/anonymous");
        assert_eq!(asked.resources.memory, Some(64 << 20));
        assert_eq!(asked.resources.nano_cpus, Some(500_000_000));
    }
}
