//! Where a container's output is kept: docker's json-file with its rotation, or nowhere.

use std::path::PathBuf;

use crate::engine::config::Logs;
use crate::engine::error::EngineError;
use crate::runtime::bundle::LogConfig;
use crate::spec::container::Logging;
use crate::spec::value::size;

/// What docker's `local` driver keeps when nothing is said.
const LOCAL: Logs = Logs { max_size: 20 << 20, max_files: 5 };

/// Options of docker's drivers that change nothing here, with what happens instead.
const WITHOUT_EFFECT: [(&str, &str); 7] = [
    ("compress", "rotated logs are compressed by the engine as it sees fit"),
    ("mode", "output is never held back by the log"),
    ("max-buffer-size", "output is never held back by the log"),
    ("labels", "labels are not written into the log"),
    ("labels-regex", "labels are not written into the log"),
    ("env", "variables are not written into the log"),
    ("tag", "no tag is written into the log"),
];

/// Refuses a driver or an option that is not there; returns a warning for each option without effect.
pub(super) fn check(logging: &Logging) -> Result<Vec<String>, EngineError> {
    config(logging, &Logs::default(), PathBuf::new())?;
    let without_effect = |key: &str| WITHOUT_EFFECT.iter().find(|(known, _)| *known == key);
    Ok(logging
        .options
        .iter()
        .filter(|(_, value)| !matches!(value.as_str(), "" | "blocking"))
        .filter_map(|(key, _)| without_effect(key))
        .map(|(key, instead)| format!("log option {key} has no effect: {instead}"))
        .collect())
}

/// Returns what the shim is told.
pub(super) fn config(
    logging: &Logging,
    defaults: &Logs,
    path: PathBuf,
) -> Result<LogConfig, EngineError> {
    let defaults = match logging.driver.as_str() {
        "" | "json-file" => defaults,
        "local" => &LOCAL,
        "none" => return Ok(LogConfig::None),
        other => {
            return Err(invalid(format!(
                "logger: no log driver named '{other}' is registered: use json-file, local or none"
            )));
        }
    };
    let (mut max_size, mut max_files) = (defaults.max_size, defaults.max_files);
    for (key, value) in &logging.options {
        match key.as_str() {
            "max-size" if value == "-1" => max_size = 0,
            "max-size" => {
                max_size = size::parse(value)
                    .map_err(|error| invalid(format!("invalid value for max-size: {error}")))?;
            }
            "max-file" => {
                max_files = value.parse().ok().filter(|files| *files > 0).ok_or_else(|| {
                    invalid(format!("max-file must be a number greater than 0, not \"{value}\""))
                })?;
            }
            key if WITHOUT_EFFECT.iter().any(|(known, _)| *known == key) => {}
            _ => {
                return Err(invalid(format!("unknown log opt '{key}' for json-file log driver")));
            }
        }
    }
    Ok(LogConfig::JsonFile { path, max_size, max_files })
}

fn invalid(message: String) -> EngineError {
    EngineError::Invalid { message }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    fn logging(driver: &str, options: &[(&str, &str)]) -> Logging {
        let options = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Logging { driver: driver.into(), options }
    }

    fn limits(logging: &Logging) -> (u64, u32) {
        match config(logging, &Logs { max_size: 7, max_files: 2 }, PathBuf::new()).unwrap() {
            LogConfig::JsonFile { max_size, max_files, .. } => (max_size, max_files),
            LogConfig::None => panic!("there is a log"),
        }
    }

    #[test]
    fn rotation_comes_from_the_options_or_the_defaults() {
        assert_eq!(limits(&logging("", &[])), (7, 2));
        assert_eq!(
            limits(&logging("json-file", &[("max-size", "10m"), ("max-file", "9")])),
            (10 << 20, 9)
        );
        assert_eq!(limits(&logging("local", &[])), (20 << 20, 5));
        assert_eq!(limits(&logging("", &[("max-size", "-1")])), (0, 2));
    }

    #[test]
    fn other_drivers_and_unknown_options_are_refused() {
        let message = check(&logging("journald", &[])).unwrap_err().to_string();
        assert!(message.starts_with("logger: no log driver named 'journald' is registered"));
        assert!(check(&logging("", &[("colour", "red")])).is_err());
        assert!(check(&logging("", &[("max-file", "0")])).is_err());
        assert_eq!(check(&logging("", &[("tag", "x"), ("mode", "blocking")])).unwrap().len(), 1);
    }
}
