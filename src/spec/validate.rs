//! From a merged document to a [`Stack`]: every section is read, then the links between them are checked.
//! All mistakes are reported at once; a stack comes out only when there was no error.

mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::container::InlineFile;
use super::document::{self, FileSource, Loose, Place, Report};
use super::env_file;
use super::keys;
use super::name::{ServiceName, StackName};
use super::node::Node;
use super::parallel;
use super::stack::{Network, Stack, Volume};
use super::value::mount::Folders;
use crate::diagnostic::{Diagnostic, SourceMap, Span};

/// The files that a stack names. An error is a fragment for the user, such as "no such file".
pub trait Files: fmt::Debug + Sync {
    /// Returns the content of the file at an absolute path.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;
}

/// All that a document's meaning depends on beside its text.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    pub name: StackName,
    /// Absolute folder that relative paths start from.
    pub working_dir: &'a str,
    pub home: Option<&'a str>,
    pub config_files: &'a [String],
    /// The user's environment and `.env`, for variables without a value.
    pub environment: &'a BTreeMap<String, String>,
    pub files: &'a dyn Files,
    /// Active profiles; `*` is all of them.
    pub profiles: &'a [String],
    /// Services that the user named: each activates its own profiles.
    pub selected: &'a [String],
    pub sources: &'a SourceMap,
}

impl Context<'_> {
    pub(crate) fn folders(&self) -> Folders<'_> {
        Folders { working_dir: self.working_dir, home: self.home }
    }
}

/// Validates the document at `root`. Returns the stack and the warnings, or everything that is wrong.
pub fn validate(
    root: &Node,
    context: &Context<'_>,
) -> Result<(Stack, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut report = Report::default();
    let document = Document::read(root, context, &mut report);
    let stack = document.map(|document| document.link(context, &mut report));
    report.diagnostics.sort_by_key(|diagnostic| (!diagnostic.is_error(), diagnostic.span));
    match stack {
        Some(stack) if !report.has_errors() => Ok((stack, report.diagnostics)),
        _ => Err(report.diagnostics),
    }
}

/// All sections, read but not yet linked.
struct Document {
    services: BTreeMap<ServiceName, Loose>,
    networks: BTreeMap<String, Network>,
    volumes: BTreeMap<String, Volume>,
    configs: BTreeMap<String, Option<FileSource>>,
    secrets: BTreeMap<String, Option<FileSource>>,
}

impl Document {
    fn read(root: &Node, context: &Context<'_>, report: &mut Report) -> Option<Self> {
        let mut fields = Place::root(root).fields(&keys::ROOT, report)?;
        if let Some(place) = fields.get("name") {
            place.text(report);
        }
        if let Some(place) = fields.get("version") {
            report.push(
                place
                    .warning("obsolete", "this key is obsolete and means nothing")
                    .with_hint("remove it"),
            );
        }
        let defaults = fields
            .get("x-bargee")
            .map(|place| document::extension(&place, report))
            .unwrap_or_default();
        let networks = fields
            .get("networks")
            .map(|place| document::networks(&place, report))
            .unwrap_or_default();
        let volumes = fields
            .get("volumes")
            .map(|place| document::volumes(&place, report))
            .unwrap_or_default();
        let configs = fields
            .get("configs")
            .map(|place| document::file_sources(&place, report))
            .unwrap_or_default();
        let secrets = fields
            .get("secrets")
            .map(|place| document::file_sources(&place, report))
            .unwrap_or_default();
        let mut services = BTreeMap::new();
        match fields.get("services") {
            None => report.push(
                Diagnostic::error("missing-key", root.span, "there are no services")
                    .with_hint("add a `services` section"),
            ),
            Some(place) => {
                let entries = place.entries(report);
                let read = parallel::map(&entries, |(key, place)| {
                    let mut found = Report::default();
                    (read_service(key, place, context, defaults, &mut found), found)
                });
                for (service, found) in read {
                    report.diagnostics.extend(found.diagnostics);
                    services.extend(service);
                }
            }
        }
        fields.not_enforced(report, &[("models", "")]);
        fields.finish(report);
        Some(Self { services, networks, volumes, configs, secrets })
    }

    fn link(mut self, context: &Context<'_>, report: &mut Report) -> Stack {
        let disabled = self.disabled(context);
        let mut networks = BTreeMap::new();
        let mut volumes = BTreeMap::new();
        check_cycles(&self.services, report);
        ports::check(&self.services, &disabled, report);
        for (name, loose) in &self.services {
            check_alone(loose, report);
            self.check_dependencies(loose, &disabled, report);
            self.use_networks(loose, &mut networks, disabled.contains(name), report);
            self.use_volumes(loose, &mut volumes, disabled.contains(name), report);
        }
        let read = std::mem::take(&mut self.services);
        let enabled: BTreeSet<ServiceName> =
            read.keys().filter(|name| !disabled.contains(*name)).cloned().collect();
        let mut services = BTreeMap::new();
        for (name, mut loose) in read {
            if !enabled.contains(&name) {
                continue;
            }
            read_env_files(&mut loose, context, report);
            self.read_files(&mut loose, context, report);
            loose.service.depends_on.retain(|name, _| enabled.contains(name));
            services.insert(name, loose.service);
        }
        Stack {
            name: context.name.clone(),
            services,
            networks,
            volumes,
            working_dir: context.working_dir.to_owned(),
            config_files: context.config_files.to_vec(),
            disabled: disabled.into_iter().collect(),
        }
    }

    /// A service with profiles runs when one of them is active; naming a service activates its profiles.
    fn disabled(&self, context: &Context<'_>) -> BTreeSet<ServiceName> {
        let named = self
            .services
            .iter()
            .filter(|(name, _)| context.selected.iter().any(|it| it == name.as_str()));
        let mut active: BTreeSet<&String> = named.flat_map(|(_, loose)| &loose.profiles).collect();
        active.extend(context.profiles);
        let all = active.iter().any(|profile| *profile == "*");
        let enabled = |loose: &Loose| {
            all || loose.profiles.is_empty()
                || loose.profiles.iter().any(|profile| active.contains(profile))
        };
        self.services
            .iter()
            .filter(|(_, loose)| !enabled(loose))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn check_dependencies(
        &self,
        loose: &Loose,
        disabled: &BTreeSet<ServiceName>,
        report: &mut Report,
    ) {
        for (target, span) in &loose.dependencies {
            let required =
                loose.service.depends_on.get(target).is_none_or(|dependency| dependency.required);
            if !self.services.contains_key(target) {
                let names: Vec<&str> = self.services.keys().map(ServiceName::as_str).collect();
                if required {
                    report.push(undefined(loose, "service", target.as_str(), *span, &names));
                }
            } else if required
                && disabled.contains(target)
                && !disabled.contains(&loose.service.name)
            {
                let profiles = self.services[target].profiles.join(", ");
                let problem =
                    format!("{}: the service {target} that it depends on is disabled", loose.path);
                let hint =
                    format!("activate one of its profiles ({profiles}), or say `required: false`");
                report
                    .push(Diagnostic::error("disabled-dependency", *span, problem).with_hint(hint));
            }
        }
    }

    fn use_networks(
        &self,
        loose: &Loose,
        into: &mut BTreeMap<String, Network>,
        disabled: bool,
        report: &mut Report,
    ) {
        for used in &loose.networks {
            match self.networks.get(&used.key) {
                Some(_) if disabled => {}
                Some(network) => {
                    into.insert(used.key.clone(), network.clone());
                }
                None if used.key == "default" && disabled => {}
                None if used.key == "default" => {
                    into.insert(used.key.clone(), Network::default());
                }
                None => {
                    let names: Vec<&str> = self.networks.keys().map(String::as_str).collect();
                    report.push(undefined(loose, "network", &used.key, used.span, &names));
                }
            }
        }
    }

    fn use_volumes(
        &self,
        loose: &Loose,
        into: &mut BTreeMap<String, Volume>,
        disabled: bool,
        report: &mut Report,
    ) {
        for used in &loose.volumes {
            match self.volumes.get(&used.key) {
                Some(_) if disabled => {}
                Some(volume) => {
                    into.insert(used.key.clone(), volume.clone());
                }
                None => {
                    let names: Vec<&str> = self.volumes.keys().map(String::as_str).collect();
                    report.push(undefined(loose, "volume", &used.key, used.span, &names));
                }
            }
        }
    }

    fn read_files(&self, loose: &mut Loose, context: &Context<'_>, report: &mut Report) {
        let mut found = Vec::new();
        for file in &loose.files {
            let (section, what) =
                if file.secret { (&self.secrets, "secret") } else { (&self.configs, "config") };
            let Some(source) = section.get(&file.source.key) else {
                let names: Vec<&str> = section.keys().map(String::as_str).collect();
                report.push(undefined(loose, what, &file.source.key, file.source.span, &names));
                continue;
            };
            let Some(source) = source else { continue };
            if let Some(content) = content(source, context, report) {
                found.push(InlineFile {
                    target: file.target.clone(),
                    content,
                    secret: file.secret,
                    uid: file.uid,
                    gid: file.gid,
                    mode: file.mode,
                });
            }
        }
        loose.service.container.files.append(&mut found);
    }
}

fn undefined(loose: &Loose, what: &str, key: &str, span: Span, names: &[&str]) -> Diagnostic {
    let error =
        Diagnostic::error("undefined", span, format!("{}: there is no {what} {key:?}", loose.path));
    let hinted = document::hinted(error, key, names);
    if hinted.hint.is_some() || what == "service" {
        return hinted;
    }
    hinted.with_hint(format!("define it in the top-level `{what}s` section"))
}

fn read_service(
    key: &str,
    place: &Place<'_>,
    context: &Context<'_>,
    defaults: document::Extension,
    report: &mut Report,
) -> Option<(ServiceName, Loose)> {
    match ServiceName::try_from(key) {
        Ok(name) => {
            let service = document::service(name.clone(), place, context, defaults, report)?;
            Some((name, service))
        }
        Err(error) => {
            let message = format!("{key:?} is not a service's name");
            report.push(
                Diagnostic::error("invalid-name", place.key_span, message).with_hint(error.rule),
            );
            None
        }
    }
}

/// Checks what needs no other service.
fn check_alone(loose: &Loose, report: &mut Report) {
    if let (Some(name), true) = (&loose.service.container_name, loose.service.replicas > 1) {
        let problem = format!(
            "{}: {} replicas cannot share the name {name}",
            loose.path, loose.service.replicas
        );
        report.push(
            Diagnostic::error("conflict", loose.span, problem)
                .with_hint("remove container_name, or run one replica"),
        );
    }
    let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
    for (target, span) in &loose.targets {
        if let Some(other) = seen.insert(target, *span) {
            // They were read key by key, not in the file's order.
            let (first, span) = (other.min(*span), other.max(*span));
            let problem = format!("{}: {target} is mounted twice", loose.path);
            report.push(
                Diagnostic::error("duplicate-mount", span, problem)
                    .with_label(first, "first mounted here"),
            );
        }
    }
}

fn content(source: &FileSource, context: &Context<'_>, report: &mut Report) -> Option<Vec<u8>> {
    let (problem, span) = match source {
        FileSource::Content(text) => return Some(text.clone().into_bytes()),
        FileSource::Environment { variable, span } => match context.environment.get(variable) {
            Some(value) => return Some(value.clone().into_bytes()),
            None => (format!("the variable {variable} is not set"), *span),
        },
        FileSource::File { path, span } => {
            let read = context
                .folders()
                .absolute(path)
                .ok_or_else(|| "there is no home folder for ~".to_owned());
            match read.and_then(|path| context.files.read(&path)) {
                Ok(content) => return Some(content),
                Err(problem) => (format!("cannot read {path}: {problem}"), *span),
            }
        }
    };
    // Several services may use one entry; one message is enough.
    let error = Diagnostic::error("unreadable-file", span, problem);
    if !report.diagnostics.contains(&error) {
        report.push(error);
    }
    None
}

/// Puts the variables of `env_file` below those of `environment`, and `label_file` below `labels`.
fn read_env_files(loose: &mut Loose, context: &Context<'_>, report: &mut Report) {
    let service = &mut loose.service;
    let mut variables: BTreeMap<String, Option<String>> = BTreeMap::new();
    for file in &loose.env_files {
        match env_file(file, context) {
            Ok(pairs) if file.labels => {
                for (key, value) in pairs {
                    if key.starts_with("com.docker.compose.") {
                        let problem = format!("{}: the label {key} is reserved", loose.path);
                        report.push(Diagnostic::error("reserved-label", file.span, problem));
                    }
                    service
                        .container
                        .labels
                        .entry(key)
                        .or_insert_with(|| value.unwrap_or_default());
                }
            }
            Ok(pairs) => variables.extend(pairs.into_iter().map(|(key, value)| {
                let value = value.or_else(|| context.environment.get(&key).cloned());
                (key, value)
            })),
            Err(_) if !file.required => {}
            Err(problem) => {
                let problem = format!("{}: cannot read {}: {problem}", loose.path, file.path);
                report
                    .push(Diagnostic::error("unreadable-file", file.span, problem).with_hint(
                        "write it as {path: …, required: false} when it may be missing",
                    ));
            }
        }
    }
    for entry in &service.container.env {
        let (key, value) =
            entry.split_once('=').map_or((entry.as_str(), None), |(key, value)| (key, Some(value)));
        variables.insert(key.to_owned(), value.map(str::to_owned));
    }
    let join = |(key, value): (String, Option<String>)| {
        value.map_or(key.clone(), |value| format!("{key}={value}"))
    };
    service.container.env = variables.into_iter().map(join).collect();
}

fn env_file(
    file: &document::EnvFile,
    context: &Context<'_>,
) -> Result<Vec<env_file::Pair>, String> {
    let bytes = context.files.read(&file.path)?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let lookup = |name: &str| context.environment.get(name).cloned();
    let pairs = if file.raw { env_file::parse_raw(&text) } else { env_file::parse(&text, &lookup) };
    pairs.map_err(|error| error.to_string())
}

/// Reports each circle of dependencies once, with the path around it.
fn check_cycles(services: &BTreeMap<ServiceName, Loose>, report: &mut Report) {
    let mut done = BTreeSet::new();
    for name in services.keys() {
        let mut path = Vec::new();
        walk(name, services, &mut path, &mut done, report);
    }
}

fn walk<'s>(
    name: &'s ServiceName,
    services: &'s BTreeMap<ServiceName, Loose>,
    path: &mut Vec<(&'s ServiceName, Span)>,
    done: &mut BTreeSet<&'s ServiceName>,
    report: &mut Report,
) {
    let Some(loose) = services.get(name) else { return };
    if done.contains(name) {
        return;
    }
    for (next, span) in &loose.dependencies {
        path.push((name, *span));
        match path.iter().position(|(earlier, _)| *earlier == next) {
            Some(start) => report.push(cycle(&path[start..])),
            None => walk(next, services, path, done, report),
        }
        path.pop();
    }
    done.insert(name);
}

fn cycle(path: &[(&ServiceName, Span)]) -> Diagnostic {
    let mut names: Vec<&str> = path.iter().map(|(name, _)| name.as_str()).collect();
    names.push(names[0]);
    let message = format!("services depend on each other in a circle: {}", names.join(" -> "));
    let mut error = Diagnostic::error("dependency-cycle", path[0].1, message)
        .with_hint("remove one of these dependencies");
    for (index, (_, span)) in path.iter().enumerate().skip(1) {
        error =
            error.with_label(*span, format!("{} depends on {}", names[index], names[index + 1]));
    }
    error
}

#[cfg(test)]
mod tests;
