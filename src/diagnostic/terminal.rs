//! Diagnostics for people: `error[code]: message`, file:line:column, excerpt, labels, hint.
//!
//! What a file holds is untrusted: control characters are shown escaped, so that no message and no
//! excerpt can move the cursor or set the terminal's title.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{Diagnostic, FileId, Severity, SourceMap, Span};

/// A longer line is not shown: it is no excerpt that a person could read.
const MAX_LINE: usize = 1000;

/// Whether the terminal's colours may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Plain,
    Ansi,
}

/// Returns one diagnostic as text without a final newline.
pub fn render(diagnostic: &Diagnostic, sources: &SourceMap, colour: Colour) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(
        level
            .primary_title(escape_controls(&diagnostic.message))
            .id(escape_controls(diagnostic.code)),
    );
    for file in files(diagnostic) {
        group = with_excerpt(group, diagnostic, sources, file);
    }
    if let Some(hint) = &diagnostic.hint {
        let hint = escape_controls(hint);
        group = group.element(Level::HELP.with_name("hint").message(hint));
    }
    let renderer = match colour {
        Colour::Plain => Renderer::plain(),
        Colour::Ansi => Renderer::styled(),
    };
    renderer.render(&[group])
}

/// Returns the text with every control and direction-changing character but a tab as `\u{…}`.
pub fn escape_controls(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\t' || !is_unsafe(character) {
            escaped.push(character);
        } else {
            escaped.extend(character.escape_default());
        }
    }
    escaped
}

fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The file of the message first, then the others in the order of their labels.
fn files(diagnostic: &Diagnostic) -> Vec<FileId> {
    let mut files = vec![diagnostic.span.file];
    for label in &diagnostic.labels {
        if !files.contains(&label.span.file) {
            files.push(label.span.file);
        }
    }
    files
}

fn with_excerpt<'a>(
    group: Group<'a>,
    diagnostic: &'a Diagnostic,
    sources: &SourceMap,
    file: FileId,
) -> Group<'a> {
    let path = escape_controls(sources.name(file));
    let text = sources.text(file);
    let labels = diagnostic.labels.iter().filter(|label| label.span.file == file);
    let spans: Vec<Span> = Some(diagnostic.span)
        .filter(|span| span.file == file)
        .into_iter()
        .chain(labels.clone().map(|label| label.span))
        .collect();
    let lines = lines_around(text, &spans);
    let excerpt = &text[lines.clone()];
    if excerpt.lines().any(|line| line.len() > MAX_LINE) {
        let (line, column) = spans.first().map_or((1, 1), |span| sources.position(*span));
        return group.element(Origin::path(path).line(line).char_column(column));
    }
    let line_start = text[..lines.start].matches('\n').count() + 1;
    let escaped = Escaped::new(excerpt);
    let range = |span: Span| {
        let span = clamp(text, span);
        escaped.offset(span.start - lines.start)..escaped.offset(span.end - lines.start)
    };
    let mut annotations = Vec::new();
    if diagnostic.span.file == file {
        annotations.push(AnnotationKind::Primary.span(range(diagnostic.span)));
    }
    for label in labels {
        annotations.push(
            AnnotationKind::Context.span(range(label.span)).label(escape_controls(&label.text)),
        );
    }
    group.element(
        Snippet::source(escaped.text).line_start(line_start).path(path).annotations(annotations),
    )
}

/// Returns the range of the whole lines that the spans touch.
fn lines_around(text: &str, spans: &[Span]) -> Range<usize> {
    let spans: Vec<Range<usize>> = spans.iter().map(|span| clamp(text, *span)).collect();
    let first = spans.iter().map(|span| span.start).min().unwrap_or(0);
    let last = spans.iter().map(|span| span.end).max().unwrap_or(0);
    let start = text[..first].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[last..].find('\n').map_or(text.len(), |newline| last + newline);
    start..end
}

/// Cuts a span to its first line and to the text: a mapping's span may run over a whole file.
fn clamp(text: &str, span: Span) -> Range<usize> {
    let start = text.floor_char_boundary(span.start);
    let end = text.floor_char_boundary(span.end).max(start);
    let line_end = text[start..end].find('\n').map_or(end, |newline| start + newline);
    start..line_end
}

/// An excerpt with its control characters escaped, and where each of its bytes went.
struct Escaped {
    text: String,
    offsets: Vec<usize>,
}

impl Escaped {
    fn new(excerpt: &str) -> Self {
        let mut text = String::with_capacity(excerpt.len());
        let mut offsets = Vec::with_capacity(excerpt.len() + 1);
        for character in excerpt.chars() {
            offsets.extend(std::iter::repeat_n(text.len(), character.len_utf8()));
            if matches!(character, '\n' | '\t') {
                text.push(character);
            } else if character != '\r' {
                text.push_str(&escape_controls(character.encode_utf8(&mut [0; 4])));
            }
        }
        offsets.push(text.len());
        Self { text, offsets }
    }

    fn offset(&self, byte: usize) -> usize {
        self.offsets[byte]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> (SourceMap, FileId) {
        let mut sources = SourceMap::default();
        let file = sources.add("stack.yaml".into(), text.into());
        (sources, file)
    }

    #[test]
    fn a_message_shows_place_excerpt_label_and_hint() {
        let (sources, file) = sources("services:\n  web: 1\n  web: 2\n");
        let text = render(
            &Diagnostic::error(
                "duplicate-key",
                Span { file, start: 21, end: 24 },
                "`web` is defined twice",
            )
            .with_label(Span { file, start: 12, end: 15 }, "first defined here")
            .with_hint("remove one of them"),
            &sources,
            Colour::Plain,
        );
        assert!(text.starts_with("error[duplicate-key]: `web` is defined twice"), "{text}");
        assert!(text.contains("stack.yaml:3:3"), "{text}");
        assert!(text.contains("first defined here"), "{text}");
        assert!(text.contains("hint: remove one of them"), "{text}");
    }

    #[test]
    fn an_escape_sequence_never_reaches_the_terminal() {
        let (sources, file) = sources("web: \u{1b}]0;owned\u{7}\u{202e}x\n");
        let span = Span { file, start: 5, end: 13 };
        let text = render(
            &Diagnostic::warning("w", span, "bad \u{1b}[2J")
                .with_label(span, "l\u{9b}")
                .with_hint("h\u{1b}c"),
            &sources,
            Colour::Plain,
        );
        assert!(!text.chars().any(|c| c != '\n' && is_unsafe(c)), "{text:?}");
    }

    #[test]
    fn spans_outside_the_text_and_inside_a_character_do_not_panic() {
        let (sources, file) = sources("ä: ö\r\n");
        for (start, end) in [(1, 2), (0, 99), (99, 120), (5, 4)] {
            render(
                &Diagnostic::error("e", Span { file, start, end }, "m"),
                &sources,
                Colour::Plain,
            );
        }
    }

    #[test]
    fn a_line_of_a_megabyte_is_named_but_not_shown() {
        let (sources, file) = sources(&"[".repeat(1 << 20));
        let text = render(
            &Diagnostic::error("e", Span { file, start: 300, end: 301 }, "m"),
            &sources,
            Colour::Plain,
        );
        assert!(text.contains("stack.yaml:1:301"), "{text}");
        assert!(text.len() < 1000);
    }
}
