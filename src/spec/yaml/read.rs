//! From parser events to a [`Node`] tree: anchors, merge keys and tags resolved, duplicate keys refused.
//!
//! The parser keeps no limits of its own on what aliases expand to, so they are here: total weight of
//! the copies, and depth of the tree (which also bounds every later recursion over it).

use std::collections::HashMap;

use saphyr_parser::{
    Event, Parser, ScalarStyle, ScanError, Span as CharSpan, StrInput, Tag as YamlTag,
};

use super::offsets::Offsets;
use crate::diagnostic::{Diagnostic, FileId, Span};
use crate::spec::node::{Entry, Kind, Node, Scalar, Tag};

/// Deepest nesting of collections, aliases included.
pub(crate) const MAX_DEPTH: usize = 255;
/// Longest text in bytes.
pub(crate) const MAX_TEXT: usize = 4 << 20;
/// What all aliases of a file may expand to, in nodes; 16 bytes of text count as one more.
const MAX_COPIES: usize = 200_000;

/// Returns the documents of `text`, or nothing when it is no YAML; what is wrong goes to `diagnostics`.
///
/// Errors that leave the tree usable (a duplicate key, an unknown tag) do not stop the reading.
pub fn read(file: FileId, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Node>> {
    if text.len() > MAX_TEXT {
        let span = Span { file, start: 0, end: 0 };
        diagnostics.push(Diagnostic::error(
            "file-too-large",
            span,
            format!("file is larger than {MAX_TEXT} bytes"),
        ));
        return None;
    }
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let offsets = Offsets::new(file, text.len() - body.len(), body);
    let mut reader = Reader {
        parser: Parser::new_from_str(body),
        text,
        offsets,
        anchors: HashMap::new(),
        copies: 0,
        problems: Vec::new(),
    };
    let documents = reader.documents();
    diagnostics.append(&mut reader.problems);
    match documents {
        Ok(documents) => Some(documents),
        Err(diagnostic) => {
            diagnostics.push(*diagnostic);
            None
        }
    }
}

/// Ends the reading. Boxed, because it is large and rare.
type Fatal = Box<Diagnostic>;

struct Anchored {
    node: Node,
    weight: usize,
    depth: usize,
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    text: &'a str,
    offsets: Offsets,
    anchors: HashMap<usize, Anchored>,
    copies: usize,
    problems: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    fn documents(&mut self) -> Result<Vec<Node>, Fatal> {
        let mut documents = Vec::new();
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(documents),
                (Event::DocumentStart(_), _) => {
                    let event = self.next()?;
                    documents.push(self.node(event, 0)?);
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, CharSpan), Fatal> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Box::new(self.syntax(&error))),
            None => Ok((Event::StreamEnd, CharSpan::default())),
        }
    }

    fn syntax(&self, error: &ScanError) -> Diagnostic {
        let start = self.offsets.byte(error.marker().index());
        let end = self.text[start..]
            .chars()
            .next()
            .map_or(start, |character| start + character.len_utf8());
        let span = Span { file: self.offsets.file(), start, end };
        let diagnostic = Diagnostic::error("yaml-syntax", span, error.info());
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let indent =
            self.text[line_start..].chars().take_while(|character| character.is_whitespace());
        if indent.take_while(|character| *character != '\n').any(|character| character == '\t') {
            return diagnostic.with_hint("YAML is indented with spaces, never with tabs");
        }
        if error.info().contains("quoted scalar") {
            return diagnostic.with_hint("is the quote that opens here closed again?");
        }
        if error.info().contains("did not find expected key") {
            return diagnostic.with_hint("keys of one mapping begin in the same column");
        }
        if error.info().contains("recursion limit") {
            return diagnostic.with_hint("no stack file nests its lists and mappings this deep");
        }
        diagnostic
    }

    fn node(&mut self, (event, place): (Event<'a>, CharSpan), depth: usize) -> Result<Node, Fatal> {
        let span = self.offsets.span(place);
        if depth > MAX_DEPTH {
            return Err(Box::new(Diagnostic::error(
                "too-deep",
                span,
                format!("nesting is deeper than {MAX_DEPTH} levels"),
            )));
        }
        let (mut node, anchor, tag) = match event {
            Event::Alias(id) => return self.alias(id, span, depth),
            Event::Scalar(text, style, anchor, tag) => {
                let string = tag
                    .as_ref()
                    .is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                (self.scalar(&text, string || style != ScalarStyle::Plain, span), anchor, tag)
            }
            Event::SequenceStart(anchor, tag) => (self.sequence(span, depth)?, anchor, tag),
            Event::MappingStart(anchor, tag) => (self.mapping(span, depth)?, anchor, tag),
            _ => (Node::new(span, Kind::Null), 0, None),
        };
        if let Some(tag) = tag {
            self.apply_tag(&mut node, &tag);
        }
        if anchor != 0 {
            let (weight, depth) = measure(&node);
            self.anchors.insert(anchor, Anchored { node: node.clone(), weight, depth });
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, span: Span, depth: usize) -> Result<Node, Fatal> {
        let Some(anchored) = self.anchors.get(&id) else {
            return Err(Box::new(Diagnostic::error(
                "alias-cycle",
                span,
                "alias stands inside its own anchor",
            )));
        };
        self.copies = self.copies.saturating_add(anchored.weight);
        if self.copies > MAX_COPIES {
            return Err(Box::new(
                Diagnostic::error(
                    "alias-bomb",
                    span,
                    "aliases expand to more than a stack file can need",
                )
                .with_label(anchored.node.span, "this is copied"),
            ));
        }
        if depth + anchored.depth > MAX_DEPTH {
            return Err(Box::new(
                Diagnostic::error(
                    "too-deep",
                    span,
                    format!("alias nests deeper than {MAX_DEPTH} levels"),
                )
                .with_label(anchored.node.span, "this is copied"),
            ));
        }
        Ok(anchored.node.clone())
    }

    fn scalar(&self, text: &str, quoted: bool, mut span: Span) -> Node {
        // A block scalar's span runs over the line break and the next line's indent.
        let written = &self.text[span.start..span.end];
        span.end = span.start + written.trim_end().len();
        if !quoted && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            return Node::new(span, Kind::Null);
        }
        Node::new(span, Kind::Scalar(Scalar { text: text.to_owned(), quoted }))
    }

    fn sequence(&mut self, mut span: Span, depth: usize) -> Result<Node, Fatal> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, end) => {
                    self.close(&mut span, end, items.last().map(|item: &Node| item.span));
                    return Ok(Node::new(span, Kind::Sequence(items)));
                }
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, mut span: Span, depth: usize) -> Result<Node, Fatal> {
        let mut entries = Vec::new();
        let mut seen: HashMap<String, Span> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let event = self.next()?;
            if let (Event::MappingEnd, end) = event {
                self.close(&mut span, end, entries.last().map(|entry: &Entry| entry.value.span));
                self.add_merged(&mut entries, merged, &seen);
                return Ok(Node::new(span, Kind::Mapping(entries)));
            }
            let key = self.node(event, depth + 1)?;
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            let (key_span, key) = (key.span, self.key(key));
            let Some((key, quoted)) = key else { continue };
            if let Some(first) = seen.get(&key) {
                self.problems.push(
                    Diagnostic::error(
                        "duplicate-key",
                        key_span,
                        format!("key `{key}` is defined twice"),
                    )
                    .with_label(*first, "first defined here"),
                );
                continue;
            }
            seen.insert(key.clone(), key_span);
            if key == "<<" && !quoted {
                merged.push(value);
            } else {
                entries.push(Entry { key, key_span, value });
            }
        }
    }

    fn key(&mut self, key: Node) -> Option<(String, bool)> {
        match key.kind {
            Kind::Scalar(scalar) => Some((scalar.text, scalar.quoted)),
            Kind::Null => Some((self.text[key.span.start..key.span.end].to_owned(), false)),
            Kind::Sequence(_) | Kind::Mapping(_) => {
                self.problems.push(Diagnostic::error(
                    "key-not-text",
                    key.span,
                    "a key must be text",
                ));
                None
            }
        }
    }

    /// Adds what `<<` names: keys of the mapping itself win, then earlier mappings of a list.
    ///
    /// <https://yaml.org/type/merge.html>
    fn add_merged(
        &mut self,
        entries: &mut Vec<Entry>,
        merged: Vec<Node>,
        own: &HashMap<String, Span>,
    ) {
        if merged.is_empty() {
            return;
        }
        let mut seen: HashMap<String, Span> = own.clone();
        for node in merged {
            let sources = match node.kind {
                Kind::Sequence(items) => items,
                kind => vec![Node { kind, ..node }],
            };
            for source in sources {
                let Kind::Mapping(inherited) = source.kind else {
                    self.problems.push(Diagnostic::error(
                        "merge-key",
                        source.span,
                        "`<<` takes a mapping or a list of mappings",
                    ));
                    continue;
                };
                for entry in inherited {
                    if !seen.contains_key(&entry.key) {
                        seen.insert(entry.key.clone(), entry.key_span);
                        entries.push(entry);
                    }
                }
            }
        }
    }

    /// Ends a collection's span: at its bracket, or at the end of its last part.
    fn close(&self, span: &mut Span, end: CharSpan, last: Option<Span>) {
        let flow = self.text[span.start..].starts_with(['[', '{']);
        let end = self.offsets.span(end).end;
        span.end = match last {
            // The part of an alias lies elsewhere.
            Some(last) if !flow && last.end > span.start && last.end <= end => last.end,
            Some(_) if !flow => span.end,
            _ => end.max(span.end),
        };
    }

    fn apply_tag(&mut self, node: &mut Node, tag: &YamlTag) {
        match (tag.handle.as_str(), tag.suffix.as_str()) {
            ("!", "reset") => node.tag = Some(Tag::Reset),
            ("!", "override") => node.tag = Some(Tag::Override),
            ("tag:yaml.org,2002:", "str" | "null" | "bool" | "int" | "float" | "map" | "seq")
            | ("!" | "", "") => {}
            _ => self.problems.push(
                Diagnostic::error("unknown-tag", node.span, format!("unknown tag `{tag}`"))
                    .with_hint("stack files know the tags `!reset` and `!override`"),
            ),
        }
    }
}

/// Returns how much a copy of `node` weighs: its nodes, and its text in 16 bytes.
pub(crate) fn weight(node: &Node) -> usize {
    measure(node).0
}

/// Returns how much an alias of `node` copies, and how deep it is.
fn measure(node: &Node) -> (usize, usize) {
    let children = |nodes: &mut dyn Iterator<Item = (usize, &Node)>| {
        nodes.fold((1, 0), |(weight, depth), (extra, child)| {
            let (child_weight, child_depth) = measure(child);
            (weight + extra + child_weight, depth.max(child_depth + 1))
        })
    };
    match &node.kind {
        Kind::Null => (1, 0),
        Kind::Scalar(scalar) => (1 + scalar.text.len() / 16, 0),
        Kind::Sequence(items) => children(&mut items.iter().map(|item| (0, item))),
        Kind::Mapping(entries) => {
            children(&mut entries.iter().map(|entry| (1 + entry.key.len() / 16, &entry.value)))
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Vec<Node>, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let documents = read(FileId(0), text, &mut diagnostics).unwrap_or_default();
        (documents, diagnostics)
    }

    fn valid(text: &str) -> Node {
        let (mut documents, diagnostics) = parse(text);
        assert_eq!(diagnostics, []);
        documents.remove(0)
    }

    fn text_of(node: &Node) -> &str {
        match &node.kind {
            Kind::Scalar(scalar) => &scalar.text,
            kind => panic!("no scalar: {kind:?}"),
        }
    }

    fn codes(text: &str) -> Vec<&'static str> {
        parse(text).1.iter().map(|diagnostic| diagnostic.code).collect()
    }

    #[test]
    fn spans_are_bytes_also_behind_a_bom_and_wide_characters() {
        let text = "\u{feff}ä: ö\r\nnäme: 'ü'\r\n";
        let node = valid(text);
        let Kind::Mapping(entries) = &node.kind else { panic!() };
        assert_eq!(&text[entries[1].key_span.start..entries[1].key_span.end], "näme");
        assert_eq!(&text[entries[1].value.span.start..entries[1].value.span.end], "'ü'");
        assert_eq!(&text[entries[0].value.span.start..entries[0].value.span.end], "ö");
    }

    #[test]
    fn a_block_literal_ends_at_its_last_character() {
        let text = "a:\n  b: |\n    x\n    y\n  c: 1\n";
        let node = valid(text);
        let block = node.get("a").unwrap().get("b").unwrap();
        assert_eq!(text_of(block), "x\ny\n");
        assert!(text[block.span.start..block.span.end].ends_with("    y"));
    }

    #[test]
    fn plain_nulls_are_null_and_quoted_ones_are_text() {
        let node = valid("a: ~\nb:\nc: 'null'\nd: !!str null\ne: 3.10\n");
        assert_eq!(node.get("a").unwrap().kind, Kind::Null);
        assert_eq!(node.get("b").unwrap().kind, Kind::Null);
        assert_eq!(text_of(node.get("c").unwrap()), "null");
        assert_eq!(text_of(node.get("d").unwrap()), "null");
        assert_eq!(text_of(node.get("e").unwrap()), "3.10");
    }

    #[test]
    fn a_merge_list_prefers_own_keys_then_earlier_mappings() {
        let node =
            valid("x: &x {a: 1, b: 1, c: 1}\ny: &y {b: 2, d: 2}\nz:\n  <<: [*y, *x]\n  c: 3\n");
        let z = node.get("z").unwrap();
        let values: Vec<&str> =
            ["a", "b", "c", "d"].iter().map(|key| text_of(z.get(key).unwrap())).collect();
        assert_eq!(values, ["1", "2", "3", "2"]);
    }

    #[test]
    fn a_quoted_merge_key_is_a_key() {
        assert!(valid("z:\n  '<<': {a: 1}\n").get("z").unwrap().get("<<").is_some());
    }

    #[test]
    fn a_merge_of_a_scalar_is_refused() {
        assert_eq!(codes("z:\n  <<: 1\n"), ["merge-key"]);
    }

    #[test]
    fn a_duplicate_key_points_at_the_first() {
        let (_, diagnostics) = parse("a: 1\nb: 2\na: 3\nb: 4\n");
        assert_eq!(diagnostics.len(), 2);
        assert_eq!(diagnostics[0].code, "duplicate-key");
        assert_eq!(diagnostics[0].span.start, 10);
        assert_eq!(diagnostics[0].labels[0].span.start, 0);
    }

    #[test]
    fn compose_tags_are_kept_and_others_refused() {
        let node = valid("a: !reset null\nb: !override [x]\n");
        assert_eq!(node.get("a").unwrap().tag, Some(Tag::Reset));
        assert_eq!(node.get("b").unwrap().tag, Some(Tag::Override));
        assert_eq!(codes("a: !vault x\n"), ["unknown-tag"]);
    }

    #[test]
    fn several_documents_are_several_nodes() {
        assert_eq!(parse("a: 1\n---\nb: 2\n").0.len(), 2);
    }

    #[test]
    fn a_tab_is_refused_with_a_hint() {
        let (_, diagnostics) = parse("a:\n\tb: 1\n");
        assert_eq!(diagnostics[0].code, "yaml-syntax");
        assert!(diagnostics[0].hint.as_deref().unwrap().contains("tabs"));
    }

    #[test]
    fn hostile_input_is_refused_quickly() {
        let start = crate::spec::cpu_time::CpuTime::start();
        for text in [
            "[".repeat(10_000),
            "- ".repeat(10_000),
            "{a: ".repeat(10_000),
            (0..10_000).map(|depth| format!("{}a:\n", " ".repeat(depth.min(400)))).collect(),
        ] {
            assert!(!codes(&text).is_empty());
        }
        let mut laughs = "a0: &a0 [lol]\n".to_owned();
        for level in 1..30 {
            let before = level - 1;
            let list = vec![format!("*a{before}"); 9].join(",");
            laughs.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        assert_eq!(codes(&laughs), ["alias-bomb"]);
        let mut deep = "a0: &a0 [x]\n".to_owned();
        for level in 1..2000 {
            deep.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        assert_eq!(codes(&deep), ["too-deep"]);
        assert_eq!(codes("a: &a [*a]\n"), ["alias-cycle"]);
        let large = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a,".repeat(100));
        assert_eq!(codes(&large), ["alias-bomb"]);
        assert!(
            start.elapsed() < crate::pace::slowed(std::time::Duration::from_secs(2)),
            "{:?}",
            start.elapsed()
        );
    }
}
