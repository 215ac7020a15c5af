//! `include`: another stack's file, loaded with its own folder and `.env`, whose objects join this one.
//!
//! <https://docs.docker.com/reference/compose-file/include/>

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::env_file;
use super::load::{Context, Loader};
use super::merge::strip;
use super::node::{Entry, Kind, Node};
use super::rebase::{join, parent, rebase_root};
use super::unique::text;
use crate::diagnostic::{Diagnostic, Span};

/// The objects that an included file brings.
const SECTIONS: [&str; 6] = ["services", "networks", "volumes", "configs", "secrets", "models"];
/// Deepest nesting of includes.
const MAX_NESTING: usize = 32;

/// One entry of `include`, its paths as written.
struct Include {
    span: Span,
    paths: Vec<(String, Span)>,
    project_directory: Option<String>,
    env_files: Option<Vec<(String, Span)>>,
}

/// Loads what `root` includes, and adds it.
pub(super) fn resolve(loader: &mut Loader<'_>, root: &mut Node, context: &Context) {
    let Some(includes) = root.remove("include") else { return };
    let items = match includes.kind {
        Kind::Sequence(items) => items,
        Kind::Null => return,
        _ => {
            let message = "`include` takes a list of files";
            loader.diagnostics.push(Diagnostic::error("include", includes.span, message));
            return;
        }
    };
    for item in &items {
        let Some(include) = parse(loader, item) else { continue };
        if let Some(model) = load(loader, &include, context) {
            import(loader, root, model, include.span);
        }
    }
}

fn parse(loader: &mut Loader<'_>, item: &Node) -> Option<Include> {
    let paths = texts(item).or_else(|| texts(item.get("path")?)).unwrap_or_default();
    if paths.is_empty() {
        loader.diagnostics.push(
            Diagnostic::error("include", item.span, "`include` entry names no file")
                .with_hint("write a path, or a mapping with `path`"),
        );
        return None;
    }
    Some(Include {
        span: item.span,
        paths,
        project_directory: item.get("project_directory").and_then(text).map(str::to_owned),
        env_files: item.get("env_file").and_then(texts),
    })
}

/// A path or a list of paths, each with its place.
fn texts(node: &Node) -> Option<Vec<(String, Span)>> {
    match &node.kind {
        Kind::Scalar(scalar) => Some(vec![(scalar.text.clone(), node.span)]),
        Kind::Sequence(items) => {
            items.iter().map(|item| Some((text(item)?.to_owned(), item.span))).collect()
        }
        _ => None,
    }
}

fn load(loader: &mut Loader<'_>, include: &Include, context: &Context) -> Option<Node> {
    let (first, _) = include.paths.first()?;
    let folder = include.project_directory.clone().unwrap_or_else(|| parent(first).to_owned());
    let dir = join(&context.dir, &folder);
    let env = Rc::new(environment(loader, include, context, &dir)?);
    let mut includes = context.includes.clone();
    includes.push((context.path.clone(), include.span));
    let mut model: Option<Node> = None;
    for (path, span) in &include.paths {
        let path = join(&context.dir, path);
        if refuse_cycle(loader, &includes, &path, *span) {
            return None;
        }
        let text = loader.open(&path, *span)?;
        let there =
            Context { path, dir: dir.clone(), env: env.clone(), includes: includes.clone() };
        let node = loader.file(&text, &there)?;
        model = Some(match model {
            Some(model) => super::merge::merge(&[], model, node, &mut loader.diagnostics),
            None => node,
        });
    }
    let mut model = model?;
    strip(&mut model);
    rebase_root(&mut model, &folder);
    Some(model)
}

/// Returns the includer's environment and below it what the env files of the included stack say.
fn environment(
    loader: &mut Loader<'_>,
    include: &Include,
    context: &Context,
    dir: &str,
) -> Option<BTreeMap<String, String>> {
    let mut env = BTreeMap::new();
    let files = match &include.env_files {
        Some(files) => {
            files.iter().map(|(path, span)| (join(&context.dir, path), *span, true)).collect()
        }
        None => vec![(join(dir, ".env"), include.span, false)],
    };
    for (path, span, required) in files {
        let read =
            if required { loader.open(&path, span) } else { loader.open_if_exists(&path, span)? };
        let text = match read {
            Some(text) => text,
            None if required => return None,
            None => continue,
        };
        let lookup = |name: &str| context.env.get(name).or_else(|| env.get(name)).cloned();
        match env_file::parse(&text, &lookup) {
            Ok(pairs) => {
                env.extend(pairs.into_iter().filter_map(|(name, value)| Some((name, value?))))
            }
            Err(error) => {
                let message = format!("cannot read env file `{path}`: {}", chain(&error));
                loader.diagnostics.push(Diagnostic::error("env-file", span, message));
                return None;
            }
        }
    }
    env.extend(context.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    Some(env)
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn refuse_cycle(
    loader: &mut Loader<'_>,
    includes: &[(String, Span)],
    path: &str,
    span: Span,
) -> bool {
    if let Some((_, first)) = includes.iter().find(|(file, _)| file == path) {
        let message = format!("`{path}` includes itself");
        let mut diagnostic = Diagnostic::error("include-cycle", span, message);
        if *first != span {
            diagnostic = diagnostic.with_label(*first, "the cycle begins here");
        }
        loader.diagnostics.push(diagnostic);
        return true;
    }
    if includes.len() > MAX_NESTING {
        let message = format!("`include` is nested deeper than {MAX_NESTING} files");
        loader.diagnostics.push(Diagnostic::error("include", span, message));
        return true;
    }
    false
}

/// Adds the objects of `model`; one that the file has too must be the same.
fn import(loader: &mut Loader<'_>, root: &mut Node, model: Node, span: Span) {
    let Kind::Mapping(entries) = model.kind else { return };
    for section in entries.into_iter().filter(|entry| SECTIONS.contains(&entry.key.as_str())) {
        let Kind::Mapping(objects) = section.value.kind else { continue };
        let target = section_of(root, &section.key, section.key_span);
        let own: HashMap<String, usize> = target
            .iter()
            .enumerate()
            .map(|(position, entry)| (entry.key.clone(), position))
            .collect();
        for object in objects {
            match own.get(&object.key).map(|position| &target[*position]) {
                None => target.push(object),
                Some(own) if same(&own.value, &object.value) => {}
                Some(own) => loader.diagnostics.push(
                    Diagnostic::error(
                        "include-conflict",
                        own.key_span,
                        format!(
                            "`{}.{}` is also defined by an included file",
                            section.key, object.key
                        ),
                    )
                    .with_label(span, "included here")
                    .with_label(object.key_span, "defined here too")
                    .with_hint(
                        "change it in a file that is listed behind the included one under `path`",
                    ),
                ),
            }
        }
    }
}

fn section_of<'a>(root: &'a mut Node, name: &str, key_span: Span) -> &'a mut Vec<Entry> {
    let empty = || Node::new(key_span, Kind::Mapping(Vec::new()));
    if !matches!(root.kind, Kind::Mapping(_)) {
        root.kind = Kind::Mapping(Vec::new());
    }
    let Kind::Mapping(sections) = &mut root.kind else {
        unreachable!("BUG: the root was made a mapping above")
    };
    let position = sections.iter().position(|entry| entry.key == name).unwrap_or_else(|| {
        sections.push(Entry { key: name.to_owned(), key_span, value: empty() });
        sections.len() - 1
    });
    let section = &mut sections[position].value;
    if !matches!(section.kind, Kind::Mapping(_)) {
        *section = empty();
    }
    let Kind::Mapping(objects) = &mut section.kind else {
        unreachable!("BUG: the section was made a mapping above")
    };
    objects
}

/// Whether two values are equal wherever they are written.
fn same(left: &Node, right: &Node) -> bool {
    match (&left.kind, &right.kind) {
        (Kind::Sequence(left), Kind::Sequence(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Kind::Mapping(entries), Kind::Mapping(others)) => {
            entries.len() == others.len()
                && entries.iter().all(|entry| {
                    right.get(&entry.key).is_some_and(|other| same(&entry.value, other))
                })
        }
        (left, right) => left == right,
    }
}
