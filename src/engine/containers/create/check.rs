//! Whether a spec can become a container at all; what can't is refused in docker's words. Pure.

use crate::engine::error::EngineError;
use crate::engine::merge::{self, ImageFacts};
use crate::engine::signals;
use crate::engine::translate::TranslateError;
use crate::images::ImageConfig;
use crate::images::platform::Platform;
use crate::spec::container::{ContainerSpec, NetworkMode, RestartPolicy};
use crate::spec::name::ObjectName;

/// The least that docker takes: a process needs some memory to start at all.
const LEAST_MEMORY: u64 = 6 << 20;
/// HOST_NAME_MAX of Linux.
const LONGEST_HOSTNAME: usize = 64;
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];
/// Sysctls of the ipc namespace besides `fs.mqueue.*`, namespaces(7).
const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

pub(in crate::engine::containers) fn name(name: &str) -> Result<(), EngineError> {
    if ObjectName::try_from(name).is_ok() && name.len() > 1 {
        return Ok(());
    }
    Err(invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

/// Checks a spec by itself and returns warnings.
pub(super) fn spec(spec: &ContainerSpec) -> Result<Vec<String>, EngineError> {
    hostname(spec)?;
    lines(spec)?;
    memory(spec)?;
    network(spec)?;
    sysctls(spec)?;
    modes(spec)?;
    words(spec)?;
    if spec.auto_remove && spec.restart != RestartPolicy::No {
        return Err(invalid("can't create 'AutoRemove' container with restart policy".into()));
    }
    if let Some(unknown) = spec.ulimits.keys().find(|key| !ULIMITS.contains(&key.as_str())) {
        return Err(invalid(format!("invalid ulimit type: {unknown}")));
    }
    for (key, limit) in &spec.ulimits {
        if limit.hard != -1 && (limit.soft > limit.hard || limit.soft == -1) {
            return Err(invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {key}: {} > {}",
                limit.soft, limit.hard
            )));
        }
    }
    let mut warnings = super::super::logging::check(&spec.logging)?;
    if spec.network_mode == NetworkMode::Host && !spec.ports.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    if let Some(runtime) = &spec.runtime
        && !matches!(runtime.as_str(), "" | "bargee" | "runc" | "io.containerd.runc.v2")
    {
        return Err(invalid(format!("unknown or invalid runtime name: {runtime}")));
    }
    Ok(warnings)
}

/// A folder that is none, and a signal that is none.
fn words(spec: &ContainerSpec) -> Result<(), EngineError> {
    if let Some(folder) = &spec.working_dir
        && !folder.is_empty()
        && !folder.starts_with('/')
    {
        let message = "it needs to be an absolute path";
        return Err(invalid(format!("the working directory '{folder}' is invalid, {message}")));
    }
    match spec.stop_signal.as_deref() {
        Some(word) if !word.is_empty() && signals::parse(word).is_none() => {
            Err(invalid(format!("Invalid signal: {word}")))
        }
        _ => Ok(()),
    }
}

/// Checks a spec against its image.
pub(super) fn image(
    spec: &ContainerSpec,
    facts: &ImageFacts,
    config: &ImageConfig,
) -> Result<Vec<String>, EngineError> {
    if merge::arguments(spec, facts).is_empty() {
        return Err(TranslateError::NoCommand.into());
    }
    let of_image = Platform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        variant: config.variant.clone(),
    };
    if let Some(asked) = spec.platform.as_deref().filter(|asked| !asked.is_empty()) {
        let mut parts = asked.split('/');
        let (os, architecture) = (parts.next().unwrap_or_default(), parts.next());
        let fits =
            os == of_image.os && architecture.is_none_or(|asked| asked == of_image.architecture);
        if !fits {
            let message = format!(
                "image with reference {} was found but its platform ({}/{}) does not match the specified platform \
                 ({asked})",
                spec.image, of_image.os, of_image.architecture
            );
            return Err(EngineError::Conflict { message });
        }
    }
    if of_image.runs_on(&Platform::host()) {
        return Ok(Vec::new());
    }
    Ok(vec![format!(
        "The requested image's platform ({}/{}) does not match the detected host platform (linux/{}) and no \
         specific platform was requested",
        of_image.os,
        of_image.architecture,
        Platform::host().architecture
    )])
}

fn hostname(spec: &ContainerSpec) -> Result<(), EngineError> {
    for name in spec.hostname.iter().chain(&spec.domainname) {
        let valid = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
        if name.len() > LONGEST_HOSTNAME || !name.bytes().all(valid) {
            return Err(invalid(format!(
                "invalid hostname {name:?}: at most {LONGEST_HOSTNAME} letters, digits, `.` and `-`"
            )));
        }
    }
    Ok(())
}

/// These become lines of /etc/hosts and /etc/resolv.conf or of the environment: none may add another line.
fn lines(spec: &ContainerSpec) -> Result<(), EngineError> {
    let words = spec.dns.iter().chain(&spec.dns_search).chain(&spec.dns_options);
    for word in words.chain(&spec.extra_hosts).chain(&spec.links) {
        if word.is_empty() || word.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(invalid(format!("{word:?} can't stand in a file of names")));
        }
    }
    for server in &spec.dns {
        if server.parse::<std::net::IpAddr>().is_err() {
            return Err(invalid(format!("bad nameserver address {server}")));
        }
    }
    for host in &spec.extra_hosts {
        let named = host.split_once([':', '=']).is_some_and(|(name, _)| !name.is_empty());
        if !named {
            return Err(invalid(format!("bad format for add-host: \"{host}\"")));
        }
    }
    for line in &spec.env {
        if line.starts_with('=') || line.is_empty() || line.contains('\0') {
            return Err(invalid(format!("invalid environment variable: {line:?}")));
        }
    }
    Ok(())
}

pub(in crate::engine::containers) fn memory(spec: &ContainerSpec) -> Result<(), EngineError> {
    let resources = &spec.resources;
    let memory = resources.memory.filter(|limit| *limit > 0);
    if memory.is_some_and(|limit| limit < LEAST_MEMORY) {
        return Err(invalid("Minimum memory limit allowed is 6MB".into()));
    }
    let swap = resources.memory_swap.filter(|swap| *swap != 0);
    match (memory, swap) {
        (None, Some(swap)) if swap > 0 => Err(invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage".into(),
        )),
        (Some(memory), Some(swap)) if u64::try_from(swap).is_ok_and(|swap| swap < memory) => {
            Err(invalid(
                "Minimum memoryswap limit should be larger than memory limit, see usage".into(),
            ))
        }
        _ if memory.zip(resources.memory_reservation).is_some_and(|(limit, soft)| soft > limit) => {
            Err(invalid(
                "Minimum memory limit can not be less than memory reservation limit, see usage"
                    .into(),
            ))
        }
        _ => Ok(()),
    }
}

fn network(spec: &ContainerSpec) -> Result<(), EngineError> {
    let conflict = |what: &str| {
        invalid(format!("conflicting options: {what} and the container type network mode"))
    };
    if let NetworkMode::Container(_) = &spec.network_mode {
        if spec.hostname.is_some() {
            return Err(invalid("conflicting options: hostname and the network mode".into()));
        }
        if !spec.ports.is_empty() || spec.publish_all {
            return Err(conflict("port publishing"));
        }
        if !spec.dns.is_empty() {
            return Err(invalid("conflicting options: dns and the network mode".into()));
        }
        if !spec.links.is_empty() {
            return Err(conflict("links"));
        }
    }
    if spec.network_mode == NetworkMode::Host && !spec.links.is_empty() {
        return Err(invalid(
            "conflicting options: host type networking can't be used with links".into(),
        ));
    }
    Ok(())
}

/// Only what a namespace of the container's own holds may be set: all else would be the host's.
fn sysctls(spec: &ContainerSpec) -> Result<(), EngineError> {
    for key in spec.sysctls.keys() {
        let words = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let own_ipc = spec.ipc_mode != "host";
        let own_network =
            !matches!(spec.network_mode, NetworkMode::Host | NetworkMode::Container(_));
        let allowed = words
            && !key.contains("..")
            && match key.split('.').next() {
                Some("net") => own_network,
                Some("fs") => own_ipc && key.starts_with("fs.mqueue."),
                _ if key == "kernel.domainname" => spec.uts_mode != "host",
                _ => own_ipc && IPC_SYSCTLS.contains(&key.as_str()),
            };
        if !allowed {
            return Err(invalid(format!(
                "sysctl \"{key}\" is not in a separate kernel namespace, or that namespace is not the container's"
            )));
        }
    }
    Ok(())
}

fn modes(spec: &ContainerSpec) -> Result<(), EngineError> {
    let other = |mode: &str| mode.strip_prefix("container:").is_some_and(|word| !word.is_empty());
    let checks = [
        (
            "PID",
            &spec.pid_mode,
            matches!(&*spec.pid_mode, "" | "host" | "private") || other(&spec.pid_mode),
        ),
        (
            "IPC",
            &spec.ipc_mode,
            matches!(&*spec.ipc_mode, "" | "host" | "private" | "shareable" | "none")
                || other(&spec.ipc_mode),
        ),
        ("UTS", &spec.uts_mode, matches!(&*spec.uts_mode, "" | "host" | "private")),
        (
            "cgroup namespace",
            &spec.cgroupns_mode,
            matches!(&*spec.cgroupns_mode, "" | "host" | "private"),
        ),
        ("user namespace", &spec.userns_mode, matches!(&*spec.userns_mode, "" | "host")),
    ];
    for (kind, mode, valid) in checks {
        if !valid {
            return Err(invalid(format!("invalid {kind} mode: {mode}")));
        }
    }
    if spec.cgroup_parent.split('/').any(|part| part == "..") {
        return Err(invalid(format!("invalid cgroup parent: {}", spec.cgroup_parent)));
    }
    Ok(())
}

fn invalid(message: String) -> EngineError {
    EngineError::Invalid { message }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;
    use crate::spec::container::{Resources, Ulimit};

    fn refused(change: impl FnOnce(&mut ContainerSpec)) -> String {
        let mut asked = ContainerSpec::default();
        change(&mut asked);
        spec(&asked).unwrap_err().to_string()
    }

    #[test]
    fn names_follow_dockers_rule() {
        for wrong in ["", "a", "-ab", "a b", "a/b", "ä1"] {
            assert!(name(wrong).unwrap_err().to_string().starts_with("Invalid container name ("));
        }
        name("web-1.x_y").unwrap();
    }

    #[test]
    fn an_empty_spec_is_fine() {
        assert!(spec(&ContainerSpec::default()).unwrap().is_empty());
    }

    #[test]
    fn nothing_adds_a_line_to_a_file_inside() {
        assert!(refused(|spec| spec.hostname = Some("a\nb".into())).contains("invalid hostname"));
        assert!(refused(|spec| spec.dns_options = vec!["x\ny".into()]).contains("file of names"));
        assert!(refused(|spec| spec.extra_hosts = vec!["a".into()]).contains("add-host"));
        assert!(refused(|spec| spec.dns = vec!["resolver".into()]).contains("bad nameserver"));
    }

    #[test]
    fn limits_are_checked_as_in_docker() {
        let with = |resources: Resources| refused(|spec| spec.resources = resources);
        let small = Resources { memory: Some(1), ..Resources::default() };
        assert_eq!(with(small), "Minimum memory limit allowed is 6MB");
        let swap = Resources {
            memory: Some(64 << 20),
            memory_swap: Some(1 << 20),
            ..Resources::default()
        };
        assert!(with(swap).starts_with("Minimum memoryswap limit should be larger"));
        let with_ulimit = |key: &str, limit| {
            refused(|spec| {
                spec.ulimits.insert(key.into(), limit);
            })
        };
        let limit = Ulimit { soft: 5, hard: 4 };
        assert!(with_ulimit("nofile", limit).contains("5 > 4"));
        let limit = Ulimit { soft: 5, hard: 5 };
        assert!(with_ulimit("files", limit).contains("invalid ulimit type"));
    }

    #[test]
    fn a_sysctl_of_the_host_is_refused() {
        let mut asked = ContainerSpec::default();
        asked.sysctls.insert("net.core.somaxconn".into(), "1".into());
        asked.sysctls.insert("kernel.shmmax".into(), "1".into());
        spec(&asked).unwrap();
        asked.network_mode = NetworkMode::Host;
        assert!(spec(&asked).unwrap_err().to_string().contains("net.core.somaxconn"));
        for key in ["kernel.panic", "net/../kernel", "fs.file-max", "net..x"] {
            assert!(
                refused(|spec| drop(spec.sysctls.insert(key.into(), "1".into()))).contains(key)
            );
        }
    }

    #[test]
    fn options_that_exclude_each_other_are_refused() {
        let message = refused(|spec| {
            spec.auto_remove = true;
            spec.restart = RestartPolicy::Always;
        });
        assert_eq!(message, "can't create 'AutoRemove' container with restart policy");
        let message = refused(|spec| {
            spec.network_mode = NetworkMode::Container("x".into());
            spec.hostname = Some("h".into());
        });
        assert_eq!(message, "conflicting options: hostname and the network mode");
        assert!(refused(|spec| spec.pid_mode = "other".into()).contains("invalid PID mode"));
        assert!(refused(|spec| spec.cgroup_parent = "/../x".into()).contains("cgroup parent"));
    }

    #[test]
    fn an_image_without_a_command_needs_one() {
        let config = ImageConfig::default();
        let error = image(&ContainerSpec::default(), &ImageFacts::default(), &config).unwrap_err();
        assert_eq!(error.to_string(), "no command specified");
        let asked = ContainerSpec {
            command: Some(vec!["x".into()]),
            platform: Some("linux/s390x".into()),
            ..ContainerSpec::default()
        };
        let config = ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..config };
        let message = image(&asked, &ImageFacts::default(), &config).unwrap_err().to_string();
        assert!(
            message.contains("does not match the specified platform (linux/s390x)"),
            "{message}"
        );
    }
}
