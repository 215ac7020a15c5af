//! `GET /containers/json`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::filters::Wanted;
use super::{inspect, network_settings};
use crate::api::answer;
use crate::api::error::ApiError;
use crate::api::query::Parameters;
use crate::api::wire::host_config_out::network_mode;
use crate::api::wire::time;
use crate::engine::containers::view::View;
use crate::engine::state::containers::{Container, Phase};
use crate::engine::{Engine, EngineError, Kind, counters, merge, status};

pub(super) async fn list(
    State(engine): State<Arc<Engine>>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let wanted = Wanted::new(parameters.filters()?)?;
    let limit = parameters.number::<i64>("limit")?.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.filter(|limit| *limit > 0);
    let all = parameters.flag("all") || limit.is_some() || wanted.names_states();
    let sizes = parameters.flag("size");
    let rows = choose(&engine, wanted, all, limit)?;
    let warnings = engine.warnings();
    // Walking the upper layers blocks.
    let views: Vec<Value> = tokio::task::block_in_place(|| {
        rows.iter().map(|view| entry(&engine, view, sizes)).collect()
    });
    Ok(answer::with_warnings(answer::json(&views), &warnings))
}

/// All containers, as `system df` lists them.
pub(in crate::api::docker) fn all(engine: &Arc<Engine>) -> Result<Vec<Value>, ApiError> {
    let views = choose(engine, Wanted::new(Default::default())?, true, None)?;
    Ok(views.iter().map(|view| entry(engine, view, true)).collect())
}

/// Newest first.
fn choose(
    engine: &Arc<Engine>,
    mut wanted: Wanted,
    all: bool,
    limit: Option<usize>,
) -> Result<Vec<View>, ApiError> {
    if let Some(word) = wanted.values("before").first() {
        wanted.before = Some(engine.container(word)?.row().created_at);
    }
    if let Some(word) = wanted.values("since").first() {
        wanted.since = Some(engine.container(word)?.row().created_at);
    }
    if !wanted.values("ancestor").is_empty() {
        // An image that isn't here has no containers.
        let ids = wanted.values("ancestor").iter().filter_map(|word| engine.image(word).ok());
        wanted.ancestors = Some(ids.map(|image| image.id).collect());
    }
    let mut views = Vec::new();
    for handle in engine.handles().iter().rev() {
        let row = handle.row();
        let listed = row.phase != Phase::Creating && (all || is_up(&row));
        if !listed || !wanted.wants_row(&row) {
            continue;
        }
        match engine.view_container(&row.id) {
            Ok(view) if wanted.wants_view(&view) => views.push(view),
            Ok(_) => {}
            // It was removed meanwhile.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        if limit.is_some_and(|limit| views.len() == limit) {
            break;
        }
    }
    Ok(views)
}

fn is_up(row: &Container) -> bool {
    matches!(status::state(row.phase), "running" | "paused" | "restarting")
}

fn entry(engine: &Engine, view: &View, sizes: bool) -> Value {
    let row = &view.row;
    let mut entry = json!({
        "Id": row.id,
        "Names": [format!("/{}", row.name)],
        "Image": row.spec.image,
        "ImageID": row.image_id,
        "Command": command(&view.arguments),
        "Created": row.created_at.div_euclid(1_000_000_000),
        "Ports": network_settings::summary(view),
        "Labels": merge::labels(&row.spec, &view.facts),
        "State": status::state(row.phase),
        "Status": status::status(row, time::now()),
        "HostConfig": { "NetworkMode": network_mode(&row.spec.network_mode) },
        "NetworkSettings": { "Networks": network_settings::networks(view) },
        "Mounts": inspect::mounts(view),
    });
    if sizes {
        let (own, all) = self::sizes(engine, row);
        entry["SizeRw"] = json!(own);
        entry["SizeRootFs"] = json!(all);
    }
    entry
}

/// Bytes of the container's own layer, and of everything it sees.
pub(super) fn sizes(engine: &Engine, row: &Container) -> (u64, u64) {
    let own = counters::folder_size(&engine.paths().container(&row.id).join("upper"));
    let image = engine.image(&row.image_id).map_or(0, |image| image.size);
    (own, own + image)
}

/// Program and arguments; those with a space are quoted, as docker does.
fn command(arguments: &[String]) -> String {
    let quoted = |(index, word): (usize, &String)| {
        if index > 0 && word.contains(' ') { format!("'{word}'") } else { word.clone() }
    };
    arguments.iter().enumerate().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Turns "removed meanwhile" into nothing.
pub(super) fn unless_gone<T>(result: Result<T, EngineError>) -> Result<Option<T>, ApiError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_with_spaces_are_quoted() {
        let words = ["sh", "-c", "echo hi"].map(str::to_owned);
        assert_eq!(command(&words), "sh -c 'echo hi'");
    }
}
