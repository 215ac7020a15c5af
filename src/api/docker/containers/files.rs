//! A container's files: `archive` (docker's `cp`), `export`, `changes` and `commit`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::api::answer;
use crate::api::body::JsonBody;
use crate::api::error::ApiError;
use crate::api::query::Parameters;
use crate::api::transfer::{BodyReader, Patience, written_by};
use crate::api::wire::host_config_out::or_null;
use crate::api::wire::{self, path_stat};
use crate::engine::Engine;
use crate::engine::containers::files::{ChangeKind, CommitRequest, CopyIn, Hold, PathStat};

const PATH_STAT: &str = "X-Docker-Container-Path-Stat";

pub(super) async fn stat(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<HeaderMap, ApiError> {
    let stat = engine.stat_path(&id, path(&parameters)?).await?;
    let mut headers = HeaderMap::new();
    headers.insert(PATH_STAT, stat_header(&stat));
    Ok(headers)
}

pub(super) async fn read(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let (stat, archive) = engine.read_path(&id, path(&parameters)?).await?;
    let patience = patience(&engine, archive.hold());
    let body = written_by(patience, move |output| archive.write(output));
    let mut response = tar(body, "application/x-tar");
    response.headers_mut().insert(PATH_STAT, stat_header(&stat));
    Ok(response)
}

pub(super) async fn write(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let how = CopyIn {
        path: path(&parameters)?.to_owned(),
        keep_kinds: parameters.flag("noOverwriteDirNonDir"),
        as_user: parameters.flag("copyUIDGID"),
    };
    let archive = |hold| BodyReader::new(request.into_body(), patience(&engine, hold));
    engine.write_path(&id, how, archive).await?;
    Ok(StatusCode::OK)
}

pub(super) async fn export(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let export = engine.export_container(&id).await?;
    let patience = patience(&engine, export.hold());
    let body = written_by(patience, move |output| export.write(output));
    Ok(tar(body, "application/octet-stream"))
}

/// A container that does not run can be neither started nor removed while its files are copied: a client that
/// stalls must not keep it so.
fn patience(engine: &Engine, hold: Hold) -> Patience {
    match hold {
        Hold::Free => Patience::Endless,
        Hold::Held => {
            Patience::Limited(Duration::from_secs(engine.config().containers.stalled_copy))
        }
    }
}

pub(super) async fn changes(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let changes = engine.container_changes(&id).await?;
    let told = changes.iter().map(|change| {
        let kind = match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        };
        json!({ "Path": change.path.to_string_lossy(), "Kind": kind })
    });
    Ok(answer::json(&or_null(told.collect::<Vec<Value>>())))
}

/// The body is a container's configuration, which wins over the container's own; `changes` win over both.
pub(super) async fn commit(
    State(engine): State<Arc<Engine>>,
    parameters: Parameters,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let text = |key: &str| parameters.text(key).map(str::to_owned);
    let container = text("container").ok_or_else(|| ApiError::not_found("No such container: "))?;
    let reference = text("repo").map(|repo| match parameters.text("tag") {
        Some(tag) => format!("{repo}:{tag}"),
        None => repo,
    });
    let request = CommitRequest {
        container,
        reference,
        author: text("author"),
        comment: text("comment"),
        changes: parameters
            .texts("changes")
            .into_iter()
            .flat_map(str::lines)
            .map(str::to_owned)
            .collect(),
        pause: parameters.flag_or("pause", true),
        config: wire::create::read(&body)?.spec,
    };
    let id = engine.commit_container(request).await?;
    Ok(answer::json_with(StatusCode::CREATED, &json!({ "Id": id })))
}

fn path(parameters: &Parameters) -> Result<&str, ApiError> {
    let missing = || ApiError::invalid("bad parameter: path cannot be empty");
    parameters.text("path").ok_or_else(missing)
}

fn stat_header(stat: &PathStat) -> HeaderValue {
    HeaderValue::try_from(path_stat::header(stat)).expect("base64 is plain text")
}

fn tar(body: Body, kind: &'static str) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
