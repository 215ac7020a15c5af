//! `/_ping` and `/version`.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::routing::get;

use crate::engine::Engine;

pub(super) fn routes() -> Router<Arc<Engine>> {
    Router::new().route("/_ping", get(ping))
}

async fn ping() -> (HeaderMap, &'static str) {
    let mut headers = HeaderMap::new();
    let no_cache = "no-cache, no-store, must-revalidate";
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(no_cache));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("Swarm", HeaderValue::from_static("inactive"));
    (headers, "OK")
}
