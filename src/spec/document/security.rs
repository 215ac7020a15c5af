//! A service's keys about isolation: capabilities, namespaces, devices, security options. A mistake here
//! is an error, never a warning: what is not applied would leave a hole.

use super::service::{Loose, depend_implicitly};
use super::{Fields, Place, Report};
use crate::spec::container::Device;
use crate::spec::document::reader::hinted;
use crate::spec::keys;

/// capabilities(7), without their prefix.
const CAPABILITIES: [&str; 42] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

pub(super) fn read(fields: &mut Fields<'_>, loose: &mut Loose, report: &mut Report) {
    let container = &mut loose.service.container;
    for (key, slot) in [("cap_add", &mut container.cap_add), ("cap_drop", &mut container.cap_drop)]
    {
        if let Some(place) = fields.get(key) {
            *slot =
                place.items(report).iter().filter_map(|item| capability(item, report)).collect();
        }
    }
    for (key, slot) in
        [("privileged", &mut container.privileged), ("read_only", &mut container.read_only)]
    {
        *slot = fields.get(key).and_then(|place| place.flag(report)).unwrap_or(false);
    }
    if let Some(place) = fields.get("security_opt") {
        container.security_opt =
            place.items(report).iter().filter_map(|item| security_opt(item, report)).collect();
    }
    if let Some(place) = fields.get("devices") {
        container.devices =
            place.items(report).iter().filter_map(|item| device(item, report)).collect();
    }
    if let Some(place) = fields.get("device_cgroup_rules") {
        container.device_cgroup_rules =
            place.items(report).iter().filter_map(|item| item.string(report)).collect();
    }
    if let Some(place) = fields.get("cgroup_parent") {
        container.cgroup_parent = place.string(report).unwrap_or_default();
    }
    if let Some(place) = fields.get("cgroup") {
        container.cgroupns_mode =
            place.word(report, &keys::CGROUP_NAMESPACES).unwrap_or_default().to_owned();
    }
    if let Some(place) = fields.get("uts") {
        container.uts_mode = place.word(report, &["host"]).unwrap_or_default().to_owned();
    }
    if let Some(place) = fields.get("userns_mode") {
        container.userns_mode = place.string(report).unwrap_or_default();
    }
    if let Some(place) = fields.get("pid") {
        loose.service.container.pid_mode = namespace(&place, &["host", "private"], loose, report);
    }
    if let Some(place) = fields.get("ipc") {
        let words = ["host", "private", "shareable", "none"];
        loose.service.container.ipc_mode = namespace(&place, &words, loose, report);
    }
}

fn capability(place: &Place<'_>, report: &mut Report) -> Option<String> {
    let text = place.text(report)?;
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if !CAPABILITIES.contains(&name) {
        let error = place.error("invalid-value", format!("{text:?} is not a capability"));
        report.push(hinted(error, name, &CAPABILITIES));
        return None;
    }
    Some(name.to_owned())
}

fn security_opt(place: &Place<'_>, report: &mut Report) -> Option<String> {
    let text = place.text(report)?;
    let key = text.split(['=', ':']).next().unwrap_or_default();
    match key {
        "no-new-privileges" | "seccomp" | "apparmor" | "systempaths" => {}
        "label" => report.push(place.warning("not-enforced", "SELinux labels are not enforced")),
        _ => {
            let error = place.error("invalid-value", format!("{text:?} is not a security option"));
            report.push(hinted(
                error,
                key,
                &["no-new-privileges", "seccomp", "apparmor", "systempaths", "label"],
            ));
            return None;
        }
    }
    Some(text.to_owned())
}

/// Reads the owner of a namespace: one of `words`, `container:x`, or `service:x`, a service of this stack.
fn namespace(
    place: &Place<'_>,
    words: &[&'static str],
    loose: &mut Loose,
    report: &mut Report,
) -> String {
    let Some(text) = place.text(report) else { return String::new() };
    if let Some(service) = text.strip_prefix("service:") {
        depend_implicitly(loose, service, true, place, report);
        return text.to_owned();
    }
    if text.strip_prefix("container:").is_some_and(|id| !id.is_empty()) {
        return text.to_owned();
    }
    place.word(report, words).unwrap_or_default().to_owned()
}

fn device(place: &Place<'_>, report: &mut Report) -> Option<Device> {
    let device = if place.is_mapping() {
        let mut fields = place.fields(&keys::DEVICE, report)?;
        let host = fields.get("source").and_then(|place| place.string(report)).unwrap_or_default();
        let container = fields
            .get("target")
            .and_then(|place| place.string(report))
            .unwrap_or_else(|| host.clone());
        let permissions = fields.get("permissions").and_then(|place| place.string(report));
        fields.finish(report);
        Device { host, container, permissions: permissions.unwrap_or_else(|| "rwm".to_owned()) }
    } else {
        let text = place.text(report)?;
        let parts: Vec<&str> = text.split(':').collect();
        let (host, container, permissions) = match parts[..] {
            [host] => (host, host, "rwm"),
            [host, container] if container.starts_with('/') => (host, container, "rwm"),
            [host, permissions] => (host, host, permissions),
            [host, container, permissions] => (host, container, permissions),
            _ => ("", "", ""),
        };
        Device {
            host: host.to_owned(),
            container: container.to_owned(),
            permissions: permissions.to_owned(),
        }
    };
    let permissions = &device.permissions;
    let allowed =
        !permissions.is_empty() && permissions.chars().all(|letter| "rwm".contains(letter));
    if !device.host.starts_with('/') || !device.container.starts_with('/') || !allowed {
        let hint = "expected /dev/host[:/dev/inside][:rwm]; CDI names are not supported";
        report.push(place.error("invalid-value", "this is not a device").with_hint(hint));
        return None;
    }
    Some(device)
}
