//! Several files as one: compose's merge rules.
//!
//! Mappings merge deeply, lists append, scalars are replaced; the exceptions are in [`rule`]. The result
//! of a merge keeps its tags, so merging is associative: what a service resets over the one it extends,
//! it also resets over an earlier file. [`strip`] ends it.
//! <https://docs.docker.com/reference/compose-file/merge/>

use std::collections::HashMap;

use super::node::{Entry, Kind, Node, Scalar, Tag};
use super::unique::{self, text};
use crate::diagnostic::Diagnostic;

/// Returns `over` merged onto `base`; both stand at `path` of the document.
pub(super) fn merge(
    path: &[&str],
    base: Node,
    over: Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Node {
    Merger { diagnostics }.node(path, base, over)
}

/// Removes what is reset, and all tags.
pub(super) fn strip(node: &mut Node) {
    node.tag = None;
    match &mut node.kind {
        Kind::Null | Kind::Scalar(_) => {}
        Kind::Sequence(items) => {
            items.retain(|item| item.tag != Some(Tag::Reset));
            items.iter_mut().for_each(strip);
        }
        Kind::Mapping(entries) => {
            entries.retain(|entry| entry.value.tag != Some(Tag::Reset));
            entries.iter_mut().for_each(|entry| strip(&mut entry.value));
        }
    }
}

/// How two values at one path become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// By their kinds.
    Deep,
    /// The later one wins whole.
    Replace,
    /// A set of `key=value`, as list or mapping; a single scalar is a list of one.
    Pairs,
    /// Host names to addresses; one name may have several.
    Hosts,
    /// A list of names is a mapping from names to nothing.
    Names,
    /// As `Names`, each with the default condition.
    Dependencies,
    /// A string is the context.
    Build,
    /// Options merge only under the same driver.
    Logging,
    /// Two mappings merge, anything else replaces.
    Ulimit,
}

fn rule(path: &[&str]) -> Rule {
    let ["services", _, rest @ ..] = path else {
        return match path {
            ["networks" | "volumes", _, "labels"] => Rule::Pairs,
            _ => Rule::Deep,
        };
    };
    match rest {
        ["command" | "entrypoint"] | ["healthcheck", "test"] => Rule::Replace,
        ["annotations" | "dns" | "dns_opt" | "dns_search" | "env_file" | "label_file"]
        | ["environment" | "labels" | "sysctls" | "tmpfs"]
        | ["build", "args" | "additional_contexts" | "labels"]
        | ["deploy", "labels"] => Rule::Pairs,
        ["extra_hosts"] | ["build", "extra_hosts"] => Rule::Hosts,
        ["networks" | "models"] => Rule::Names,
        ["depends_on"] => Rule::Dependencies,
        ["build"] => Rule::Build,
        ["logging"] => Rule::Logging,
        ["ulimits", _] | ["build", "ulimits", _] => Rule::Ulimit,
        _ => Rule::Deep,
    }
}

struct Merger<'a> {
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Merger<'_> {
    fn node(&mut self, path: &[&str], base: Node, over: Node) -> Node {
        match over.tag {
            Some(Tag::Reset) => return Node { kind: Kind::Null, ..over },
            Some(Tag::Override) => return over,
            None => {}
        }
        if base.tag == Some(Tag::Reset) {
            // Set again after a reset: still nothing of what lies below comes through.
            return Node { tag: Some(Tag::Override), ..over };
        }
        let tag = base.tag;
        let merged = match (&base.kind, &over.kind) {
            (_, Kind::Null) => base,
            (Kind::Null, _) => over,
            _ => self.by_rule(path, base, over),
        };
        Node { tag, ..merged }
    }

    fn by_rule(&mut self, path: &[&str], base: Node, over: Node) -> Node {
        match rule(path) {
            Rule::Deep => self.deep(path, base, over),
            Rule::Replace => over,
            Rule::Pairs => match (base.kind, over.kind) {
                (Kind::Mapping(base), Kind::Mapping(entries)) => Node {
                    kind: Kind::Mapping(merge_entries(base, entries, |_, _, over| over)),
                    ..over
                },
                (base_kind, kind) => {
                    let base = pairs(Node { kind: base_kind, ..base });
                    self.deep(path, base, pairs(Node { kind, ..over }))
                }
            },
            Rule::Hosts => self.deep(path, pairs(base), pairs(over)),
            Rule::Names => {
                self.deep(path, names(base, |_| Kind::Null), names(over, |_| Kind::Null))
            }
            Rule::Dependencies => self.deep(path, names(base, started), names(over, started)),
            Rule::Build => self.deep(path, build(base), build(over)),
            Rule::Logging => self.logging(path, base, over),
            Rule::Ulimit => match (&base.kind, &over.kind) {
                (Kind::Mapping(_), Kind::Mapping(_)) => self.deep(path, base, over),
                _ => over,
            },
        }
    }

    fn deep(&mut self, path: &[&str], base: Node, over: Node) -> Node {
        let (base_span, span) = (base.span, over.span);
        let (before, now) = (kind_name(&base.kind), kind_name(&over.kind));
        let kind = match (base.kind, over.kind) {
            (Kind::Mapping(base), Kind::Mapping(over)) => {
                Kind::Mapping(merge_entries(base, over, |key, base, over| {
                    self.node(&[path, &[key]].concat(), base, over)
                }))
            }
            (Kind::Sequence(base), Kind::Sequence(over)) => {
                Kind::Sequence(append(path, base, over))
            }
            (Kind::Scalar(_), over @ Kind::Scalar(_)) => over,
            (_, kind) => {
                self.diagnostics.push(
                    Diagnostic::error(
                        "merge-conflict",
                        span,
                        format!(
                            "`{}` is {now} here and {before} before, which cannot be merged",
                            path.join(".")
                        ),
                    )
                    .with_label(base_span, format!("{before} here"))
                    .with_hint(
                        "write both the same way, or replace the earlier value with `!override`",
                    ),
                );
                kind
            }
        };
        Node::new(span, kind)
    }

    fn logging(&mut self, path: &[&str], base: Node, over: Node) -> Node {
        let differs = match (base.get("driver").and_then(text), over.get("driver").and_then(text)) {
            (Some(before), Some(now)) => before != now,
            _ => false,
        };
        if differs { over } else { self.deep(path, base, over) }
    }
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Null => "empty",
        Kind::Scalar(_) => "a single value",
        Kind::Sequence(_) => "a list",
        Kind::Mapping(_) => "a mapping",
    }
}

fn merge_entries(
    base: Vec<Entry>,
    over: Vec<Entry>,
    mut both: impl FnMut(&str, Node, Node) -> Node,
) -> Vec<Entry> {
    let index: HashMap<String, usize> =
        base.iter().enumerate().map(|(position, entry)| (entry.key.clone(), position)).collect();
    let mut merged: Vec<Option<Entry>> = base.into_iter().map(Some).collect();
    for entry in over {
        let Some(slot) = index.get(&entry.key).map(|position| &mut merged[*position]) else {
            merged.push(Some(entry));
            continue;
        };
        *slot = match slot.take() {
            Some(before) => {
                let value = both(&entry.key, before.value, entry.value);
                Some(Entry { key: entry.key, key_span: entry.key_span, value })
            }
            None => Some(entry),
        };
    }
    merged.into_iter().flatten().collect()
}

/// Appends a list; an item that is already there by its identity is replaced in its place.
fn append(path: &[&str], mut base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    let index: HashMap<String, usize> = base
        .iter()
        .enumerate()
        .filter_map(|(position, item)| Some((unique::key(path, item)?, position)))
        .collect();
    for item in over {
        match unique::key(path, &item).and_then(|key| index.get(&key).copied()) {
            Some(position) => base[position] = item,
            None => base.push(item),
        }
    }
    base
}

fn scalar(text: String) -> Kind {
    Kind::Scalar(Scalar { text, quoted: true })
}

/// A mapping as a list of `key=value`, a scalar as a list of one.
fn pairs(node: Node) -> Node {
    let items = match node.kind {
        Kind::Scalar(_) => vec![Node::new(node.span, node.kind)],
        Kind::Mapping(entries) => entries.into_iter().flat_map(pair).collect(),
        kind => return Node { kind, ..node },
    };
    Node { kind: Kind::Sequence(items), ..node }
}

fn pair(entry: Entry) -> Vec<Node> {
    let Entry { key, value, .. } = entry;
    let tag = value.tag;
    let item = |span, text: String| Node { span, kind: scalar(text), tag };
    match value.kind {
        Kind::Null => vec![item(entry.key_span, key)],
        Kind::Scalar(scalar) => vec![item(value.span, format!("{key}={}", scalar.text))],
        Kind::Sequence(values) => values
            .iter()
            .filter_map(|value| Some(item(value.span, format!("{key}={}", text(value)?))))
            .collect(),
        kind @ Kind::Mapping(_) => vec![Node { kind, ..value }],
    }
}

/// A list of names as a mapping; what is no list of names stays.
fn names(node: Node, value: impl Fn(&Node) -> Kind) -> Node {
    let Kind::Sequence(items) = &node.kind else { return node };
    let entries: Option<Vec<Entry>> = items
        .iter()
        .map(|item| {
            let key = text(item)?.to_owned();
            Some(Entry {
                key,
                key_span: item.span,
                value: Node { span: item.span, kind: value(item), tag: item.tag },
            })
        })
        .collect();
    match entries {
        Some(entries) => Node { kind: Kind::Mapping(entries), ..node },
        None => node,
    }
}

fn started(item: &Node) -> Kind {
    let entry = |key: &str, value: &str, quoted| Entry {
        key: key.to_owned(),
        key_span: item.span,
        value: Node::new(item.span, Kind::Scalar(Scalar { text: value.to_owned(), quoted })),
    };
    Kind::Mapping(vec![
        entry("condition", "service_started", true),
        entry("required", "true", false),
    ])
}

fn build(node: Node) -> Node {
    match node.kind {
        Kind::Scalar(_) => {
            let context = Node::new(node.span, node.kind);
            let entry = Entry { key: "context".to_owned(), key_span: node.span, value: context };
            Node { kind: Kind::Mapping(vec![entry]), ..node }
        }
        kind => Node { kind, ..node },
    }
}
