//! `/volumes`: docker's words on volumes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};

use crate::api::answer;
use crate::api::body::JsonBody;
use crate::api::error::ApiError;
use crate::api::query::{Filters, Parameters, check_filters};
use crate::api::route::ApiVersion;
use crate::api::wire::lenient::Object;
use crate::api::wire::volume as wire;
use crate::engine::Engine;
use crate::engine::state::volumes::Volume;
use crate::engine::volumes::CreateVolume;

/// Since this version a prune without a word leaves named volumes alone.
const ANONYMOUS_ONLY_SINCE: ApiVersion = ApiVersion::new(1, 42);

pub(super) fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/volumes", get(list))
        .route("/volumes/create", post(create))
        .route("/volumes/prune", post(prune))
        .route("/volumes/{name}", get(inspect).delete(remove))
}

async fn list(State(engine): State<Arc<Engine>>, query: Parameters) -> Result<Response, ApiError> {
    let filters = query.filters()?;
    check_filters(&filters, &["dangling", "driver", "label", "name"])?;
    let dangling = match filters.get("dangling").and_then(|values| values.first()) {
        None => None,
        Some(word) => Some(truth(word)?),
    };
    let mut volumes = Vec::new();
    for volume in engine.volumes()? {
        let unused = || engine.volume_users(&volume.name).is_empty();
        if fits(&volume, &filters) && dangling.is_none_or(|wanted| wanted == unused()) {
            volumes.push(view(&engine, volume));
        }
    }
    Ok(answer::json(&wire::VolumeList { volumes, warnings: None }))
}

async fn create(
    State(engine): State<Arc<Engine>>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let mut body = Object::open("", &body)?;
    if body.value("ClusterVolumeSpec").is_some() {
        return Err(ApiError::not_implemented(
            "cluster volumes need a swarm, which is not offered",
        ));
    }
    let request = CreateVolume {
        name: Some(body.text("Name")?).filter(|name| !name.is_empty()),
        driver: body.text("Driver")?,
        options: body.text_map("DriverOpts")?,
        labels: body.text_map("Labels")?,
        stack: None,
    };
    let volume = engine.create_volume(request)?;
    Ok(answer::json_with(StatusCode::CREATED, &view(&engine, volume)))
}

async fn inspect(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let volume = engine.volume(&name)?;
    Ok(answer::json(&view(&engine, volume)))
}

async fn remove(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<StatusCode, ApiError> {
    engine.remove_volume(&name, query.flag("force")).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn prune(
    State(engine): State<Arc<Engine>>,
    version: ApiVersion,
    query: Parameters,
) -> Result<Response, ApiError> {
    let filters = query.filters()?;
    check_filters(&filters, &["all", "label", "label!"])?;
    let all = match filters.get("all").and_then(|values| values.first()) {
        Some(word) => truth(word)?,
        None => version < ANONYMOUS_ONLY_SINCE,
    };
    let (volumes_deleted, space_reclaimed) =
        engine.prune_volumes(|volume| (all || volume.anonymous) && fits(volume, &filters)).await?;
    engine.tell_prune("volume", space_reclaimed);
    Ok(answer::json(&wire::VolumesPruned { volumes_deleted, space_reclaimed }))
}

fn fits(volume: &Volume, filters: &Filters) -> bool {
    let any = |key: &str, test: &dyn Fn(&str) -> bool| {
        filters
            .get(key)
            .is_none_or(|values| values.is_empty() || values.iter().any(|value| test(value)))
    };
    any("name", &|value| volume.name.contains(value))
        && any("driver", &|value| volume.driver == value)
        && has_labels(&volume.labels, filters)
}

/// All labels that `label` names must be there, none of those that `label!` names.
pub(super) fn has_labels(labels: &BTreeMap<String, String>, filters: &Filters) -> bool {
    let has = |wanted: &String| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|text| text == value),
        None => labels.contains_key(wanted),
    };
    let words = |key: &str| filters.get(key).into_iter().flatten();
    words("label").all(has) && !words("label!").any(has)
}

/// Reads a filter that is true or false.
pub(super) fn truth(word: &str) -> Result<bool, ApiError> {
    match word {
        "1" | "true" | "True" | "TRUE" | "t" => Ok(true),
        "0" | "false" | "False" | "FALSE" | "f" => Ok(false),
        _ => Err(ApiError::invalid(format!("invalid filter: {word:?} is neither true nor false"))),
    }
}

fn view(engine: &Engine, volume: Volume) -> wire::Volume {
    let mountpoint = engine.paths().volume_data(&volume.name).to_string_lossy().into_owned();
    wire::Volume {
        created_at: super::images::date(volume.created_at),
        driver: volume.driver,
        labels: Some(volume.labels).filter(|labels| !labels.is_empty()),
        mountpoint,
        name: volume.name,
        options: Some(volume.options).filter(|options| !options.is_empty()),
        scope: "local",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::state::networks::Phase;

    fn volume(name: &str) -> Volume {
        Volume {
            name: name.into(),
            driver: "local".into(),
            options: BTreeMap::new(),
            labels: [("tier".to_owned(), "db".to_owned())].into(),
            stack: None,
            anonymous: false,
            phase: Phase::Ready,
            created_at: 0,
        }
    }

    fn filters(pairs: &[(&str, &str)]) -> Filters {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()])).collect()
    }

    #[test]
    fn filters_are_dockers() {
        for wanted in [("name", "at"), ("driver", "local"), ("label", "tier"), ("label", "tier=db")]
        {
            assert!(fits(&volume("data"), &filters(&[wanted])), "{wanted:?}");
        }
        for other in [("name", "x"), ("driver", "nfs"), ("label", "tier=web"), ("label!", "tier")] {
            assert!(!fits(&volume("data"), &filters(&[other])), "{other:?}");
        }
        assert!(truth("yes please").is_err());
    }
}
