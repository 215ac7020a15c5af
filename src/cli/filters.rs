//! `--filter NAME=VALUE` as the engine takes filters.

use serde_json::{Map, Value, json};

use super::error::CliError;

/// Returns `{"label":{"a=b":true}}` as text, or nothing without filters.
///
/// # Errors
/// A word without `=`.
pub(crate) fn encode(words: &[String]) -> Result<Option<String>, CliError> {
    let mut filters: Map<String, Value> = Map::new();
    for word in words {
        let Some((name, value)) = word.split_once('=') else {
            return Err(CliError::Usage(format!("--filter {word}: expected NAME=VALUE")));
        };
        let values = filters.entry(name.trim().to_lowercase()).or_insert_with(|| json!({}));
        values[value.trim()] = Value::Bool(true);
    }
    Ok((!filters.is_empty()).then(|| Value::Object(filters).to_string()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::encode;

    #[test]
    fn values_of_one_name_stand_together() {
        let words = ["label=a=b".to_owned(), "label=c".to_owned(), "status=running".to_owned()];
        let expected = r#"{"label":{"a=b":true,"c":true},"status":{"running":true}}"#;
        assert_eq!(encode(&words).unwrap().unwrap(), expected);
        assert_eq!(encode(&[]).unwrap(), None);
        assert!(encode(&["x".to_owned()]).is_err());
    }
}
