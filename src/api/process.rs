//! The engine's own process below `/bargee/v1`: which one it is, and its end.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use tokio_util::sync::CancellationToken;

use super::answer;
use super::error::ApiError;
use super::query::Parameters;
use crate::engine::Engine;
use crate::protocol::Version;

pub(super) fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/bargee/v1/version", get(version))
        .route("/bargee/v1/check", get(check))
        .route("/bargee/v1/shutdown", post(shutdown))
}

async fn version(State(engine): State<Arc<Engine>>) -> Response {
    answer::json(&Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        root: engine.paths().root().display().to_string(),
        run: engine.paths().run().display().to_string(),
    })
}

async fn check(State(engine): State<Arc<Engine>>) -> Result<Response, ApiError> {
    Ok(answer::json(&engine.check().await?))
}

/// Ends engine and keeper; with `containers=1` everything of the root before.
async fn shutdown(
    State(engine): State<Arc<Engine>>,
    Extension(shutdown): Extension<CancellationToken>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    if parameters.flag("containers") {
        engine.stop_everything().await?;
    }
    // This answer is still sent: the server lets those under way finish.
    shutdown.cancel();
    Ok(StatusCode::NO_CONTENT)
}
