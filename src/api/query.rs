//! Query parameters as dockerd reads them: flags are `1`, `true`, `yes`; filters are JSON in two shapes.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde_json::Value;

use super::error::ApiError;

/// Values of each filter's key, alternatives of one another.
pub type Filters = BTreeMap<String, Vec<String>>;

/// The parameters of a request, in the order of its URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or("")))
    }
}

impl Parameters {
    pub fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self(pairs.collect())
    }

    /// Returns the first value of `key`, unless it is absent or empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Returns all values of a key that may be repeated.
    pub fn texts(&self, key: &str) -> Vec<&str> {
        self.0.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect()
    }

    /// Everything is true but these: moby `api/server/httputils/form.go`.
    pub fn flag(&self, key: &str) -> bool {
        self.flag_or(key, false)
    }

    /// A flag that is `default` when the URL doesn't name it.
    pub fn flag_or(&self, key: &str, default: bool) -> bool {
        let Some((_, value)) = self.0.iter().find(|(name, _)| name == key) else { return default };
        !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// # Errors
    /// It is there and no number.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            ApiError::invalid(format!("invalid value of {key}: {text:?} is no number"))
        })
    }

    /// Reads `filters`: `{"label":{"a=b":true}}`, or `{"label":["a=b"]}` of old clients.
    ///
    /// # Errors
    /// It is no such JSON.
    pub fn filters(&self) -> Result<Filters, ApiError> {
        let Some(text) = self.text("filters") else { return Ok(Filters::new()) };
        let wrong = || ApiError::invalid(format!("invalid filter: {text}"));
        let fields: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| wrong())?;
        let values = |value: Value| match value {
            Value::Object(set) => Some(
                set.into_iter()
                    .filter(|(_, on)| *on != Value::Bool(false))
                    .map(|(key, _)| key)
                    .collect(),
            ),
            Value::Array(items) => {
                items.into_iter().map(|item| item.as_str().map(str::to_owned)).collect()
            }
            Value::Null => Some(Vec::new()),
            _ => None,
        };
        fields
            .into_iter()
            .map(|(key, value)| values(value).map(|values| (key, values)).ok_or_else(wrong))
            .collect()
    }
}

/// Refuses a filter that is not one of `known`, as docker does.
///
/// # Errors
/// 400 `invalid filter 'x'`.
pub fn check_filters(filters: &Filters, known: &[&str]) -> Result<(), ApiError> {
    match filters.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(ApiError::invalid(format!("invalid filter '{key}'"))),
        None => Ok(()),
    }
}

/// Undoes percent-encoding, and `+` for a space (URL standard, application/x-www-form-urlencoded).
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let hex = || {
            std::str::from_utf8(after.get(..2)?)
                .ok()
                .and_then(|two| u8::from_str_radix(two, 16).ok())
        };
        match (first, hex()) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn flags_and_numbers_are_read_as_docker_does() {
        let query = Parameters::parse("a=1&b=true&c=0&d=False&e=&f&n=-5&x=yes");
        let on: Vec<_> = ["a", "b", "c", "d", "e", "f", "x", "none"]
            .into_iter()
            .filter(|key| query.flag(key))
            .collect();
        assert_eq!(on, ["a", "b", "x"]);
        assert_eq!(query.number::<i64>("n").unwrap(), Some(-5));
        assert_eq!(query.number::<u16>("n").unwrap_err().status, 400);
        assert_eq!(query.number::<u16>("e").unwrap(), None);
    }

    #[test]
    fn filters_have_two_shapes() {
        let new = Parameters::parse("filters=%7B%22label%22%3A%7B%22a%3Db%22%3Atrue%7D%7D");
        let old = Parameters::parse("filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D");
        let expected = Filters::from([("label".to_owned(), vec!["a=b".to_owned()])]);
        assert_eq!(new.filters().unwrap(), expected);
        assert_eq!(old.filters().unwrap(), expected);
        assert_eq!(Parameters::parse("filters=%5B1").filters().unwrap_err().status, 400);
        assert_eq!(
            check_filters(&expected, &["id"]).unwrap_err().message,
            "invalid filter 'label'"
        );
    }
}
