//! Diagnostics for programs: one JSON object each.

use serde_json::{Value, json};

use super::{Diagnostic, SourceMap, Span};

/// Returns the diagnostics as a JSON array; places are file, line, column (from 1) and byte offsets.
pub fn to_json(diagnostics: &[Diagnostic], sources: &SourceMap) -> Value {
    diagnostics.iter().map(|diagnostic| object(diagnostic, sources)).collect()
}

fn object(diagnostic: &Diagnostic, sources: &SourceMap) -> Value {
    let labels: Vec<Value> = diagnostic
        .labels
        .iter()
        .map(|label| json!({ "message": label.text, "location": location(label.span, sources) }))
        .collect();
    json!({
        "code": diagnostic.code,
        "severity": diagnostic.severity.as_str(),
        "message": diagnostic.message,
        "location": location(diagnostic.span, sources),
        "labels": labels,
        "hint": diagnostic.hint,
    })
}

fn location(span: Span, sources: &SourceMap) -> Value {
    let (line, column) = sources.position(span);
    json!({
        "file": sources.name(span.file),
        "line": line,
        "column": column,
        "start": span.start,
        "end": span.end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_line_and_column_of_the_message_and_its_labels() {
        let mut sources = SourceMap::default();
        let file = sources.add("stack.yaml".into(), "a: 1\nä: 2\na: 3\n".into());
        let first = Span { file, start: 0, end: 1 };
        let second = Span { file, start: 11, end: 12 };
        let diagnostic = Diagnostic::error("duplicate-key", second, "`a` twice")
            .with_label(first, "first here")
            .with_hint("h");
        let json = to_json(&[diagnostic], &sources);
        assert_eq!(json[0]["location"]["line"], 3);
        assert_eq!(json[0]["location"]["column"], 1);
        assert_eq!(json[0]["labels"][0]["location"]["line"], 1);
        assert_eq!(json[0]["severity"], "error");
        assert_eq!(json[0]["hint"], "h");
    }
}
