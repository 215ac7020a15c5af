//! Removing, renaming and updating.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use crate::api::answer;
use crate::api::body::JsonBody;
use crate::api::error::ApiError;
use crate::api::query::Parameters;
use crate::api::wire;
use crate::engine::Engine;
use crate::engine::containers::remove::RemoveOptions;

pub(super) async fn remove(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    if parameters.flag("link") {
        return Err(ApiError::invalid(
            "legacy links can't be removed from a container; connect both to a network of their own instead",
        ));
    }
    let options = RemoveOptions { force: parameters.flag("force"), volumes: parameters.flag("v") };
    engine.remove_container(&id, options).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn rename(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    let name = parameters
        .text("name")
        .ok_or_else(|| ApiError::invalid("Neither old nor new names may be empty"))?;
    engine.rename_for_client(&id, name.trim_start_matches('/')).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A limit that is absent or zero stays what it is.
pub(super) async fn update(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let row = engine.container(&id)?.row();
    let (change, mut warnings) = wire::update::read(&body, &row.spec.resources)?;
    warnings.extend(engine.update_container(&id, change).await?);
    Ok(answer::json(&json!({ "Warnings": wire::host_config_out::or_null(warnings) })))
}
