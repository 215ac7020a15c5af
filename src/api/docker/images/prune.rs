//! `images prune`: what no container uses, and has no name unless all are meant.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::{blocking, deleted, filter, seconds};
use crate::api::answer;
use crate::api::docker::volumes::{has_labels, truth};
use crate::api::error::ApiError;
use crate::api::query::{Parameters, check_filters};
use crate::api::wire::image as wire;
use crate::engine::{Engine, EngineError, Kind};

pub(super) async fn prune(
    State(engine): State<Arc<Engine>>,
    query: Parameters,
) -> Result<Response, ApiError> {
    let filters = query.filters()?;
    check_filters(&filters, &["dangling", "label", "label!", "until"])?;
    let word = |key: &str| filters.get(key).and_then(|values| values.first());
    let dangling = word("dangling").map_or(Ok(true), |word| truth(word))?;
    let before = word("until").map(|word| filter::until(word)).transpose()?;
    let pruned = blocking(move || {
        let (mut removed, mut bytes) = (Vec::new(), 0);
        for image in engine.images()? {
            let created = seconds(image.config.created.as_deref());
            let fits = (!dangling || image.tags.is_empty())
                && before.is_none_or(|before| created < before)
                && has_labels(&image.config.config.labels, &filters);
            if !fits || !image.containers.is_empty() {
                continue;
            }
            match engine.prune_image(&image.id) {
                Ok(lines) => {
                    removed.extend(lines);
                    bytes += image.size;
                }
                // Somebody began to use it, or removed it.
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        engine.tell_prune("image", bytes);
        Ok::<_, EngineError>((removed, bytes))
    });
    let (removed, space_reclaimed) = pruned.await?;
    let removed: Vec<_> = removed.into_iter().map(deleted).collect();
    let images_deleted = Some(removed).filter(|removed| !removed.is_empty());
    Ok(answer::json(&wire::ImagesPruned { images_deleted, space_reclaimed }))
}
