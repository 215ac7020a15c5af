//! TOML text as the same [`Node`] tree that YAML gives. Tables keep the order of the file.

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::node::{Entry, Kind, Node, Scalar};
use crate::diagnostic::{Diagnostic, FileId, Span};
use crate::spec::yaml::{MAX_DEPTH, MAX_TEXT};

/// Returns the document, or nothing when it is no TOML; what is wrong goes to `diagnostics`.
pub fn read(file: FileId, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Node> {
    if text.len() > MAX_TEXT {
        let span = Span { file, start: 0, end: 0 };
        diagnostics.push(Diagnostic::error(
            "file-too-large",
            span,
            format!("file is larger than {MAX_TEXT} bytes"),
        ));
        return None;
    }
    if let Some(span) = too_many_dots(file, text) {
        diagnostics.push(too_deep(span));
        return None;
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let range = error.span().unwrap_or(0..0);
        let span = Span { file, start: range.start, end: range.end };
        diagnostics.push(Diagnostic::error("toml-syntax", span, error.message()));
    }
    if !errors.is_empty() {
        return None;
    }
    let reader = Reader { file, text };
    match reader.table(document.get_ref(), reader.span(&document), 0) {
        Ok(node) => Some(node),
        Err(span) => {
            diagnostics.push(too_deep(span));
            None
        }
    }
}

fn too_deep(span: Span) -> Diagnostic {
    Diagnostic::error("too-deep", span, format!("nesting is deeper than {MAX_DEPTH} levels"))
}

/// Finds a dotted key that would nest deeper than a tree may; the parser itself has no limit on them.
///
/// Such a key is a table's header, or stands before a `=` in its line, also in an inline table.
fn too_many_dots(file: FileId, text: &str) -> Option<Span> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let header = line.trim_start().starts_with('[');
        let mut at = start;
        for part in line.split_inclusive('=') {
            if (header || part.ends_with('=')) && part.matches('.').count() > MAX_DEPTH {
                return Some(Span { file, start: at, end: at + part.trim_end().len() });
            }
            at += part.len();
        }
        start += line.len();
    }
    None
}

struct Reader<'a> {
    file: FileId,
    text: &'a str,
}

impl Reader<'_> {
    fn span<T>(&self, spanned: &Spanned<T>) -> Span {
        let range = spanned.span();
        Span { file: self.file, start: range.start, end: range.end }
    }

    /// Fails with the place that lies too deep.
    fn table(&self, table: &DeTable<'_>, span: Span, depth: usize) -> Result<Node, Span> {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let value = self.value(value, depth + 1)?;
            entries.push(Entry { key: key.get_ref().to_string(), key_span: self.span(key), value });
        }
        entries.sort_by_key(|entry| entry.key_span.start);
        Ok(Node::new(span, Kind::Mapping(entries)))
    }

    fn value(&self, value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Span> {
        let span = self.span(value);
        if depth > MAX_DEPTH {
            return Err(span);
        }
        let scalar = |text: String, quoted| Node::new(span, Kind::Scalar(Scalar { text, quoted }));
        Ok(match value.get_ref() {
            DeValue::String(text) => scalar(text.to_string(), true),
            DeValue::Boolean(value) => scalar(value.to_string(), false),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) => {
                // `0o644` stays as written: YAML 1.2 spells it the same way.
                scalar(self.text[span.start..span.end].replace('_', ""), false)
            }
            DeValue::Array(items) => {
                let items = items
                    .iter()
                    .map(|item| self.value(item, depth + 1))
                    .collect::<Result<_, _>>()?;
                Node::new(span, Kind::Sequence(items))
            }
            DeValue::Table(table) => self.table(table, span, depth)?,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<&'static str> {
        let mut diagnostics = Vec::new();
        let node = read(FileId(0), text, &mut diagnostics);
        assert_eq!(node.is_none(), !diagnostics.is_empty());
        diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
    }

    #[test]
    fn tables_keep_their_order_and_values_their_place() {
        let text = "name = \"x\"\n[services.web]\nports = [\"80:80\"]\nmode = 0o644\ninit = true\n[services.a]\nscale = 1_0\n";
        let node = read(FileId(0), text, &mut Vec::new()).unwrap();
        let services = node.get("services").unwrap();
        let Kind::Mapping(entries) = &services.kind else { panic!() };
        let names: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(names, ["web", "a"]);
        let web = services.get("web").unwrap();
        let mode = web.get("mode").unwrap();
        assert_eq!(mode.kind, Kind::Scalar(Scalar { text: "0o644".into(), quoted: false }));
        assert_eq!(&text[mode.span.start..mode.span.end], "0o644");
        let scale = services.get("a").unwrap().get("scale").unwrap();
        assert_eq!(scale.kind, Kind::Scalar(Scalar { text: "10".into(), quoted: false }));
    }

    #[test]
    fn wrong_syntax_and_duplicates_have_a_place() {
        assert_eq!(codes("a = \n").first(), Some(&"toml-syntax"));
        assert_eq!(codes("a = 1\na = 2\n"), ["toml-syntax"]);
    }

    #[test]
    fn deep_input_is_refused_quickly() {
        let start = crate::spec::cpu_time::CpuTime::start();
        for text in [
            format!("a = {}", "[".repeat(10_000)),
            format!("a = {}{}", "[".repeat(10_000), "]".repeat(10_000)),
            format!("a = {}1{}", "{a=".repeat(10_000), "}".repeat(10_000)),
            format!("{}a = 1", "a.".repeat(10_000)),
            format!("[{}a]", "a.".repeat(10_000)),
            format!("{}a = 1", "\"a\".".repeat(10_000)),
            format!("x = {{{}a = 1}}", "a.".repeat(10_000)),
        ] {
            assert!(!codes(&text).is_empty());
        }
        assert!(start.elapsed() < crate::pace::slowed(std::time::Duration::from_secs(2)));
    }
}
