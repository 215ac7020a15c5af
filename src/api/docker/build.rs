//! `/build`: images are not built yet, so there is no cache either; `system prune` asks to empty it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use serde_json::json;

use crate::api::answer;
use crate::api::error::ApiError;
use crate::engine::Engine;

pub(super) fn routes() -> Router<Arc<Engine>> {
    Router::new().route("/build", post(build)).route("/build/prune", post(prune))
}

async fn build() -> ApiError {
    ApiError::not_implemented(
        "this engine can't build images yet; build elsewhere and load the archive",
    )
}

async fn prune(State(engine): State<Arc<Engine>>) -> Response {
    engine.tell_prune("builder", 0);
    answer::json(&json!({ "CachesDeleted": null, "SpaceReclaimed": 0 }))
}
