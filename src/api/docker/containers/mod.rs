//! `/containers`: one file a verb, or a few that belong together.

mod attach;
mod change;
mod create;
mod files;
mod filters;
mod inspect;
mod list;
mod logs;
mod network_settings;
mod power;
mod prune;
mod stats;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};

use crate::engine::Engine;

pub(super) use attach::size;
pub(super) use list::all as list_all;

pub(super) fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/containers/json", get(list::list))
        .route("/containers/create", post(create::create))
        .route("/containers/prune", post(prune::prune))
        .route("/containers/{id}", delete(change::remove))
        .route("/containers/{id}/json", get(inspect::inspect))
        .route("/containers/{id}/start", post(power::start))
        .route("/containers/{id}/stop", post(power::stop))
        .route("/containers/{id}/restart", post(power::restart))
        .route("/containers/{id}/kill", post(power::kill))
        .route("/containers/{id}/pause", post(power::pause))
        .route("/containers/{id}/unpause", post(power::unpause))
        .route("/containers/{id}/wait", post(power::wait))
        .route("/containers/{id}/rename", post(change::rename))
        .route("/containers/{id}/update", post(change::update))
        .route("/containers/{id}/resize", post(attach::resize))
        .route("/containers/{id}/attach", post(attach::attach))
        .route("/containers/{id}/attach/ws", get(attach::websocket))
        .route("/containers/{id}/logs", get(logs::logs))
        .route("/containers/{id}/top", get(stats::top))
        .route("/containers/{id}/stats", get(stats::stats))
        .route("/containers/{id}/archive", get(files::read).head(files::stat).put(files::write))
        .route("/containers/{id}/export", get(files::export))
        .route("/containers/{id}/changes", get(files::changes))
        .route("/commit", post(files::commit))
}
