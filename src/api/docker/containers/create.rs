//! `POST /containers/create`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use crate::api::answer;
use crate::api::body::JsonBody;
use crate::api::error::ApiError;
use crate::api::query::Parameters;
use crate::api::wire;
use crate::engine::containers::create::CreateRequest;
use crate::engine::{Engine, EngineError, Kind};

pub(super) async fn create(
    State(engine): State<Arc<Engine>>,
    parameters: Parameters,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let mut asked = wire::create::read(&body)?;
    if asked.spec.image.is_empty() {
        return Err(ApiError::invalid(
            "config cannot be empty in order to create a container: it names no Image",
        ));
    }
    asked.spec.platform = parameters.text("platform").map(str::to_owned);
    let name = parameters.text("name").map(|name| name.trim_start_matches('/').to_owned());
    let request = CreateRequest { name, spec: asked.spec, ..CreateRequest::default() };
    let labelled = request.clone();
    let created = engine.create_container(request).await.map_err(missing)?;
    engine
        .note_foreign_container(labelled.name.as_deref().unwrap_or(&created.id), &labelled.spec)?;
    let mut warnings = asked.warnings;
    warnings.extend(created.warnings);
    Ok(answer::json_with(StatusCode::CREATED, &json!({ "Id": created.id, "Warnings": warnings })))
}

/// Of what may be missing, a 404 says that it is the image: docker's command line then pulls it.
fn missing(error: EngineError) -> ApiError {
    let is_image = matches!(error, EngineError::NoImage { .. });
    if error.kind() == Kind::NotFound && !is_image {
        return ApiError::invalid(error.full());
    }
    error.into()
}
