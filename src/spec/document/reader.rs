//! Reading a Node tree by what is expected at each place. A reader that meets something else reports it
//! with its path and span, and goes on, so that one run shows every mistake.

use std::str::FromStr;

use crate::diagnostic::{Diagnostic, Span};
use crate::spec::keys::{self, Keys};
use crate::spec::node::{Entry, Kind, Node};
use crate::spec::value::InvalidValue;

/// Everything found so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Report {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// A node and the path that leads to it.
#[derive(Debug, Clone)]
pub(crate) struct Place<'n> {
    pub(crate) node: &'n Node,
    pub(crate) path: String,
    /// The key in front of it; the node itself where there is none.
    pub(crate) key_span: Span,
}

impl<'n> Place<'n> {
    pub(crate) fn root(node: &'n Node) -> Self {
        Self { node, path: String::new(), key_span: node.span }
    }

    pub(crate) fn span(&self) -> Span {
        self.node.span
    }

    /// Returns an error about this value.
    pub(crate) fn error(&self, code: &'static str, message: impl AsRef<str>) -> Diagnostic {
        Diagnostic::error(code, self.span(), self.say(message.as_ref()))
    }

    /// Returns a warning about the key of this value.
    pub(crate) fn warning(&self, code: &'static str, message: impl AsRef<str>) -> Diagnostic {
        Diagnostic::warning(code, self.key_span, self.say(message.as_ref()))
    }

    fn say(&self, message: &str) -> String {
        if self.path.is_empty() { message.to_owned() } else { format!("{}: {message}", self.path) }
    }

    fn mismatch(&self, report: &mut Report, expected: &str) {
        let found = match &self.node.kind {
            Kind::Null => "nothing",
            Kind::Scalar(_) => "a single value",
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "a mapping",
        };
        let error = self.error("wrong-type", format!("expected {expected}, found {found}"));
        let one_of_a_list = expected == "a list" && matches!(self.node.kind, Kind::Scalar(_));
        report.push(if one_of_a_list {
            error.with_hint("a list of one is written in brackets, as in [value]")
        } else {
            error
        });
    }

    fn child(&self, entry: &'n Entry) -> Self {
        let mut path = String::with_capacity(self.path.len() + 1 + entry.key.len());
        if !self.path.is_empty() {
            path.push_str(&self.path);
            path.push('.');
        }
        path.push_str(&entry.key);
        Self { node: &entry.value, path, key_span: entry.key_span }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.node.kind == Kind::Null
    }

    /// Returns the text when this is a scalar, without a report otherwise.
    pub(crate) fn scalar(&self) -> Option<&'n str> {
        match &self.node.kind {
            Kind::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    pub(crate) fn is_mapping(&self) -> bool {
        matches!(self.node.kind, Kind::Mapping(_))
    }

    pub(crate) fn text(&self, report: &mut Report) -> Option<&'n str> {
        let text = self.scalar();
        if text.is_none() {
            self.mismatch(report, "text");
        }
        text
    }

    pub(crate) fn string(&self, report: &mut Report) -> Option<String> {
        self.text(report).map(str::to_owned)
    }

    /// YAML 1.1's words too, as compose takes them from interpolated variables.
    pub(crate) fn flag(&self, report: &mut Report) -> Option<bool> {
        let text = self.text(report)?;
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "1" | "t" => Some(true),
            "false" | "no" | "off" | "n" | "0" | "f" => Some(false),
            _ => {
                report.push(
                    self.error("invalid-value", format!("{text:?} is neither true nor false")),
                );
                None
            }
        }
    }

    pub(crate) fn integer<T: FromStr>(&self, report: &mut Report) -> Option<T> {
        let whole = self.scalar().is_some_and(|text| text.trim().parse::<i128>().is_ok());
        self.convert(report, if whole { "a number that fits here" } else { "a whole number" })
    }

    /// Reads what parses by itself, such as an address; `expected` says what that is.
    pub(crate) fn convert<T: FromStr>(&self, report: &mut Report, expected: &str) -> Option<T> {
        let text = self.text(report)?;
        let value = text.trim().parse().ok();
        if value.is_none() {
            report.push(self.error("invalid-value", format!("{text:?} is not {expected}")));
        }
        value
    }

    pub(crate) fn parsed<T>(
        &self,
        report: &mut Report,
        parse: impl FnOnce(&str) -> Result<T, InvalidValue>,
    ) -> Option<T> {
        match parse(self.text(report)?) {
            Ok(value) => Some(value),
            Err(invalid) => {
                let problem = format!("{:?} is not a {}", invalid.text, invalid.kind);
                report.push(self.error("invalid-value", problem).with_hint(invalid.rule));
                None
            }
        }
    }

    /// Returns the text when it is one of `words`.
    pub(crate) fn word(&self, report: &mut Report, words: &[&'static str]) -> Option<&'static str> {
        let text = self.text(report)?;
        let found = words.iter().find(|word| **word == text).copied();
        if found.is_none() {
            let error =
                self.error("invalid-value", format!("{text:?} is not one of {}", words.join(", ")));
            report.push(hinted(error, text, words));
        }
        found
    }

    /// Returns the parts of a list.
    pub(crate) fn items(&self, report: &mut Report) -> Vec<Self> {
        self.items_or(report, "a list")
    }

    /// Returns the parts of a list where something else may stand too, which the caller has read.
    pub(crate) fn items_or(&self, report: &mut Report, expected: &str) -> Vec<Self> {
        match &self.node.kind {
            Kind::Sequence(items) => {
                let place = |(index, node): (usize, &'n Node)| Self {
                    node,
                    path: format!("{}[{index}]", self.path),
                    key_span: node.span,
                };
                items.iter().enumerate().map(place).collect()
            }
            _ => {
                self.mismatch(report, expected);
                Vec::new()
            }
        }
    }

    /// Returns the parts of a list, or the one value that stands for a list of it.
    pub(crate) fn one_or_many(&self, report: &mut Report) -> Vec<Self> {
        if self.scalar().is_some() { vec![self.clone()] } else { self.items(report) }
    }

    /// Returns the texts of a list or of one value.
    pub(crate) fn texts(&self, report: &mut Report) -> Vec<String> {
        self.one_or_many(report).iter().filter_map(|item| item.string(report)).collect()
    }

    /// Returns the entries of a mapping.
    pub(crate) fn entries(&self, report: &mut Report) -> Vec<(&'n str, Self)> {
        match &self.node.kind {
            Kind::Mapping(entries) => {
                entries.iter().map(|entry| (entry.key.as_str(), self.child(entry))).collect()
            }
            _ => {
                self.mismatch(report, "a mapping");
                Vec::new()
            }
        }
    }

    /// Returns the pairs of a mapping or of a list of `key=value`; a value may be missing.
    pub(crate) fn pairs(&self, report: &mut Report) -> Vec<(String, Option<String>, Self)> {
        if self.is_mapping() {
            let pair = |(key, place): (&str, Self), report: &mut Report| {
                let value = if place.is_null() { None } else { Some(place.string(report)?) };
                Some((key.to_owned(), value, place))
            };
            return self
                .entries(report)
                .into_iter()
                .filter_map(|entry| pair(entry, report))
                .collect();
        }
        let mut pairs = Vec::new();
        for place in self.items_or(report, "a mapping or a list of `key=value`") {
            let Some(text) = place.text(report) else { continue };
            let (key, value) =
                text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
            if key.is_empty() {
                report.push(
                    place.error("invalid-value", format!("{text:?} has no name before the =")),
                );
                continue;
            }
            pairs.push((key.to_owned(), value.map(str::to_owned), place));
        }
        pairs
    }

    /// As [`Self::pairs`], a missing value being the empty one.
    pub(crate) fn map(&self, report: &mut Report) -> std::collections::BTreeMap<String, String> {
        self.pairs(report)
            .into_iter()
            .map(|(key, value, _)| (key, value.unwrap_or_default()))
            .collect()
    }

    /// Opens a mapping for reading key by key; `keys` are those that it may have.
    pub(crate) fn fields(&self, keys: &'static Keys, report: &mut Report) -> Option<Fields<'n>> {
        if !self.is_mapping() {
            self.mismatch(report, "a mapping");
            return None;
        }
        Some(Fields { place: self.clone(), keys, asked: Vec::new() })
    }
}

/// A mapping that is read key by key; those that are not in its table are the unknown ones.
#[derive(Debug)]
#[must_use = "call `finish`: it reports the unknown keys"]
pub(crate) struct Fields<'n> {
    pub(crate) place: Place<'n>,
    keys: &'static Keys,
    /// The keys that were asked for: all of the table, which only debug builds check.
    asked: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// Returns the value under `key`; a null is as good as none.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<Place<'n>> {
        self.get_null(key).filter(|place| !place.is_null())
    }

    /// Returns the value under `key`, a null too.
    pub(crate) fn get_null(&mut self, key: &'static str) -> Option<Place<'n>> {
        debug_assert!(
            self.keys.names().any(|name| name == key),
            "BUG: `{key}` is not among the keys of {}",
            self.keys.name
        );
        if cfg!(debug_assertions) {
            self.asked.push(key);
        }
        let Kind::Mapping(entries) = &self.place.node.kind else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| self.place.child(entry))
    }

    /// Warns about each key that is valid, does no harm when ignored, and is ignored.
    pub(crate) fn not_enforced(&mut self, report: &mut Report, keys: &[(&'static str, &str)]) {
        for (key, hint) in keys {
            if let Some(place) = self.get(key) {
                let warning = place.warning("not-enforced", "this key is not enforced");
                report.push(if hint.is_empty() { warning } else { warning.with_hint(*hint) });
            }
        }
    }

    /// Refuses each key that would weaken isolation, or lose data, when ignored.
    pub(crate) fn unsupported(&mut self, report: &mut Report, keys: &[(&'static str, &str)]) {
        for (key, hint) in keys {
            if let Some(place) = self.get(key) {
                report.push(
                    place
                        .error(
                            "unsupported",
                            "this key is not supported, and ignoring it is not safe",
                        )
                        .with_hint(*hint),
                );
            }
        }
    }

    /// Reports the keys that were never asked for, `x-…` aside.
    pub(crate) fn finish(self, report: &mut Report) {
        debug_assert!(
            self.keys
                .names()
                .all(|name| self.asked.contains(&name) || keys::RESOLVED.contains(&name)),
            "BUG: a key of {} is never read: {:?}",
            self.keys.name,
            self.keys.names().filter(|name| !self.asked.contains(name)).collect::<Vec<_>>()
        );
        let Kind::Mapping(entries) = &self.place.node.kind else { return };
        let is_known = |key: &str| {
            let mut known = self.keys.names().filter(|name| !keys::RESOLVED.contains(name));
            key.starts_with("x-") || known.any(|name| name == key)
        };
        for entry in entries.iter().filter(|entry| !is_known(&entry.key)) {
            let place = self.place.child(entry);
            let error = Diagnostic::error("unknown-key", entry.key_span, place.say("unknown key"));
            let known: Vec<&str> = self.keys.names().collect();
            report.push(hinted(error, &entry.key, &known));
        }
    }
}

/// Adds "did you mean" when one of `known` is near `text`.
pub(crate) fn hinted(error: Diagnostic, text: &str, known: &[impl AsRef<str>]) -> Diagnostic {
    let near = known.iter().map(AsRef::as_ref).map(|word| (distance(text, word), word)).min();
    match near {
        Some((distance, word)) if distance <= (text.chars().count() / 3).clamp(1, 3) => {
            error.with_hint(format!("did you mean `{word}`?"))
        }
        _ => error,
    }
}

/// Returns the Damerau–Levenshtein distance (with transpositions of neighbours).
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for i in 0..=left.len() {
        for j in 0..=right.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i + j;
                continue;
            }
            let swap = usize::from(left[i - 1] != right[j - 1]);
            let mut best =
                (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + swap);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[left.len()][right.len()]
}
