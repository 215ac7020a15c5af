//! `POST /containers/prune`: stopped containers go.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::filters::has_label;
use super::list::{sizes, unless_gone};
use crate::api::answer;
use crate::api::error::ApiError;
use crate::api::query::{Filters, Parameters, check_filters};
use crate::api::wire::{host_config_out::or_null, time};
use crate::engine::containers::remove::RemoveOptions;
use crate::engine::containers::view::View;
use crate::engine::{Engine, Kind, merge, status};

pub(super) async fn prune(
    State(engine): State<Arc<Engine>>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let filters = parameters.filters()?;
    check_filters(&filters, &["until", "label", "label!"])?;
    let until = match filters.get("until").map(Vec::as_slice) {
        None | Some([]) => None,
        Some([only]) => Some(time::parse("until", only, time::now())?),
        Some(_) => return Err(ApiError::invalid("more than one until filter specified")),
    };
    let (mut deleted, mut reclaimed) = (Vec::new(), 0);
    for handle in engine.handles() {
        let Some(view) = unless_gone(engine.view_container(handle.id()))? else { continue };
        if !is_wanted(&view, &filters, until) {
            continue;
        }
        let (own, _) = tokio::task::block_in_place(|| sizes(&engine, &view.row));
        match engine.remove_container(handle.id(), RemoveOptions::default()).await {
            Ok(()) => {
                deleted.push(handle.id().to_owned());
                reclaimed += own;
            }
            // It was started or removed meanwhile.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    engine.tell_prune("container", reclaimed);
    Ok(answer::json(&json!({ "ContainersDeleted": or_null(deleted), "SpaceReclaimed": reclaimed })))
}

fn is_wanted(view: &View, filters: &Filters, until: Option<i64>) -> bool {
    let labels = merge::labels(&view.row.spec, &view.facts);
    let values = |key: &str| filters.get(key).into_iter().flatten();
    matches!(status::state(view.row.phase), "created" | "exited")
        && until.is_none_or(|until| view.row.created_at < until)
        && values("label").all(|wanted| has_label(&labels, wanted))
        && !values("label!").any(|unwanted| has_label(&labels, unwanted))
}
