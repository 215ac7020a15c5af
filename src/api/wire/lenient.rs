//! Reading JSON as dockerd does: keys in any case, `null` for zero, one string where a list may stand.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// A request body that does not say what it has to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSON: {path}: expected {expected}, got {got}")]
pub struct InvalidBody {
    /// Dotted path of the field.
    pub path: String,
    pub expected: &'static str,
    pub got: String,
}

/// An object of a body, which notes what was read of it so that the rest can be reported.
#[derive(Debug)]
pub struct Object<'a> {
    path: String,
    fields: BTreeMap<String, (&'a str, &'a Value)>,
    read: BTreeSet<String>,
}

impl<'a> Object<'a> {
    /// Opens `value`; `null` is an empty object.
    ///
    /// # Errors
    /// `value` is something else than an object or `null`.
    pub fn open(path: &str, value: &'a Value) -> Result<Self, InvalidBody> {
        let fields = match value {
            Value::Null => BTreeMap::new(),
            Value::Object(fields) => lower(fields),
            other => return Err(invalid(path, "an object", other)),
        };
        Ok(Self { path: path.to_owned(), fields, read: BTreeSet::new() })
    }

    /// Returns the value of `key` unless it is absent or `null`.
    pub fn value(&mut self, key: &str) -> Option<&'a Value> {
        let key = key.to_ascii_lowercase();
        let found = self.fields.get(&key).map(|(_, value)| *value);
        self.read.insert(key);
        found.filter(|value| !value.is_null())
    }

    pub fn child(&mut self, key: &str) -> Result<Object<'a>, InvalidBody> {
        let value = self.value(key).unwrap_or(&Value::Null);
        Object::open(&self.at(key), value)
    }

    /// The objects of a list.
    pub fn children(&mut self, key: &str) -> Result<Vec<Object<'a>>, InvalidBody> {
        match self.value(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(index, item)| Object::open(&format!("{}[{index}]", self.at(key)), item))
                .collect(),
            Some(other) => Err(invalid(&self.at(key), "a list of objects", other)),
        }
    }

    /// The entries of a map, keys as they were written.
    pub fn entries(&mut self, key: &str) -> Result<Vec<(&'a str, &'a Value)>, InvalidBody> {
        match self.value(key) {
            None => Ok(Vec::new()),
            Some(Value::Object(fields)) => {
                Ok(fields.iter().map(|(key, value)| (key.as_str(), value)).collect())
            }
            Some(other) => Err(invalid(&self.at(key), "an object", other)),
        }
    }

    pub fn text(&mut self, key: &str) -> Result<String, InvalidBody> {
        match self.value(key) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(invalid(&self.at(key), "a string", other)),
        }
    }

    /// A string that is absent when empty.
    pub fn optional_text(&mut self, key: &str) -> Result<Option<String>, InvalidBody> {
        Ok(Some(self.text(key)?).filter(|text| !text.is_empty()))
    }

    pub fn flag(&mut self, key: &str) -> Result<bool, InvalidBody> {
        match self.value(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(invalid(&self.at(key), "true or false", other)),
        }
    }

    /// A number; zero and `null` are both absent, as Go has it.
    pub fn number(&mut self, key: &str) -> Result<Option<i64>, InvalidBody> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(number).filter(|number| *number != 0)),
                None => Err(invalid(&self.at(key), "a whole number", value)),
            },
        }
    }

    /// A number that cannot be below zero.
    pub fn unsigned(&mut self, key: &str) -> Result<Option<u64>, InvalidBody> {
        match self.number(key)? {
            None => Ok(None),
            Some(number) => match u64::try_from(number) {
                Ok(number) => Ok(Some(number)),
                Err(_) => {
                    Err(invalid(&self.at(key), "a number of zero or more", &Value::from(number)))
                }
            },
        }
    }

    pub fn texts(&mut self, key: &str) -> Result<Vec<String>, InvalidBody> {
        Ok(self.optional_texts(key)?.unwrap_or_default())
    }

    /// A list of strings, or one string that stands for a list of one; `None` when absent.
    pub fn optional_texts(&mut self, key: &str) -> Result<Option<Vec<String>>, InvalidBody> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(vec![text.clone()])),
            Some(Value::Array(items)) => {
                let path = self.at(key);
                items
                    .iter()
                    .map(|item| match item {
                        Value::String(text) => Ok(text.clone()),
                        other => Err(invalid(&path, "a list of strings", other)),
                    })
                    .collect::<Result<_, _>>()
                    .map(Some)
            }
            Some(other) => Err(invalid(&self.at(key), "a list of strings", other)),
        }
    }

    pub fn text_map(&mut self, key: &str) -> Result<BTreeMap<String, String>, InvalidBody> {
        let path = self.at(key);
        self.entries(key)?
            .into_iter()
            .map(|(name, value)| match value {
                Value::Null => Ok((name.to_owned(), String::new())),
                Value::String(text) => Ok((name.to_owned(), text.clone())),
                other => Err(invalid(&format!("{path}.{name}"), "a string", other)),
            })
            .collect()
    }

    /// Returns the dotted path of `key`.
    pub fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Returns the paths of fields that were set to something and that nobody read.
    pub fn unread(&self) -> Vec<String> {
        self.fields
            .iter()
            .filter(|(key, (_, value))| !self.read.contains(*key) && !is_zero(value))
            .map(|(_, (written, _))| self.at(written))
            .collect()
    }
}

/// What Go's zero values look like in JSON; clients send them for all they don't set.
pub fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_zero),
        Value::Object(fields) => fields.values().all(is_zero),
    }
}

/// Builds the error for a value of the wrong kind; long values are cut.
pub fn invalid(path: &str, expected: &'static str, got: &Value) -> InvalidBody {
    let mut got = got.to_string();
    if got.chars().count() > 60 {
        got = got.chars().take(60).chain(['…']).collect();
    }
    InvalidBody { path: path.to_owned(), expected, got }
}

fn lower(fields: &Map<String, Value>) -> BTreeMap<String, (&str, &Value)> {
    fields.iter().map(|(key, value)| (key.to_ascii_lowercase(), (key.as_str(), value))).collect()
}
