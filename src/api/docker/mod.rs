//! The Docker Engine API, a family a file. Its reference: <https://docs.docker.com/reference/api/engine/>, v1.51.

mod build;
mod containers;
mod exec;
mod images;
mod networks;
mod swarm;
mod system;
mod volumes;

use std::sync::Arc;

use axum::Router;

use crate::engine::Engine;

/// The routes of all families.
pub(super) fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .merge(build::routes())
        .merge(containers::routes())
        .merge(exec::routes())
        .merge(images::routes())
        .merge(system::routes())
        .merge(swarm::routes())
        .merge(networks::routes())
        .merge(volumes::routes())
}
