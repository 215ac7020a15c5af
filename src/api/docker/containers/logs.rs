//! `GET /containers/{id}/logs`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use futures_util::StreamExt as _;

use super::attach::Logs;
use crate::api::answer;
use crate::api::error::ApiError;
use crate::api::hijack;
use crate::api::query::Parameters;
use crate::api::route::ApiVersion;
use crate::api::wire::time;
use crate::engine::logs::{Entry, Query, Stream};
use crate::engine::{Engine, EngineError};
use crate::spec::container::ContainerSpec;

/// How an entry becomes bytes.
#[derive(Debug, Clone)]
struct Form {
    /// Raw text instead of frames.
    tty: bool,
    timestamps: bool,
    /// What `details` puts before each line.
    details: Option<String>,
}

pub(super) async fn logs(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    version: ApiVersion,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let query = query(&parameters)?;
    if !query.stdout && !query.stderr {
        return Err(ApiError::invalid("Bad parameters: you must choose at least one stream"));
    }
    let row = engine.container(&id)?.row();
    let form = Form {
        tty: row.spec.tty,
        timestamps: parameters.flag("timestamps"),
        details: parameters.flag("details").then(|| details(&row.spec)),
    };
    let content_type = hijack::content_type(version, form.tty);
    let entries = engine.container_logs(row.id.as_str(), query, parameters.flag("follow"))?;
    let entries = answer::receiver(entries).map(move |entry| match entry {
        Ok(entry) => write(&entry, &form),
        // Docker tells it on standard error, as the status is sent already.
        Err(error) => {
            let error = EngineError::from(error).full();
            frame(&form, Stream::Stderr, &format!("error from the engine: {error}\n"))
        }
    });
    Ok(answer::bytes(content_type, entries))
}

/// Everything that was written so far.
pub(super) async fn so_far(
    engine: &Arc<Engine>,
    id: &str,
    query: Query,
    logs: Logs,
) -> Result<Vec<u8>, ApiError> {
    let tty = logs == Logs::Raw || engine.container(id)?.row().spec.tty;
    let form = Form { tty, timestamps: false, details: None };
    let mut entries = engine.container_logs(id, query, false)?;
    let mut bytes = Vec::new();
    while let Some(entry) = entries.recv().await {
        let entry = entry.map_err(EngineError::from)?;
        bytes.extend_from_slice(&write(&entry, &form));
    }
    Ok(bytes)
}

fn query(parameters: &Parameters) -> Result<Query, ApiError> {
    let now = time::now();
    let at = |key| -> Result<_, ApiError> {
        let Some(text) = parameters.text(key).filter(|text| *text != "0") else { return Ok(None) };
        let nanoseconds = time::parse(key, text, now)?;
        Ok(jiff::Timestamp::from_nanosecond(nanoseconds.into()).ok())
    };
    Ok(Query {
        stdout: parameters.flag("stdout"),
        stderr: parameters.flag("stderr"),
        // Everything that is no number means all, as in docker.
        tail: parameters.text("tail").and_then(|text| text.parse().ok()),
        since: at("since")?,
        until: at("until")?,
    })
}

/// Labels and variables that the log's options name, as `key=value,…`.
fn details(spec: &ContainerSpec) -> String {
    let named = |option: &str| -> Vec<&str> {
        spec.logging.options.get(option).map(|text| text.split(',').collect()).unwrap_or_default()
    };
    let labels = named("labels");
    let variables = named("env");
    let env = spec.env.iter().filter_map(|line| line.split_once('='));
    let mut pairs: Vec<String> = spec
        .labels
        .iter()
        .filter(|(key, _)| labels.contains(&key.as_str()))
        .map(|(key, value)| format!("{key}={value}"))
        .chain(
            env.filter(|(key, _)| variables.contains(key))
                .map(|(key, value)| format!("{key}={value}")),
        )
        .collect();
    pairs.sort();
    pairs.join(",")
}

fn write(entry: &Entry, form: &Form) -> Bytes {
    let mut text = String::new();
    if form.timestamps {
        text.push_str(&format!("{:.9} ", entry.time));
    }
    if let Some(details) = &form.details {
        text.push_str(details);
        text.push(' ');
    }
    text.push_str(&entry.log);
    frame(form, entry.stream, &text)
}

fn frame(form: &Form, stream: Stream, text: &str) -> Bytes {
    if form.tty {
        return Bytes::copy_from_slice(text.as_bytes());
    }
    let number = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    hijack::frame(number, text).into()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_framed_with_its_time_and_details() {
        let entry = Entry {
            log: "hi\n".into(),
            stream: Stream::Stderr,
            time: "2026-01-01T00:00:00.5Z".parse().unwrap(),
        };
        let form = Form { tty: false, timestamps: true, details: Some("a=b".into()) };
        let text = "2026-01-01T00:00:00.500000000Z a=b hi\n";
        let mut expected = vec![2, 0, 0, 0, 0, 0, 0, u8::try_from(text.len()).unwrap()];
        expected.extend_from_slice(text.as_bytes());
        assert_eq!(write(&entry, &form), expected);
        let raw = Form { tty: true, timestamps: false, details: None };
        assert_eq!(write(&entry, &raw), "hi\n");
    }

    #[test]
    fn tail_is_a_number_or_everything() {
        let tail = |text: &str| query(&Parameters::parse(text)).unwrap().tail;
        assert_eq!(tail("tail=5"), Some(5));
        assert_eq!(tail("tail=all"), None);
        assert_eq!(tail("tail=-1"), None);
        assert!(query(&Parameters::parse("since=soon")).is_err());
    }
}
