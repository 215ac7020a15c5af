//! `extends`: a service that begins as another one, of this file or of another.
//!
//! <https://docs.docker.com/reference/compose-file/services/#extends>

use std::collections::BTreeMap;

use super::load::{Context, Loader};
use super::merge::merge;
use super::node::{Entry, Kind, Node};
use super::rebase::{join, parent, rebase_service};
use super::unique::text;
use crate::diagnostic::{Diagnostic, Span};

/// Longest chain of services that extend each other.
const MAX_CHAIN: usize = 64;

/// A service on the way from the one that began, and where it names the next.
struct Link {
    file: String,
    service: String,
    span: Span,
}

/// What an `extends` names.
struct Target {
    file: Option<(String, Span)>,
    service: String,
    span: Span,
}

/// The services of one file, by name.
pub(super) type Services = BTreeMap<String, Node>;

/// Returns the services of a document.
pub(super) fn services(root: &Node) -> Services {
    match root.get("services").map(|services| &services.kind) {
        Some(Kind::Mapping(entries)) => {
            entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect()
        }
        _ => Services::new(),
    }
}

/// Replaces every service of `root` that extends another by what both are together.
pub(super) fn resolve(loader: &mut Loader<'_>, root: &mut Node, context: &Context) {
    let extends = |entry: &Entry| entry.value.get("extends").is_some();
    match root.get("services").map(|services| &services.kind) {
        Some(Kind::Mapping(entries)) if entries.iter().any(extends) => {}
        _ => return,
    }
    let known = services(root);
    let Some(Node { kind: Kind::Mapping(entries), .. }) = root.get_mut("services") else { return };
    for entry in entries.iter_mut().filter(|entry| extends(entry)) {
        match service(loader, &known, &entry.key, context, &mut Vec::new()) {
            Some(resolved) => entry.value = resolved,
            None => {
                entry.value.remove("extends");
            }
        }
    }
}

/// Returns a service with all that it extends, or nothing when that was refused.
fn service(
    loader: &mut Loader<'_>,
    services: &Services,
    name: &str,
    context: &Context,
    chain: &mut Vec<Link>,
) -> Option<Node> {
    let own = services.get(name)?;
    loader.count_copy(own)?;
    let mut own = own.clone();
    let Some(extends) = own.remove("extends") else { return Some(own) };
    let target = target(loader, &extends)?;
    chain.push(Link { file: context.path.clone(), service: name.to_owned(), span: target.span });
    let file =
        target.file.as_ref().map_or(context.path.clone(), |(file, _)| join(&context.dir, file));
    if refuse_cycle(loader, chain, &file, &target) {
        return None;
    }
    let base = match &target.file {
        None => {
            exists(loader, services, &target)?;
            service(loader, services, &target.service, context, chain)?
        }
        Some((relative, span)) => {
            let services = loader.extended(&file, *span, context)?;
            exists(loader, &services, &target)?;
            let dir = parent(&file).to_owned();
            let there = Context { path: file, dir, env: context.env.clone(), includes: Vec::new() };
            let mut base = service(loader, &services, &target.service, &there, chain)?;
            rebase_service(&mut base, parent(relative));
            base
        }
    };
    Some(merge(&["services", name], base, own, &mut loader.diagnostics))
}

fn target(loader: &mut Loader<'_>, extends: &Node) -> Option<Target> {
    let span = extends.span;
    if let Some(service) = text(extends) {
        return Some(Target { file: None, service: service.to_owned(), span });
    }
    let Some(service) = extends.get("service").and_then(text) else {
        loader
            .diagnostics
            .push(Diagnostic::error("extends", span, "`extends` names no service").with_hint(
                "write `extends: NAME`, or a mapping with `service` and perhaps `file`",
            ));
        return None;
    };
    let file = extends.get("file").and_then(|file| Some((text(file)?.to_owned(), file.span)));
    Some(Target { file, service: service.to_owned(), span })
}

fn exists(loader: &mut Loader<'_>, services: &Services, target: &Target) -> Option<()> {
    if services.contains_key(&target.service) {
        return Some(());
    }
    let place =
        target.file.as_ref().map_or("this file".to_owned(), |(file, _)| format!("`{file}`"));
    loader.diagnostics.push(Diagnostic::error(
        "extends",
        target.span,
        format!("service `{}` is not defined in {place}", target.service),
    ));
    None
}

fn refuse_cycle(loader: &mut Loader<'_>, chain: &[Link], file: &str, target: &Target) -> bool {
    let first = chain.iter().position(|link| link.file == file && link.service == target.service);
    if first.is_none() && chain.len() < MAX_CHAIN {
        return false;
    }
    let Some(first) = first else {
        let message = format!("`extends` goes over more than {MAX_CHAIN} services");
        loader.diagnostics.push(Diagnostic::error("extends", target.span, message));
        return true;
    };
    // Each service of the circle comes to it; told from the same one, they all say the same.
    let mut circle: Vec<&Link> = chain[first..].iter().collect();
    let least = (0..circle.len()).min_by_key(|index| (&circle[*index].file, circle[*index].span));
    circle.rotate_left(least.unwrap_or_default());
    let names: Vec<&str> =
        circle.iter().chain(circle.first()).map(|link| link.service.as_str()).collect();
    let mut diagnostic = Diagnostic::error(
        "extends-cycle",
        circle[0].span,
        format!("services extend each other: {}", names.join(" -> ")),
    );
    for link in &circle[1..] {
        diagnostic = diagnostic.with_label(link.span, format!("`{}` goes on here", link.service));
    }
    loader.diagnostics.push(diagnostic);
    true
}
