//! A service's mounts and files: `volumes`, `tmpfs`, `volumes_from`, `configs`, `secrets`; and its `logging`.

use super::service::{FileUse, Loose, Use, depend_implicitly};
use super::{Fields, Place, Report};
use crate::spec::container::{Logging, Mount, MountKind};
use crate::spec::keys;
use crate::spec::validate::Context;
use crate::spec::value::{InvalidValue, mount, size};

pub(super) fn read(
    fields: &mut Fields<'_>,
    loose: &mut Loose,
    context: &Context<'_>,
    report: &mut Report,
) {
    if let Some(place) = fields.get("volumes") {
        for item in place.items(report) {
            let mount = if item.is_mapping() {
                long_mount(&item, context, report)
            } else {
                item.parsed(report, |text| mount::parse(text, context.folders()))
            };
            if let Some(mount) = mount {
                add(mount, &item, loose);
            }
        }
    }
    if let Some(place) = fields.get("tmpfs") {
        for item in place.one_or_many(report) {
            if let Some(mount) = item.parsed(report, mount::parse_tmpfs) {
                add(mount, &item, loose);
            }
        }
    }
    if let Some(place) = fields.get("volumes_from") {
        for item in place.items(report) {
            if let Some(text) = item.text(report) {
                volumes_from(text, &item, loose, report);
            }
        }
    }
    for (key, secret) in [("configs", false), ("secrets", true)] {
        if let Some(place) = fields.get(key) {
            for item in place.items(report) {
                if let Some(file) = file_use(&item, secret, report) {
                    loose.targets.push((file.target.clone(), item.span()));
                    loose.files.push(file);
                }
            }
        }
    }
    if let Some(place) = fields.get("logging") {
        loose.service.container.logging = logging(&place, report);
    }
}

fn add(mount: Mount, place: &Place<'_>, loose: &mut Loose) {
    if let MountKind::Volume { name: Some(name), .. } = &mount.kind {
        loose.volumes.push(Use { key: name.clone(), span: place.span() });
    }
    loose.targets.push((mount.target.clone(), place.span()));
    loose.service.container.mounts.push(mount);
}

/// Reads the long notation. A section that is not of the mount's type is a mistake.
fn long_mount(place: &Place<'_>, context: &Context<'_>, report: &mut Report) -> Option<Mount> {
    let mut fields = place.fields(&keys::MOUNT, report)?;
    let kind = fields.get("type").and_then(|place| place.word(report, &keys::MOUNT_TYPES));
    let source = fields.get("source").and_then(|place| place.string(report));
    let target = fields.get("target").and_then(|place| place.string(report));
    let read_only = fields.get("read_only").and_then(|place| place.flag(report)).unwrap_or(false);
    fields.not_enforced(report, &[("consistency", "")]);
    for section in keys::MOUNT_TYPES {
        if let (Some(kind), Some(place)) = (kind, fields.get(section))
            && kind != section
        {
            let problem = format!("this section is not for a mount of type {kind}");
            report
                .push(place.error("conflict", problem).with_hint("remove it, or change the type"));
        }
    }
    let kind = match kind {
        Some("bind") => bind(&mut fields, source, context, report),
        Some("volume") => volume(&mut fields, source, report),
        Some("tmpfs") => Some(tmpfs(&mut fields, report)),
        Some(_) => {
            report.push(place.error("unsupported", "mounts of type image are not supported"));
            None
        }
        None => {
            if place.node.get("type").is_none() {
                report.push(
                    place
                        .error("missing-key", "a mount needs a type")
                        .with_hint("one of bind, volume, tmpfs"),
                );
            }
            None
        }
    };
    fields.finish(report);
    let Some(target) = target.filter(|target| target.starts_with('/')) else {
        report.push(place.error("missing-key", "a mount needs an absolute target"));
        return None;
    };
    Some(Mount { target: mount::clean(&target), read_only, kind: kind? })
}

fn bind(
    fields: &mut Fields<'_>,
    source: Option<String>,
    context: &Context<'_>,
    report: &mut Report,
) -> Option<MountKind> {
    let (mut create_host_path, mut recursive, mut propagation) = (true, true, String::new());
    if let Some(place) = fields.get("bind")
        && let Some(mut options) = place.fields(&keys::MOUNT_BIND, report)
    {
        create_host_path =
            options.get("create_host_path").and_then(|place| place.flag(report)).unwrap_or(true);
        if let Some(place) = options.get("recursive") {
            // `writable` and `readonly` are degrees of read-only that we don't have: the safe one is refused.
            match place.word(report, &keys::RECURSIVE) {
                Some("disabled") => recursive = false,
                Some("readonly") => {
                    report.push(place.error("unsupported", "`readonly` is not supported here"))
                }
                _ => {}
            }
        }
        if let Some(place) = options.get("propagation") {
            propagation = place.word(report, &keys::PROPAGATION).unwrap_or_default().to_owned();
        }
        options.not_enforced(report, &[("selinux", "")]);
        options.finish(report);
    }
    let source = source.and_then(|source| context.folders().absolute(&source));
    if source.is_none() {
        report.push(fields.place.error("missing-key", "a bind mount needs a source"));
    }
    Some(MountKind::Bind { source: source?, create_host_path, recursive, propagation })
}

fn volume(fields: &mut Fields<'_>, name: Option<String>, report: &mut Report) -> Option<MountKind> {
    let (mut nocopy, mut subpath) = (false, String::new());
    if let Some(place) = fields.get("volume")
        && let Some(mut options) = place.fields(&keys::MOUNT_VOLUME, report)
    {
        nocopy = options.get("nocopy").and_then(|place| place.flag(report)).unwrap_or(false);
        subpath = options.get("subpath").and_then(|place| place.string(report)).unwrap_or_default();
        options.not_enforced(report, &[("labels", "")]);
        options.finish(report);
    }
    if subpath.starts_with('/') || subpath.split('/').any(|part| part == "..") {
        report.push(fields.place.error("invalid-value", "the subpath leaves the volume"));
        return None;
    }
    Some(MountKind::Volume { name, nocopy, subpath })
}

fn tmpfs(fields: &mut Fields<'_>, report: &mut Report) -> MountKind {
    let (mut bytes, mut mode) = (0, None);
    if let Some(place) = fields.get("tmpfs")
        && let Some(mut options) = place.fields(&keys::MOUNT_TMPFS, report)
    {
        bytes =
            options.get("size").and_then(|place| place.parsed(report, size::parse)).unwrap_or(0);
        mode = options.get("mode").and_then(|place| file_mode(&place, report));
        options.finish(report);
    }
    MountKind::Tmpfs { size: bytes, mode, options: Vec::new() }
}

/// `svc[:ro]` names a service, `container:x[:ro]` a container.
fn volumes_from(text: &str, place: &Place<'_>, loose: &mut Loose, report: &mut Report) {
    let from = match text.strip_prefix("container:") {
        Some(container) => container.to_owned(),
        None => {
            let service = text.split(':').next().unwrap_or_default();
            depend_implicitly(loose, service, false, place, report);
            format!("service:{text}")
        }
    };
    loose.service.container.volumes_from.push(from);
}

fn file_use(place: &Place<'_>, secret: bool, report: &mut Report) -> Option<FileUse> {
    let folder = if secret { "/run/secrets" } else { "" };
    let (mut target, mut uid, mut gid, mut mode) = (None, 0, 0, 0o444);
    let source = if place.is_mapping() {
        let mut fields = place.fields(&keys::FILE_USE, report)?;
        let source = fields.get("source").and_then(|place| place.string(report));
        target = fields.get("target").and_then(|place| place.string(report));
        uid = fields.get("uid").and_then(|place| place.integer(report)).unwrap_or(0);
        gid = fields.get("gid").and_then(|place| place.integer(report)).unwrap_or(0);
        mode = fields.get("mode").and_then(|place| file_mode(&place, report)).unwrap_or(0o444);
        fields.finish(report);
        if source.is_none() {
            report.push(place.error("missing-key", "the source is missing"));
        }
        source?
    } else {
        place.string(report)?
    };
    let target = target.unwrap_or_else(|| source.clone());
    let target = if target.starts_with('/') { target } else { format!("{folder}/{target}") };
    let source = Use { key: source, span: place.span() };
    Some(FileUse { source, secret, target: mount::clean(&target), uid, gid, mode })
}

fn file_mode(place: &Place<'_>, report: &mut Report) -> Option<u32> {
    let quoted =
        matches!(&place.node.kind, crate::spec::node::Kind::Scalar(scalar) if scalar.quoted);
    place.parsed(report, |text| mode(text, quoted))
}

/// `0440`, `0o440` and any quoted number are octal, a plain number is decimal: what YAML makes of them.
fn mode(text: &str, quoted: bool) -> Result<u32, InvalidValue> {
    let octal =
        text.strip_prefix("0o").or_else(|| (quoted || text.starts_with('0')).then_some(text));
    let bits = octal.map_or_else(|| text.parse().ok(), |octal| u32::from_str_radix(octal, 8).ok());
    bits.filter(|bits| *bits <= 0o7777)
        .ok_or_else(|| InvalidValue::new(text, "file mode", "expected an octal number, as in 0440"))
}

fn logging(place: &Place<'_>, report: &mut Report) -> Logging {
    let mut logging = Logging::default();
    let Some(mut fields) = place.fields(&keys::LOGGING, report) else { return logging };
    logging.driver =
        fields.get("driver").and_then(|place| place.string(report)).unwrap_or_default();
    logging.options = fields.get("options").map(|place| place.map(report)).unwrap_or_default();
    fields.finish(report);
    logging
}
