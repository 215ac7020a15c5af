//! Starting, stopping, signals, pausing and waiting.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream;
use serde_json::json;

use crate::api::answer;
use crate::api::error::ApiError;
use crate::api::query::Parameters;
use crate::engine::Engine;
use crate::engine::containers::lifecycle::{By, StopOptions, WaitFor};
use crate::engine::signals;

type Done = Result<StatusCode, ApiError>;

pub(super) async fn start(State(engine): State<Arc<Engine>>, Path(id): Path<String>) -> Done {
    engine.start_container(&id, By::User).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn stop(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Done {
    engine.stop_container(&id, &stop_options(&parameters)?, By::User).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn restart(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Done {
    engine.restart_container(&id, &stop_options(&parameters)?, By::User).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn stop_options(parameters: &Parameters) -> Result<StopOptions, ApiError> {
    let signal = parameters.text("signal").map(str::to_owned);
    Ok(StopOptions { grace: parameters.number("t")?, signal, drain: None })
}

pub(super) async fn kill(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Done {
    let word = parameters.text("signal").unwrap_or("KILL");
    let signal =
        signals::parse(word).ok_or_else(|| ApiError::invalid(format!("Invalid signal: {word}")))?;
    engine.kill_container(&id, signal).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn pause(State(engine): State<Arc<Engine>>, Path(id): Path<String>) -> Done {
    engine.pause_container(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn unpause(State(engine): State<Arc<Engine>>, Path(id): Path<String>) -> Done {
    engine.unpause_container(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Answers its headers at once, as clients start the container only then; the body follows the exit.
pub(super) async fn wait(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let condition = match parameters.text("condition") {
        None | Some("not-running") => WaitFor::NotRunning,
        Some("next-exit") => WaitFor::NextExit,
        Some("removed") => WaitFor::Removed,
        Some(other) => {
            return Err(ApiError::invalid(format!("invalid condition: {other:?}")));
        }
    };
    let exit = engine.wait_container(&id, condition)?;
    Ok(answer::json_lines(stream::once(async {
        match exit.await {
            Ok(exit) => json!({ "StatusCode": exit.code }),
            Err(error) => json!({ "StatusCode": -1, "Error": { "Message": error.full() } }),
        }
    })))
}
