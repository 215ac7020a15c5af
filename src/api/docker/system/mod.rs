//! What the engine says of itself: `/_ping`, `/version`, `/info`, `/events`, `/system/df`, `/auth`.

mod events;
mod info;
mod usage;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::routing::{get, post};

use crate::api::error::ApiError;
use crate::engine::Engine;

pub(super) fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/_ping", get(ping))
        .route("/version", get(info::version))
        .route("/info", get(info::info))
        .route("/events", get(events::events))
        .route("/system/df", get(usage::usage))
        .route("/auth", post(auth))
}

async fn ping(method: Method) -> (HeaderMap, &'static str) {
    let mut headers = HeaderMap::new();
    let no_cache = "no-cache, no-store, must-revalidate";
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(no_cache));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("Swarm", HeaderValue::from_static("inactive"));
    // Dockerd's HEAD tells a length of zero.
    (headers, if method == Method::HEAD { "" } else { "OK" })
}

async fn auth() -> ApiError {
    ApiError::not_implemented(
        "this engine can't log in to registries yet; load images from archives",
    )
}
