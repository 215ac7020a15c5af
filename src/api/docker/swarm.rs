//! What a single machine has no answer for: swarm's families say so with 503, as clients probe them.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, get};
use serde_json::json;

use crate::api::answer;
use crate::api::error::ApiError;
use crate::engine::Engine;

const FAMILIES: [&str; 6] = ["services", "tasks", "nodes", "secrets", "configs", "swarm"];

pub(super) fn routes() -> Router<Arc<Engine>> {
    let mut router = Router::new().route("/plugins", get(async || answer::json(&json!([]))));
    for family in FAMILIES {
        router = router
            .route(&format!("/{family}"), any(no_swarm))
            .route(&format!("/{family}/{{*rest}}"), any(no_swarm));
    }
    router.route("/plugins/{*name}", any(no_plugin))
}

/// Docker's text, but for the remedy: this engine can't become a swarm manager.
async fn no_swarm() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
         swarm and try again.",
    )
}

async fn no_plugin(axum::extract::Path(name): axum::extract::Path<String>) -> ApiError {
    ApiError::not_found(format!("plugin {:?} not found", name.trim_end_matches("/json")))
}
