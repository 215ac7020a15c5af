//! A tree back into text: what `config` prints.

use serde_json::{Map, Number, Value};

use super::node::{Kind, Node, Scalar};

/// Returns `node` as JSON, plain scalars typed by the YAML 1.2 core schema (section 10.3.2).
///
/// A number that would not read back as it was written (`3.10`, `0644`) stays a string, since it is
/// more often a version or a mode than a quantity.
pub fn to_json(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Scalar(scalar) => typed(scalar),
        Kind::Sequence(items) => Value::Array(items.iter().map(to_json).collect()),
        Kind::Mapping(entries) => Value::Object(
            entries
                .iter()
                .map(|entry| (entry.key.clone(), to_json(&entry.value)))
                .collect::<Map<_, _>>(),
        ),
    }
}

/// Returns `node` as YAML in block style, quoting strings that a YAML 1.1 reader would take for a
/// boolean, number, date or null.
pub fn to_yaml(node: &Node) -> String {
    let mut text = String::new();
    match to_json(node) {
        Value::Object(fields) if !fields.is_empty() => mapping(&mut text, &fields, 0),
        Value::Array(items) if !items.is_empty() => sequence(&mut text, &items, 0),
        other => {
            text.push_str(&flow(&other));
            text.push('\n');
        }
    }
    text
}

fn mapping(text: &mut String, fields: &Map<String, Value>, indent: usize) {
    for (key, value) in fields {
        text.push_str(&" ".repeat(indent));
        text.push_str(&string(key));
        text.push(':');
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                text.push('\n');
                mapping(text, fields, indent + 2);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                sequence(text, items, indent + 2);
            }
            other => {
                text.push(' ');
                text.push_str(&flow(other));
                text.push('\n');
            }
        }
    }
}

fn sequence(text: &mut String, items: &[Value], indent: usize) {
    for item in items {
        let start = text.len();
        match item {
            Value::Object(fields) if !fields.is_empty() => mapping(text, fields, indent + 2),
            Value::Array(items) if !items.is_empty() => sequence(text, items, indent + 2),
            other => {
                text.push_str(&" ".repeat(indent + 2));
                text.push_str(&flow(other));
                text.push('\n');
            }
        }
        // The item stands two columns in; the dash takes the first of them.
        text.replace_range(start + indent..start + indent + 1, "-");
    }
}

/// A scalar or an empty collection on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        other => other.to_string(),
    }
}

/// Plain where every reader agrees that it is a string, else in double quotes with JSON's escapes,
/// which are a subset of YAML's (YAML 1.2.2, section 5.7).
fn string(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.@+=,:".contains(c))
        && !text.ends_with(':')
        && !is_ambiguous(text);
    if plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

/// Words of YAML 1.1's bool, null, merge and float types (<https://yaml.org/type/>).
fn is_ambiguous(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "y" | "yes" | "n" | "no" | "on" | "off" | "true" | "false" | "null" | "nan" | "inf"
    )
}

fn typed(scalar: &Scalar) -> Value {
    let text = scalar.text.as_str();
    if scalar.quoted {
        return literal(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(integer) = text.parse::<i64>()
        && integer.to_string() == text
    {
        return Value::Number(integer.into());
    }
    if let Ok(float) = text.parse::<f64>()
        && float.to_string() == text
        && let Some(number) = Number::from_f64(float)
    {
        return Value::Number(number);
    }
    literal(text)
}

/// A string that interpolation gives back as it is: what `config` prints is a stack file again.
fn literal(text: &str) -> Value {
    Value::String(text.replace('$', "$$"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{FileId, Span};

    fn emitted(text: &str, quoted: bool) -> Value {
        typed(&Scalar { text: text.to_owned(), quoted })
    }

    #[test]
    fn a_number_that_would_not_read_back_stays_a_string() {
        assert_eq!(emitted("8080", false), Value::from(8080));
        assert_eq!(emitted("0.5", false), Value::from(0.5));
        for text in ["3.10", "0644", "1_000", "22:22", "+5", "1e3"] {
            assert_eq!(emitted(text, false), Value::from(text), "{text}");
        }
        assert_eq!(emitted("8080", true), Value::from("8080"));
    }

    fn quoted(text: &str) -> Node {
        let span = Span { file: FileId(0), start: 0, end: 0 };
        Node::new(span, Kind::Scalar(Scalar { text: text.to_owned(), quoted: true }))
    }

    #[test]
    fn words_that_old_readers_take_for_something_else_are_quoted() {
        for word in [
            "yes",
            "no",
            "On",
            "off",
            "y",
            "true",
            "null",
            "0644",
            "22:22",
            "2024-01-01",
            "1_0",
            "~",
            "",
            ".inf",
        ] {
            assert_eq!(to_yaml(&quoted(word)), format!("\"{word}\"\n"));
        }
        assert_eq!(to_yaml(&quoted("nginx:alpine")), "nginx:alpine\n");
        assert_eq!(to_yaml(&quoted("a\nb: #c")), "\"a\\nb: #c\"\n");
    }

    #[test]
    fn nested_collections_keep_their_order_and_shape() {
        let value = serde_json::json!({"b": [{"x": 1, "y": [2, "no"]}, [], "z"], "a": {"k": null}});
        let Value::Object(fields) = value else { unreachable!("it is an object") };
        let mut text = String::new();
        mapping(&mut text, &fields, 0);
        let expected =
            "b:\n  - x: 1\n    \"y\":\n      - 2\n      - \"no\"\n  - []\n  - z\na:\n  k: null\n";
        assert_eq!(text, expected);
    }
}
