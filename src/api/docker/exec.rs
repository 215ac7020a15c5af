//! Further processes in a container: `POST /containers/{id}/exec` and `/exec`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::containers::size;
use crate::api::answer;
use crate::api::body::JsonBody;
use crate::api::error::ApiError;
use crate::api::hijack::{Asked, Hijack, Session, frame};
use crate::api::query::Parameters;
use crate::api::wire::lenient::{InvalidBody, Object};
use crate::engine::Engine;
use crate::engine::containers::attach::Streams;
use crate::engine::containers::execs::ExecSpec;

pub(super) fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/containers/{id}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(inspect))
}

async fn create(
    State(engine): State<Arc<Engine>>,
    Path(container): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let spec = read(&body)?;
    if spec.command.is_empty() {
        return Err(ApiError::invalid("No exec command specified"));
    }
    let id = engine.create_exec(&container, spec).await?;
    Ok(answer::json_with(StatusCode::CREATED, &json!({ "Id": id })))
}

fn read(body: &Value) -> Result<ExecSpec, InvalidBody> {
    let mut root = Object::open("", body)?;
    Ok(ExecSpec {
        command: root.texts("Cmd")?,
        env: root.texts("Env")?,
        working_dir: root.optional_text("WorkingDir")?,
        user: root.optional_text("User")?,
        tty: root.flag("Tty")?,
        privileged: root.flag("Privileged")?,
        streams: Streams {
            stdin: root.flag("AttachStdin")?,
            stdout: root.flag("AttachStdout")?,
            stderr: root.flag("AttachStderr")?,
        },
        detach_keys: root.optional_text("DetachKeys")?,
    })
}

async fn start(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    hijack: Hijack,
    asked: Asked,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let mut root = Object::open("", &body)?;
    let detach = root.flag("Detach")?;
    let size = console_size(&mut root)?;
    let view = engine.exec(&id).await?;
    let keys = view.spec.detach_keys.as_deref();
    let mut session = Session::new(view.spec.tty, view.spec.streams.stdin, keys)?;
    if detach {
        engine.start_exec(&id, true, size).await?;
        return Ok(StatusCode::OK.into_response());
    }
    engine.check_exec(&id)?;
    session.begin = Some(Box::pin(async move {
        match engine.start_exec(&id, false, size).await {
            Ok(attached) => (Vec::new(), attached.map(|attached| attached.stream)),
            // It is the output of what could not begin, and the exit code says so too: clients ask for that.
            Err(error) => {
                let text = format!("{}\r\n", error.full());
                (if view.spec.tty { text.into_bytes() } else { frame(1, &text) }, None)
            }
        }
    }));
    Ok(hijack.answer(asked, session).await)
}

/// `ConsoleSize: [rows, columns]`.
fn console_size(root: &mut Object<'_>) -> Result<Option<(u16, u16)>, ApiError> {
    let Some(value) = root.value("ConsoleSize") else { return Ok(None) };
    let wrong = || {
        ApiError::invalid(format!("invalid JSON: ConsoleSize: expected two numbers, got {value}"))
    };
    let numbers: [u16; 2] = serde_json::from_value(value.clone()).map_err(|_| wrong())?;
    let [rows, columns] = numbers;
    Ok((rows > 0 && columns > 0).then_some((rows, columns)))
}

async fn resize(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    let (rows, columns) = size(&parameters)?;
    engine.resize_exec(&id, rows, columns).await?;
    Ok(StatusCode::OK)
}

async fn inspect(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let exec = engine.exec(&id).await?;
    let (program, arguments) = match exec.spec.command.split_first() {
        Some((program, arguments)) => (program.as_str(), arguments),
        None => ("", &[][..]),
    };
    Ok(answer::json(&json!({
        "ID": exec.id,
        "Running": exec.running,
        "ExitCode": exec.exit_code,
        "ProcessConfig": {
            "tty": exec.spec.tty,
            "entrypoint": program,
            "arguments": arguments,
            "privileged": exec.spec.privileged,
            "user": exec.spec.user.as_deref().unwrap_or(""),
        },
        "OpenStdin": exec.spec.streams.stdin,
        "OpenStderr": exec.spec.streams.stderr,
        "OpenStdout": exec.spec.streams.stdout,
        "CanRemove": false,
        "ContainerID": exec.container,
        "DetachKeys": exec.spec.detach_keys.as_deref().unwrap_or(""),
        "Pid": exec.pid,
    })))
}
