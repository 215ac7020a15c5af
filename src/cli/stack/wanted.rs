//! The stack that the user's files describe, ready to be submitted; or every mistake in them, told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::ansi::Paint;
use super::tell;
use crate::cli::error::{CliError, chain};
use crate::cli::stack_files::{self, StackArgs, StackError};
use crate::diagnostic::{self, Colour, Diagnostic, SourceMap};
use crate::protocol::{SourceText, Submission};
use crate::spec::compose_hash;
use crate::spec::name::ServiceName;
use crate::spec::node::Node;
use crate::spec::stack::Stack;

/// A stack without mistakes, and where each part of it was written.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) stack: Arc<Stack>,
    pub(crate) root: Node,
    pub(crate) sources: SourceMap,
    variables: BTreeMap<String, Option<String>>,
}

impl Wanted {
    /// Reads the stack that `args` choose and tells all that is wrong or suspicious. Speaks to no engine.
    ///
    /// # Errors
    /// There is no such file, or it has mistakes: they were told.
    pub(crate) fn read(args: &StackArgs) -> Result<Self, CliError> {
        let read = stack_files::read(args, &environment()).map_err(|error| {
            let hint = match &error {
                StackError::NoFile { .. } => Some("name one with -f FILE, or change to its folder"),
                StackError::Name { .. } => Some("name the stack with -p NAME or `name:`"),
                _ => None,
            };
            tell::refuse(&chain(&error), hint)
        })?;
        show(&read.diagnostics, &read.sources);
        let Some(stack) = read.stack else { return Err(CliError::Told) };
        let variables =
            read.variables.into_iter().map(|(name, variable)| (name, variable.value)).collect();
        Ok(Self { stack: Arc::new(stack), root: read.root, sources: read.sources, variables })
    }

    pub(crate) fn name(&self) -> &str {
        self.stack.name.as_str()
    }

    /// Refuses names that are no service of the stack.
    ///
    /// # Errors
    /// One of `names` is none; it was told.
    pub(crate) fn check_services<'a>(
        &self,
        names: impl IntoIterator<Item = &'a String>,
    ) -> Result<(), CliError> {
        let known = |name: &str| {
            let mut all = self.stack.services.keys().chain(&self.stack.disabled);
            all.any(|service| service.as_str() == name)
        };
        match names.into_iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => {
                let all: Vec<&str> = self.stack.services.keys().map(ServiceName::as_str).collect();
                let hint = format!("its services are {}", all.join(", "));
                let text = format!("stack {} has no service {name}", self.name());
                Err(tell::refuse(&text, Some(&hint)))
            }
        }
    }

    /// Returns `names` and all that they need; empty for all services.
    pub(crate) fn with_needed(&self, names: &[String]) -> Vec<String> {
        let mut found: BTreeSet<String> = names.iter().cloned().collect();
        let mut open: Vec<String> = names.to_vec();
        while let Some(name) = open.pop() {
            let service = self.stack.services.iter().find(|(key, _)| key.as_str() == name);
            for needed in service.iter().flat_map(|(_, service)| service.depends_on.keys()) {
                if found.insert(needed.as_str().to_owned()) {
                    open.push(needed.as_str().to_owned());
                }
            }
        }
        found.into_iter().collect()
    }

    /// Gives the services the hashes by which docker compose knows their containers again. A plan needs none.
    pub(crate) fn add_compose_hashes(&mut self) {
        let home = std::env::var("HOME").ok();
        compose_hash::add(&self.root, Arc::make_mut(&mut self.stack), home.as_deref());
    }

    /// Returns what the engine is given.
    pub(crate) fn submission(&self) -> Submission {
        let first = self.stack.config_files.first().map(PathBuf::from).unwrap_or_default();
        // One file has one name, however it was spelled: it owns the stack.
        let source = fs::canonicalize(&first).unwrap_or(first);
        let sources = self
            .sources
            .iter()
            .map(|(path, text)| SourceText { path: path.to_owned(), text: text.to_owned() });
        Submission {
            stack: Arc::clone(&self.stack),
            sources: sources.collect(),
            variables: self.variables.clone(),
            source: source.to_string_lossy().into_owned(),
        }
    }
}

/// The user's environment, as far as it is text.
pub(crate) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Prints diagnostics to standard error.
pub(crate) fn show(diagnostics: &[Diagnostic], sources: &SourceMap) {
    let colour = if Paint::stderr().is_coloured() { Colour::Ansi } else { Colour::Plain };
    for found in diagnostics {
        // A closed standard error leaves nobody to tell; the exit code still says it.
        drop(writeln!(io::stderr(), "{}\n", diagnostic::render(found, sources, colour)));
    }
}
