//! How a key of a document becomes a part of compose-go's JSON.

use super::go;
use super::service::{Inexact, Scope};
use crate::spec::node::{Kind, Node, Scalar};
use crate::spec::value::{cpu, duration, size};

/// A struct of compose-go: its keys in the order of its fields.
pub(super) type Table = &'static [(&'static str, Shape)];

/// Returns the JSON of a value, or nothing where compose-go leaves it out.
pub(super) type Encode = fn(Option<&Node>, &Scope<'_>) -> Result<Option<String>, Inexact>;

/// What a field of a compose-go struct is.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// `string`; the empty one is left out.
    Text,
    /// `bool`; false is left out.
    Flag,
    /// `*bool`.
    MaybeFlag,
    /// An integer; zero is left out.
    Number,
    /// `*uint64`.
    MaybeNumber,
    /// `float32`; zero is left out.
    Float,
    /// Bytes; zero is left out.
    Bytes,
    /// `Duration`; zero is left out.
    Time,
    /// `*Duration`.
    MaybeTime,
    /// A list of strings, or one; the empty list is left out.
    Texts,
    /// A mapping, or a list of `key=value`, to strings; the empty one is left out.
    Pairs,
    /// `*struct`.
    Struct(Table),
    /// A struct that is there even when it is empty.
    Always(Table),
    /// A list of structs; the empty list is left out.
    Structs(Table),
    /// What needs a function of its own; it is asked for an absent value too.
    By(Encode),
}

/// Keys that are known and don't count.
const CLEARED: [&str; 7] =
    ["build", "depends_on", "env_file", "extends", "profiles", "pull_policy", "scale"];

/// Returns the struct that `node` is by `table`.
pub(super) fn object(node: &Node, table: Table, scope: &Scope<'_>) -> Result<String, Inexact> {
    let entries = match &node.kind {
        Kind::Mapping(entries) => entries.as_slice(),
        Kind::Null => &[],
        _ => return Err(Inexact::new("a mapping was expected")),
    };
    let unknown = |key: &str| {
        !key.starts_with("x-")
            && !table.iter().any(|(name, _)| *name == key)
            && !CLEARED.contains(&key)
    };
    if let Some(entry) = entries.iter().find(|entry| unknown(&entry.key)) {
        return Err(Inexact::new(&entry.key));
    }
    let mut json = String::from("{");
    for (key, shape) in table {
        let value = entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.value);
        let Some(part) = shape.encode(value, scope).map_err(|inexact| inexact.below(key))? else {
            continue;
        };
        if json.len() > 1 {
            json.push(',');
        }
        go::string(&mut json, key);
        json.push(':');
        json.push_str(&part);
    }
    json.push('}');
    Ok(json)
}

impl Shape {
    fn encode(self, value: Option<&Node>, scope: &Scope<'_>) -> Result<Option<String>, Inexact> {
        if let Self::Always(table) = self {
            return match value {
                Some(node) => object(node, table, scope).map(Some),
                None => Ok(Some("{}".to_owned())),
            };
        }
        let value = value.filter(|node| node.kind != Kind::Null);
        if let Self::By(encode) = self {
            return encode(value, scope);
        }
        let Some(node) = value else { return Ok(None) };
        let time = |node: &Node| {
            duration::parse(&scalar(node)?.text).map_err(|_| Inexact::new("a duration of its own"))
        };
        Ok(match self {
            Self::Text => {
                Some(text(node)?).filter(|text| !text.is_empty()).map(|text| go::quoted(&text))
            }
            Self::Flag => flag(node)?.then(|| "true".to_owned()),
            Self::MaybeFlag => Some(flag(node)?.to_string()),
            Self::Number => {
                Some(number(node)?).filter(|number| *number != 0).map(|number| number.to_string())
            }
            Self::MaybeNumber => Some(number(node)?.to_string()),
            Self::Float => float(node)?,
            Self::Bytes => bytes(node)?,
            Self::Time => Some(time(node)?)
                .filter(|time| !time.is_zero())
                .map(|time| go::quoted(&go::duration(time))),
            Self::MaybeTime => Some(go::quoted(&go::duration(time(node)?))),
            Self::Texts => {
                let texts = texts(node)?;
                (!texts.is_empty()).then(|| go::strings(texts.iter().map(String::as_str)))
            }
            Self::Pairs => {
                let pairs = pairs(node)?;
                (!pairs.is_empty())
                    .then(|| mapping(pairs.iter().map(|(k, v)| (k.as_str(), Some(v.as_str())))))
            }
            Self::Struct(table) | Self::Always(table) => Some(object(node, table, scope)?),
            Self::Structs(table) => {
                let parts: Result<Vec<String>, Inexact> =
                    items(node)?.iter().map(|item| object(item, table, scope)).collect();
                Some(parts?)
                    .filter(|parts| !parts.is_empty())
                    .map(|parts| format!("[{}]", parts.join(",")))
            }
            Self::By(encode) => encode(Some(node), scope)?,
        })
    }
}

pub(super) fn scalar(node: &Node) -> Result<&Scalar, Inexact> {
    match &node.kind {
        Kind::Scalar(scalar) => Ok(scalar),
        _ => Err(Inexact::new("a plain value was expected")),
    }
}

/// Returns the text that Go makes of a scalar: a plain one that YAML takes for a number, a date or a word is written
/// anew, and only those that come out as they were are known here.
pub(super) fn text(node: &Node) -> Result<String, Inexact> {
    let scalar = scalar(node)?;
    let text = scalar.text.as_str();
    if !scalar.quoted && rewritten(text) {
        return Err(Inexact::new(&format!("{text} without quotes")));
    }
    Ok(text.to_owned())
}

fn rewritten(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if matches!(lower.as_str(), "true" | "false") {
        return lower != text;
    }
    let Some(first) = text.bytes().next() else { return false };
    if !first.is_ascii_digit() && !matches!(first, b'+' | b'-' | b'.') {
        return false;
    }
    let integer = text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    let bare = text.replace('_', "");
    let number = bare.parse::<f64>().is_ok()
        || lower.trim_start_matches(['+', '-']).starts_with(".inf")
        || lower == ".nan"
        || ["0x", "0o", "0b"]
            .iter()
            .any(|base| bare.trim_start_matches(['+', '-']).starts_with(base));
    // Go prints a float with its shortest digits, and as `1e+06` from 21 digits on.
    let float = text.contains('.')
        && text
            .parse::<f64>()
            .is_ok_and(|number| number.to_string() == text && number.abs() >= 1e-4);
    let date = text.len() >= 8
        && text.bytes().take(4).all(|b| b.is_ascii_digit())
        && text.as_bytes()[4] == b'-';
    (number && !integer && !float) || date
}

fn flag(node: &Node) -> Result<bool, Inexact> {
    match scalar(node)?.text.to_ascii_lowercase().as_str() {
        "true" | "y" | "yes" | "on" => Ok(true),
        "false" | "n" | "no" | "off" => Ok(false),
        other => Err(Inexact::new(other)),
    }
}

pub(super) fn number(node: &Node) -> Result<i64, Inexact> {
    let Scalar { text, quoted } = scalar(node)?;
    let digits =
        text.strip_prefix("0o").or_else(|| text.strip_prefix('0').filter(|rest| !rest.is_empty()));
    let number = match digits {
        // YAML's octal numbers; in quotes they would be read by another rule.
        Some(octal) if !quoted => i64::from_str_radix(octal, 8).ok(),
        Some(_) => None,
        None => text.parse().ok(),
    };
    number.ok_or_else(|| Inexact::new(text))
}

fn float(node: &Node) -> Result<Option<String>, Inexact> {
    let text = scalar(node)?.text.trim();
    // The door of the document's own reader, so that both mean the same number.
    let value = cpu::parse(text).ok().and_then(|_| text.parse::<f32>().ok());
    let value = value.ok_or_else(|| Inexact::new(text))?;
    if value == 0.0 {
        return Ok(None);
    }
    go::float(value).map(Some).ok_or_else(|| Inexact::new(text))
}

fn bytes(node: &Node) -> Result<Option<String>, Inexact> {
    let text = &scalar(node)?.text;
    let bytes = match text.parse::<i64>() {
        Ok(number) => number,
        Err(_) => {
            let bytes = size::parse(text).map_err(|_| Inexact::new(text))?;
            i64::try_from(bytes).map_err(|_| Inexact::new(text))?
        }
    };
    Ok((bytes != 0).then(|| format!("\"{bytes}\"")))
}

pub(super) fn items(node: &Node) -> Result<&[Node], Inexact> {
    match &node.kind {
        Kind::Sequence(items) => Ok(items),
        _ => Err(Inexact::new("a list was expected")),
    }
}

pub(super) fn texts(node: &Node) -> Result<Vec<String>, Inexact> {
    match &node.kind {
        Kind::Scalar(_) => Ok(vec![text(node)?]),
        _ => items(node)?.iter().map(text).collect(),
    }
}

/// Returns the pairs of a mapping or of a list, sorted as Go sorts the keys of a map.
pub(super) fn pairs(node: &Node) -> Result<std::collections::BTreeMap<String, String>, Inexact> {
    if let Kind::Mapping(entries) = &node.kind {
        return entries
            .iter()
            .map(|entry| {
                let value = if entry.value.kind == Kind::Null {
                    String::new()
                } else {
                    text(&entry.value)?
                };
                Ok((entry.key.clone(), value))
            })
            .collect();
    }
    let pair = |item: &Node| {
        let text = text(item)?;
        let (key, value) = text.split_once('=').unwrap_or((&text, ""));
        Ok((key.to_owned(), value.to_owned()))
    };
    items(node)?.iter().map(pair).collect()
}

/// Returns an object of texts and nulls.
pub(super) fn mapping<'t>(pairs: impl IntoIterator<Item = (&'t str, Option<&'t str>)>) -> String {
    let part = |(key, value): (&str, Option<&str>)| {
        format!("{}:{}", go::quoted(key), value.map_or("null".to_owned(), go::quoted))
    };
    let parts: Vec<String> = pairs.into_iter().map(part).collect();
    format!("{{{}}}", parts.join(","))
}
