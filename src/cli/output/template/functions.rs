//! The functions of text/template and docker's own, and how values print.

use serde_json::Value;

use super::evaluate::{kind, wrong};
use super::{HIDDEN, TemplateError};

type Found = Result<Value, String>;

const NAMES: &[&str] = &[
    "json", "join", "split", "upper", "lower", "title", "pad", "truncate", "len", "index", "slice",
    "print", "println", "printf", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not",
];

pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls a function. A field that is missing is false to `and`, `or` and `not`, and an error to all others.
pub(super) fn call(name: &str, arguments: Vec<Found>) -> Result<Found, TemplateError> {
    let truth_of = |found: &Found| found.as_ref().is_ok_and(truth);
    match name {
        "not" => match &arguments[..] {
            [one] => return Ok(Ok(Value::Bool(!truth_of(one)))),
            _ => return Err(wrong("not takes one argument")),
        },
        "and" | "or" => {
            let wanted = name == "or";
            let decided = arguments.iter().position(|found| truth_of(found) == wanted);
            let at = decided.unwrap_or(arguments.len().saturating_sub(1));
            return match arguments.into_iter().nth(at) {
                Some(found) => Ok(found),
                None => Err(wrong(format!("{name} needs an argument"))),
            };
        }
        _ => {}
    }
    let mut values = Vec::new();
    for found in arguments {
        match found {
            Ok(value) => values.push(value),
            Err(field) => return Err(wrong(format!("there is no field {field}"))),
        }
    }
    known(name, &values).map(Ok)
}

fn known(name: &str, values: &[Value]) -> Result<Value, TemplateError> {
    let usage = || wrong(format!("{name} was called with wrong arguments"));
    Ok(match (name, values) {
        ("json", [value]) => Value::from(json(value)),
        ("upper", [Value::String(text)]) => Value::from(text.to_uppercase()),
        ("lower", [Value::String(text)]) => Value::from(text.to_lowercase()),
        ("title", [Value::String(text)]) => Value::from(title(text)),
        ("join", [Value::Array(items), Value::String(between)]) => {
            Value::from(items.iter().map(text).collect::<Vec<_>>().join(between))
        }
        ("join", [Value::Null, Value::String(_)]) => Value::from(""),
        ("split", [Value::String(text), Value::String(between)]) => {
            Value::from(text.split(between.as_str()).collect::<Vec<_>>())
        }
        ("pad", [Value::String(text), before, after]) => {
            let blanks = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
            let (before, after) = blanks(before).zip(blanks(after)).ok_or_else(usage)?;
            if before.max(after) > 1000 {
                return Err(wrong("pad takes at most 1000 blanks"));
            }
            let padded = format!("{}{text}{}", " ".repeat(before), " ".repeat(after));
            Value::from(if text.is_empty() { String::new() } else { padded })
        }
        ("truncate", [Value::String(text), length]) => {
            let length = length.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(usage)?;
            Value::from(text.chars().take(length).collect::<String>())
        }
        ("len", [value]) => Value::from(length(value)?),
        ("index", [value, keys @ ..]) => index(value, keys)?,
        ("slice", [value, bounds @ ..]) => slice(value, bounds)?,
        ("print", values) => Value::from(values.iter().map(text).collect::<String>()),
        ("println", values) => {
            Value::from(values.iter().map(text).collect::<Vec<_>>().join(" ") + "\n")
        }
        ("printf", [Value::String(format), values @ ..]) => Value::from(printf(format, values)?),
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            Value::Bool(others.iter().any(|other| equal(first, other)))
        }
        ("ne", [one, other]) => Value::Bool(!equal(one, other)),
        ("lt" | "le" | "gt" | "ge", [one, other]) => {
            let order = compare(one, other).ok_or_else(usage)?;
            Value::Bool(match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            })
        }
        _ => return Err(usage()),
    })
}

/// Returns how a value prints, as Go's `%v`.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" "))
        }
        Value::Object(fields) => {
            let mut pairs: Vec<String> = fields
                .iter()
                .filter(|(key, _)| !key.starts_with(HIDDEN))
                .map(|(key, value)| format!("{key}:{}", text(value)))
                .collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// What a condition takes for true: anything but the zero of its kind.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// Returns compact JSON without the fields that are for templates alone.
pub(crate) fn json(value: &Value) -> String {
    let mut value = value.clone();
    shed_hidden(&mut value);
    value.to_string()
}

fn shed_hidden(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !key.starts_with(HIDDEN));
            fields.values_mut().for_each(shed_hidden);
        }
        Value::Array(items) => items.iter_mut().for_each(shed_hidden),
        _ => {}
    }
}

fn title(text: &str) -> String {
    let mut start = true;
    let mut titled = String::with_capacity(text.len());
    for character in text.chars() {
        if start {
            titled.extend(character.to_uppercase());
        } else {
            titled.push(character);
        }
        start = !character.is_alphanumeric();
    }
    titled
}

fn length(value: &Value) -> Result<usize, TemplateError> {
    match value {
        Value::Null => Ok(0),
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(fields) => Ok(fields.len()),
        other => Err(wrong(format!("len of a {}", kind(other)))),
    }
}

/// A key that a map lacks gives nothing, as in Go; an index beyond a list is an error.
fn index(value: &Value, keys: &[Value]) -> Result<Value, TemplateError> {
    let mut value = value.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::Object(fields), Value::String(key)) => {
                fields.get(key).cloned().unwrap_or(Value::Null)
            }
            (Value::Array(items), Value::Number(at)) => {
                let at = at.as_u64().and_then(|at| usize::try_from(at).ok());
                let item = at.and_then(|at| items.get(at));
                item.cloned().ok_or_else(|| wrong(format!("index {key} is out of range")))?
            }
            (Value::Null, _) => return Err(wrong("index of nil")),
            (other, _) => return Err(wrong(format!("cannot index a {} with {key}", kind(other)))),
        };
    }
    Ok(value)
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, TemplateError> {
    let bound = |at: usize, default: usize| match bounds.get(at) {
        None => Some(default),
        Some(value) => value.as_u64().and_then(|bound| usize::try_from(bound).ok()),
    };
    let range = |length: usize| bound(0, 0).zip(bound(1, length));
    let out = || wrong("slice is out of range");
    match value {
        Value::String(text) => {
            let (from, to) = range(text.len()).ok_or_else(out)?;
            text.get(from..to).map(Value::from).ok_or_else(out)
        }
        Value::Array(items) => {
            let (from, to) = range(items.len()).ok_or_else(out)?;
            items.get(from..to).map(|items| Value::from(items.to_vec())).ok_or_else(out)
        }
        other => Err(wrong(format!("slice of a {}", kind(other)))),
    }
}

fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

fn compare(one: &Value, other: &Value) -> Option<std::cmp::Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64()?.partial_cmp(&other.as_f64()?),
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

/// `%s %v %d %t %q %f %%` with `-`, a width and a precision.
fn printf(format: &str, values: &[Value]) -> Result<String, TemplateError> {
    const WIDEST: usize = 1000;
    let mut output = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        output.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = rest
            .find(|c: char| c.is_ascii_alphabetic() || c == '%')
            .ok_or_else(|| wrong("printf: a % ends the format"))?;
        let (flags, verb) = (&rest[..end], rest.as_bytes()[end]);
        rest = &rest[end + 1..];
        if verb == b'%' {
            output.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| wrong("printf: an argument is missing"))?;
        let (left, flags) = flags.strip_prefix('-').map_or((false, flags), |flags| (true, flags));
        let (width, precision) = flags.split_once('.').unwrap_or((flags, ""));
        let count = |text: &str| match text {
            "" => Ok(None),
            text => match text.parse::<usize>() {
                Ok(number) if number <= WIDEST => Ok(Some(number)),
                _ => Err(wrong(format!("printf: the flags {flags:?} are not supported"))),
            },
        };
        let (width, precision) = (count(width)?.unwrap_or(0), count(precision)?);
        let text = match (verb, value) {
            (b'f', Value::Number(number)) => {
                format!("{:.*}", precision.unwrap_or(6), number.as_f64().unwrap_or(0.0))
            }
            (b'q', Value::String(text)) => format!("{text:?}"),
            (b's' | b'v', value) => match precision {
                Some(most) => text(value).chars().take(most).collect(),
                None => text(value),
            },
            (b'd', Value::Number(_)) | (b't', Value::Bool(_)) => text(value),
            (verb, value) => {
                let verb = char::from(verb);
                return Err(wrong(format!(
                    "printf: %{verb} of a {} is not supported",
                    kind(value)
                )));
            }
        };
        output.push_str(&if left { format!("{text:<width$}") } else { format!("{text:>width$}") });
    }
    output.push_str(rest);
    Ok(output)
}
