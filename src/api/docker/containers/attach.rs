//! Attaching to a container's streams, and the size of its terminal.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::logs;
use crate::api::error::ApiError;
use crate::api::hijack::{Asked, Hijack, Session};
use crate::api::query::Parameters;
use crate::api::websocket::Handshake;
use crate::engine::Engine;
use crate::engine::containers::attach::Streams;
use crate::engine::logs::Query;

/// `logs=1` sends what was written before, `stream=1` what comes; both together send one after the other.
pub(super) async fn attach(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
    hijack: Hijack,
    asked: Asked,
) -> Result<Response, ApiError> {
    let session = session(&engine, &id, &parameters, Logs::Framed).await?;
    Ok(hijack.answer(asked, session).await)
}

/// As [`attach`], in the messages of a web socket, which tell no stream from another.
pub(super) async fn websocket(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
    hijack: Hijack,
    asked: Handshake,
) -> Result<Response, ApiError> {
    let session = session(&engine, &id, &parameters, Logs::Raw).await?;
    Ok(hijack.answer_messages(asked, session).await)
}

/// How what was written before is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logs {
    /// In docker's frames, unless the container has a terminal.
    Framed,
    Raw,
}

async fn session(
    engine: &Arc<Engine>,
    id: &str,
    parameters: &Parameters,
    logs: Logs,
) -> Result<Session, ApiError> {
    let streams = Streams {
        stdin: parameters.flag("stdin"),
        stdout: parameters.flag("stdout"),
        stderr: parameters.flag("stderr"),
    };
    let tty = engine.container(id)?.row().spec.tty;
    let mut session = Session::new(tty, streams.stdin, parameters.text("detachKeys"))?;
    if parameters.flag("stream") {
        session.attached = Some(engine.attach_container(id, streams).await?.stream);
    }
    if parameters.flag("logs") {
        let query = Query {
            stdout: streams.stdout,
            stderr: streams.stderr,
            tail: None,
            since: None,
            until: None,
        };
        session.before = logs::so_far(engine, id, query, logs).await?;
    }
    Ok(session)
}

pub(super) async fn resize(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    let (rows, columns) = size(&parameters)?;
    engine.resize_container(&id, rows, columns).await?;
    Ok(StatusCode::OK)
}

/// Rows and columns of a terminal.
pub(in crate::api::docker) fn size(parameters: &Parameters) -> Result<(u16, u16), ApiError> {
    let number = |key| -> Result<u16, ApiError> {
        parameters
            .number(key)?
            .ok_or_else(|| ApiError::invalid(format!("the terminal's size lacks {key}")))
    };
    Ok((number("h")?, number("w")?))
}
