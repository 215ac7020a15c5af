//! One entry of `services:`, as a [`Loose`] service: everything that can be read without looking at the
//! other sections, and what the file says about them, with spans.

use std::collections::BTreeMap;

use super::{
    Fields, Place, Report, deploy, healthcheck, process, resources, security, service_network,
    storage,
};
use crate::diagnostic::Span;
use crate::spec::container::{ContainerSpec, PortSpec, Profile};
use crate::spec::keys;
use crate::spec::name::{ObjectName, ServiceName};
use crate::spec::node::{Kind, Node};
use crate::spec::origins::Origins;
use crate::spec::stack::{
    Condition, Dependency, OnUnhealthy, PullPolicy, RestartLimits, Service, UpdateConfig,
};
use crate::spec::validate::Context;

/// Something that a service refers to by its key, and where.
#[derive(Debug, Clone)]
pub(crate) struct Use {
    pub(crate) key: String,
    pub(crate) span: Span,
}

/// A use of a config or a secret: the file that it becomes, without its content.
#[derive(Debug, Clone)]
pub(crate) struct FileUse {
    pub(crate) source: Use,
    pub(crate) secret: bool,
    pub(crate) target: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

/// A service before its links to other sections are checked.
#[derive(Debug, Clone)]
pub(crate) struct Loose {
    pub(crate) service: Service,
    pub(crate) span: Span,
    pub(crate) path: String,
    pub(crate) profiles: Vec<String>,
    pub(crate) networks: Vec<Use>,
    pub(crate) volumes: Vec<Use>,
    pub(crate) files: Vec<FileUse>,
    pub(crate) dependencies: Vec<(ServiceName, Span)>,
    /// Every mount's target, for the search for duplicates.
    pub(crate) targets: Vec<(String, Span)>,
    pub(crate) env_files: Vec<EnvFile>,
    /// The published ports, for the search for duplicates.
    pub(crate) ports: Vec<(PortSpec, Span)>,
}

/// An `env_file` or `label_file` to read.
#[derive(Debug, Clone)]
pub(crate) struct EnvFile {
    pub(crate) path: String,
    pub(crate) span: Span,
    pub(crate) required: bool,
    pub(crate) raw: bool,
    pub(crate) labels: bool,
}

/// Our own keys, `x-bargee`, at the top and in a service.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extension {
    pub(crate) profile: Option<Profile>,
    pub(crate) on_unhealthy: Option<OnUnhealthy>,
    pub(crate) reversible: Option<bool>,
}

pub(crate) fn extension(place: &Place<'_>, report: &mut Report) -> Extension {
    let mut extension = Extension::default();
    let Some(mut fields) = place.fields(&keys::EXTENSION, report) else { return extension };
    if let Some(place) = fields.get("security") {
        extension.profile = match place.word(report, &keys::SECURITY) {
            Some("strict") => Some(Profile::Strict),
            Some(_) => Some(Profile::Bargee),
            None => None,
        };
    }
    if let Some(place) = fields.get("on_unhealthy") {
        extension.on_unhealthy = match place.word(report, &keys::ON_UNHEALTHY) {
            Some("none") => Some(OnUnhealthy::None),
            Some(_) => Some(OnUnhealthy::Restart),
            None => None,
        };
    }
    if let Some(place) = fields.get("reversible") {
        extension.reversible = place.flag(report);
    }
    fields.finish(report);
    extension
}

/// Reads one service. `defaults` is the file's own `x-bargee`.
pub(crate) fn service(
    name: ServiceName,
    place: &Place<'_>,
    context: &Context<'_>,
    defaults: Extension,
    report: &mut Report,
) -> Option<Loose> {
    let mut fields = place.fields(&keys::SERVICE, report)?;
    let mut loose = empty(name, place, defaults);
    if let Some(place) = fields.get("x-bargee") {
        let own = extension(&place, report);
        loose.service.container.profile = own.profile.unwrap_or(loose.service.container.profile);
        loose.service.on_unhealthy = own.on_unhealthy.unwrap_or(loose.service.on_unhealthy);
        loose.service.reversible = own.reversible.unwrap_or(loose.service.reversible);
    }
    image(&mut fields, &mut loose.service, context, report);
    identity(&mut fields, &mut loose, report);
    process::read(&mut fields, &mut loose, context, report);
    resources::read(&mut fields, &mut loose.service.container, report);
    deploy::read(&mut fields, &mut loose, report);
    security::read(&mut fields, &mut loose, report);
    storage::read(&mut fields, &mut loose, context, report);
    service_network::read(&mut fields, &mut loose, report);
    if let Some(place) = fields.get("healthcheck") {
        loose.service.container.healthcheck = healthcheck::healthcheck(&place, report);
    }
    if let Some(place) = fields.get("depends_on") {
        depends_on(&place, &mut loose, report);
    }
    ignored(&mut fields, report);
    fields.finish(report);
    origins(place, context, &mut loose.service.origins);
    Some(loose)
}

fn empty(name: ServiceName, place: &Place<'_>, defaults: Extension) -> Loose {
    let profile = defaults.profile.unwrap_or(Profile::Bargee);
    Loose {
        service: Service {
            name,
            container: Box::new(ContainerSpec { profile, ..ContainerSpec::default() }),
            container_name: None,
            replicas: 1,
            pull_policy: PullPolicy::default(),
            depends_on: BTreeMap::new(),
            update: UpdateConfig::default(),
            rollback: None,
            restart_limits: RestartLimits::default(),
            on_unhealthy: defaults.on_unhealthy.unwrap_or_default(),
            reversible: defaults.reversible.unwrap_or_default(),
            attach: true,
            origins: Origins::default(),
            compose_hash: None,
        },
        span: place.key_span,
        path: place.path.clone(),
        profiles: Vec::new(),
        networks: Vec::new(),
        volumes: Vec::new(),
        files: Vec::new(),
        dependencies: Vec::new(),
        targets: Vec::new(),
        env_files: Vec::new(),
        ports: Vec::new(),
    }
}

/// Reads `image`, `build` and `pull_policy`. A built image without a name is `STACK-SERVICE`, as compose's.
fn image(
    fields: &mut Fields<'_>,
    service: &mut Service,
    context: &Context<'_>,
    report: &mut Report,
) {
    let image = fields.get("image");
    let build = fields.get("build");
    match (&image, &build) {
        (Some(place), _) => {
            if let Some(text) = place.text(report) {
                if let Err(error) = crate::spec::reference::Reference::try_from(text) {
                    let problem = format!("{text:?} is not an image reference");
                    report.push(place.error("invalid-value", problem).with_hint(error.rule));
                }
                text.clone_into(&mut service.container.image);
            }
        }
        (None, Some(_)) => service.container.image = format!("{}-{}", context.name, service.name),
        (None, None) => report.push(
            crate::diagnostic::Diagnostic::error(
                "missing-image",
                fields.place.key_span,
                format!("{}: the service has neither an image nor a build", fields.place.path),
            )
            .with_hint("add `image: NAME:TAG`"),
        ),
    }
    if let Some(place) = &build {
        report.push(
            place
                .warning("not-enforced", "a stack does not build images")
                .with_hint(format!("build it first: bargee build -t {}", service.container.image)),
        );
    }
    if let Some(place) = fields.get("platform") {
        service.container.platform = place.string(report);
    }
    let Some(place) = fields.get("pull_policy") else { return };
    let Some(text) = place.text(report) else { return };
    service.pull_policy = match text {
        "always" => PullPolicy::Always,
        "never" => PullPolicy::Never,
        "missing" | "if_not_present" => PullPolicy::Missing,
        "build" => PullPolicy::Build,
        timed if matches!(timed, "daily" | "weekly") || timed.starts_with("every_") => {
            report.push(
                place
                    .warning("not-enforced", "images are not pulled by the clock")
                    .with_hint("this is read as `missing`"),
            );
            PullPolicy::Missing
        }
        _ => {
            place.word(report, &["always", "never", "missing", "build"]);
            PullPolicy::Missing
        }
    };
    if service.pull_policy == PullPolicy::Build && build.is_none() {
        report.push(
            place
                .error("missing-key", "pull_policy is build, and there is no `build` section")
                .with_hint("add `build: FOLDER`, or leave pull_policy out"),
        );
    }
}

fn identity(fields: &mut Fields<'_>, loose: &mut Loose, report: &mut Report) {
    let service = &mut loose.service;
    if let Some(place) = fields.get("container_name")
        && let Some(text) = place.text(report)
    {
        match ObjectName::try_from(text) {
            Ok(name) => service.container_name = Some(name.into()),
            Err(error) => {
                let problem = format!("{text:?} is not a container's name");
                report.push(place.error("invalid-value", problem).with_hint(error.rule));
            }
        }
    }
    if let Some(place) = fields.get("attach") {
        service.attach = place.flag(report).unwrap_or(true);
    }
    if let Some(place) = fields.get("profiles") {
        loose.profiles =
            place.items(report).iter().filter_map(|item| item.string(report)).collect();
    }
    if let Some(place) = fields.get("labels") {
        service.container.labels = labels(&place, report);
    }
    if let Some(place) = fields.get("annotations") {
        service.container.annotations = place.map(report);
    }
}

/// Reads labels; those of compose itself are ours to write.
pub(crate) fn labels(place: &Place<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let pairs = place.pairs(report);
    for (key, _, place) in &pairs {
        if key.starts_with("com.docker.compose.") {
            report.push(
                place
                    .error("reserved-label", format!("the label {key} is reserved"))
                    .with_hint("use a prefix of your own"),
            );
        }
    }
    pairs.into_iter().map(|(key, value, _)| (key, value.unwrap_or_default())).collect()
}

fn depends_on(place: &Place<'_>, loose: &mut Loose, report: &mut Report) {
    let started =
        Dependency { condition: Condition::ServiceStarted, restart: false, required: true };
    if !place.is_mapping() {
        for item in place.items_or(report, "a list or a mapping of services") {
            if let Some(text) = item.text(report) {
                depend(loose, text, item.span(), started, &item, report);
            }
        }
        return;
    }
    for (key, place) in place.entries(report) {
        let mut dependency = started;
        if let Some(mut fields) = place.fields(&keys::DEPENDENCY, report) {
            if let Some(place) = fields.get("condition") {
                dependency.condition = match place.word(report, &keys::CONDITIONS) {
                    Some("service_healthy") => Condition::ServiceHealthy,
                    Some("service_completed_successfully") => {
                        Condition::ServiceCompletedSuccessfully
                    }
                    _ => Condition::ServiceStarted,
                };
            }
            if let Some(place) = fields.get("restart") {
                dependency.restart = place.flag(report).unwrap_or(false);
            }
            if let Some(place) = fields.get("required") {
                dependency.required = place.flag(report).unwrap_or(true);
            }
            fields.finish(report);
        }
        depend(loose, key, place.key_span, dependency, &place, report);
    }
}

/// Adds a dependency; one that the file spells out wins over an implicit one.
pub(super) fn depend(
    loose: &mut Loose,
    name: &str,
    span: Span,
    dependency: Dependency,
    place: &Place<'_>,
    report: &mut Report,
) {
    match ServiceName::try_from(name) {
        Ok(name) => {
            loose.dependencies.push((name.clone(), span));
            loose.service.depends_on.insert(name, dependency);
        }
        Err(error) => {
            let problem = format!("{name:?} is not a service's name");
            report.push(place.error("invalid-value", problem).with_hint(error.rule));
        }
    }
}

/// A dependency that compose adds by itself for `links`, `network_mode: service:x` and their like.
pub(super) fn depend_implicitly(
    loose: &mut Loose,
    name: &str,
    restart: bool,
    place: &Place<'_>,
    report: &mut Report,
) {
    let dependency = Dependency { condition: Condition::ServiceStarted, restart, required: true };
    depend(loose, name, place.span(), dependency, place, report);
}

/// Valid keys that change nothing here, and those whose absence would be felt as a hole.
fn ignored(fields: &mut Fields<'_>, report: &mut Report) {
    let windows = "it concerns Windows only";
    fields.not_enforced(
        report,
        &[
            ("cpu_count", windows),
            ("cpu_percent", windows),
            ("credential_spec", windows),
            ("isolation", windows),
            ("develop", ""),
            ("gpus", ""),
            ("models", ""),
            ("post_start", "run the command in the entrypoint, or by `bargee exec`"),
            ("pre_stop", "handle the stop signal in the program"),
            ("pull_refresh_after", ""),
            ("storage_opt", ""),
            ("use_api_socket", "mount the socket by `volumes`"),
        ],
    );
    fields.unsupported(
        report,
        &[
            (
                "pre_start",
                "use a service of its own and `condition: service_completed_successfully`",
            ),
            ("provider", "give the service an image"),
        ],
    );
}

/// Notes where each key of the service stands.
fn origins(place: &Place<'_>, context: &Context<'_>, into: &mut Origins) {
    walk(place.node, &mut String::new(), context, into);
}

/// `path` is put back as it was.
fn walk(node: &Node, path: &mut String, context: &Context<'_>, into: &mut Origins) {
    let length = path.len();
    let note = |into: &mut Origins, path: &str, span: Span| {
        into.add(path, context.sources.name(span.file), context.sources.line(span));
    };
    match &node.kind {
        Kind::Mapping(entries) => {
            for entry in entries {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(&entry.key);
                note(into, path, entry.key_span);
                walk(&entry.value, path, context, into);
                path.truncate(length);
            }
        }
        Kind::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                note(into, path, item.span);
                walk(item, path, context, into);
                path.truncate(length);
            }
        }
        Kind::Null | Kind::Scalar(_) => {}
    }
}
