//! The loading pipeline: each file is parsed, interpolated, completed by what it includes and extends;
//! then all are merged. All I/O goes through [`Files`], so loading is pure.

use std::collections::{BTreeMap, HashSet};
use std::io;

use super::interpolate::{Variables, interpolate};
use super::merge::{merge, strip};
use super::node::{Kind, Node};
use super::rebase::parent;
use super::{extends, include, toml, yaml};
use crate::diagnostic::{Diagnostic, FileId, SourceMap, Span};

/// How many files one stack may read: includes can multiply.
const MAX_FILES: usize = 256;

/// One file as the user named it; `.toml` is TOML, everything else YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub path: String,
    pub text: String,
}

/// Reads the files that others name.
///
/// Paths are relative to where the inputs' paths are. A file that does not exist is
/// [`io::ErrorKind::NotFound`].
pub trait Files {
    fn read(&self, path: &str) -> io::Result<String>;
}

/// A loaded document, or as much of it as there is when `diagnostics` has errors.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// All files merged, without tags. Relative paths are seen from the folder of the first input.
    pub root: Node,
    pub sources: SourceMap,
    pub diagnostics: Vec<Diagnostic>,
    /// The variables that were used.
    pub variables: Variables,
}

impl Loaded {
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Loads `files` as one stack; each is merged onto those before it.
pub fn load(files: &[Input], env: &BTreeMap<String, String>, reader: &dyn Files) -> Loaded {
    let mut loader = Loader {
        reader,
        sources: SourceMap::default(),
        diagnostics: Vec::new(),
        variables: Variables::new(),
        extended: BTreeMap::new(),
        read: 0,
    };
    let dir = files.first().map_or(".", |first| parent(&first.path)).to_owned();
    let mut root: Option<Node> = None;
    for input in files {
        let context = Context {
            path: super::rebase::join(".", &input.path),
            dir: dir.clone(),
            env: env.clone(),
            includes: Vec::new(),
        };
        let Some(node) = loader.file(&input.text, &context) else { continue };
        root = Some(match root {
            Some(root) => merge(&[], root, node, &mut loader.diagnostics),
            None => node,
        });
    }
    let nowhere = Span { file: FileId(0), start: 0, end: 0 };
    let mut root = root.unwrap_or_else(|| Node::new(nowhere, Kind::Mapping(Vec::new())));
    strip(&mut root);
    if files.is_empty() {
        // Every diagnostic and the root refer to a file, so there is always one.
        loader.sources.add("(no file)".to_owned(), String::new());
    }
    let mut seen = HashSet::new();
    // What an alias or an extended service copies would be reported once for each copy.
    loader.diagnostics.retain(|diagnostic| {
        seen.insert((diagnostic.code, diagnostic.span, diagnostic.message.clone()))
    });
    Loaded {
        root,
        sources: loader.sources,
        diagnostics: loader.diagnostics,
        variables: loader.variables,
    }
}

/// Where a file stands, and what it sees.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) path: String,
    /// The folder that its relative paths start from.
    pub(super) dir: String,
    pub(super) env: BTreeMap<String, String>,
    /// The files that include this one, outermost first, each with the place where it does.
    pub(super) includes: Vec<(String, Span)>,
}

/// What all files of one stack share.
pub(super) struct Loader<'a> {
    reader: &'a dyn Files,
    sources: SourceMap,
    pub(super) diagnostics: Vec<Diagnostic>,
    variables: Variables,
    /// Files that services extend, by path and including environment's place.
    extended: BTreeMap<String, Option<Node>>,
    read: usize,
}

impl Loader<'_> {
    /// Returns a file with all that it includes and extends.
    pub(super) fn file(&mut self, text: &str, context: &Context) -> Option<Node> {
        let mut root = self.parse(text, context)?;
        include::resolve(self, &mut root, context);
        extends::resolve(self, &mut root, context);
        Some(root)
    }

    /// Returns a file that a service extends: parsed and interpolated only.
    pub(super) fn extended(&mut self, path: &str, span: Span, context: &Context) -> Option<Node> {
        if let Some(known) = self.extended.get(path) {
            return known.clone();
        }
        let there = Context { path: path.to_owned(), ..context.clone() };
        let node = self.open(path, span).and_then(|text| self.parse(&text, &there));
        self.extended.insert(path.to_owned(), node.clone());
        node
    }

    fn parse(&mut self, text: &str, context: &Context) -> Option<Node> {
        let shown = context.path.strip_prefix("./").unwrap_or(&context.path);
        let file = self.sources.add(shown.to_owned(), text.to_owned());
        let documents = if context.path.ends_with(".toml") {
            vec![toml::read(file, text, &mut self.diagnostics)?]
        } else {
            yaml::read(file, text, &mut self.diagnostics)?
        };
        let mut root: Option<Node> = None;
        for mut document in documents {
            if document.kind == Kind::Null {
                continue;
            }
            if !matches!(document.kind, Kind::Mapping(_)) {
                let message = "a stack file is a mapping, with `services` in it";
                self.diagnostics.push(Diagnostic::error("not-a-mapping", document.span, message));
                return None;
            }
            interpolate(&mut document, &context.env, &mut self.variables, &mut self.diagnostics);
            root = Some(match root {
                Some(root) => merge(&[], root, document, &mut self.diagnostics),
                None => document,
            });
        }
        if root.is_none() {
            let span = Span { file, start: 0, end: 0 };
            self.diagnostics.push(Diagnostic::error("empty-file", span, "the file is empty"));
        }
        root
    }

    /// Reads a file that the place at `span` names.
    pub(super) fn open(&mut self, path: &str, span: Span) -> Option<String> {
        let text = self.open_if_exists(path, span)?;
        if text.is_none() {
            let message = format!("cannot find `{path}`");
            self.diagnostics.push(Diagnostic::error("file-not-found", span, message));
        }
        text
    }

    /// As [`Loader::open`], but `Some(None)` for a file that does not exist.
    pub(super) fn open_if_exists(&mut self, path: &str, span: Span) -> Option<Option<String>> {
        self.read += 1;
        if self.read > MAX_FILES {
            let message = format!("the stack reads more than {MAX_FILES} files");
            self.diagnostics.push(Diagnostic::error("too-many-files", span, message));
            return None;
        }
        match self.reader.read(path.strip_prefix("./").unwrap_or(path)) {
            Ok(text) => Some(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(None),
            Err(error) => {
                let message = format!("cannot read `{path}`: {error}");
                self.diagnostics.push(Diagnostic::error("file-not-read", span, message));
                None
            }
        }
    }
}
