//! `/images`: docker's words on images.

mod archives;
mod filter;
mod prune;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::answer;
use crate::api::error::ApiError;
use crate::api::query::Parameters;
use crate::api::wire::image as wire;
use crate::engine::Engine;
use crate::engine::background;
use crate::engine::images::{ImageView, RemovedImage};

pub(super) fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/images/json", get(list))
        .route("/images/create", post(archives::create))
        .route("/images/load", post(archives::load))
        .route("/images/get", get(archives::get_many))
        .route("/images/prune", post(prune::prune))
        .route("/images/search", get(search))
        .route("/images/{name}", axum::routing::delete(remove))
        .route("/images/{name}/json", get(inspect))
        .route("/images/{name}/history", get(history))
        .route("/images/{name}/tag", post(tag))
        .route("/images/{name}/get", get(archives::get_one))
        .route("/images/{name}/push", post(push))
}

async fn list(State(engine): State<Arc<Engine>>, query: Parameters) -> Result<Response, ApiError> {
    let mut filters = query.filters()?;
    if let Some(pattern) = query.text("filter") {
        // Of clients before API 1.41.
        filters.entry("reference".to_owned()).or_default().push(pattern.to_owned());
    }
    let mut images = filter::wanted(&engine, engine.images()?, &filters)?;
    images.sort_by_key(|image| std::cmp::Reverse(seconds(image.config.created.as_deref())));
    let lines: Vec<_> = images.into_iter().map(summary).collect();
    Ok(answer::json(&lines))
}

async fn inspect(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let image = engine.image(&name)?;
    let tagged_at = engine.image_tagged_at(&image.id)?;
    Ok(answer::json(&inspected(image, tagged_at)))
}

async fn history(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let image = engine.image(&name)?;
    let mut sizes = engine.image_layer_sizes(&image.id)?.into_iter();
    let mut lines: Vec<wire::HistoryLine> = image
        .config
        .history
        .iter()
        .map(|step| wire::HistoryLine {
            id: "<missing>".to_owned(),
            created: seconds(step.created.as_deref()),
            created_by: step.created_by.clone().unwrap_or_default(),
            tags: None,
            size: if step.empty_layer { 0 } else { sizes.next().unwrap_or_default() },
            comment: step.comment.clone().unwrap_or_default(),
        })
        .collect();
    lines.reverse();
    if let Some(newest) = lines.first_mut() {
        newest.id = image.id;
        newest.tags = Some(image.tags).filter(|tags| !tags.is_empty());
    }
    Ok(answer::json(&lines))
}

async fn tag(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<StatusCode, ApiError> {
    let repository =
        query.text("repo").ok_or_else(|| ApiError::invalid("the parameter repo is missing"))?;
    engine.tag_image(&name, &with_tag(repository, query.text("tag")))?;
    Ok(StatusCode::CREATED)
}

async fn remove(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<Response, ApiError> {
    let force = query.flag("force");
    let removed = blocking(move || engine.remove_image(&name, force)).await?;
    Ok(answer::json(&removed.into_iter().map(deleted).collect::<Vec<_>>()))
}

async fn search() -> ApiError {
    ApiError::not_implemented("searching a registry is not offered by this version")
}

async fn push(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    engine.image(&name)?;
    Ok(failed("pushing to a registry is not offered by this version: use `bargee save`"))
}

/// Answers with the one line that ends a stream of progress.
fn failed(message: &str) -> Response {
    answer::json(&json!({ "errorDetail": { "message": message }, "error": message }))
}

/// Runs what waits for the disk off the server's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::engine::EngineError> + Send + 'static,
) -> Result<T, ApiError> {
    Ok(background::run(work).await??)
}

/// Joins what docker's clients send apart; a tag may be a digest.
fn with_tag(repository: &str, tag: Option<&str>) -> String {
    match tag {
        None => repository.to_owned(),
        Some(digest) if digest.contains(':') => format!("{repository}@{digest}"),
        Some(tag) => format!("{repository}:{tag}"),
    }
}

fn deleted(removed: RemovedImage) -> wire::ImageDeleted {
    match removed {
        RemovedImage::Untagged(name) => wire::ImageDeleted::Untagged(name),
        RemovedImage::Deleted(id) => wire::ImageDeleted::Deleted(id),
    }
}

fn summary(image: ImageView) -> wire::ImageSummary {
    wire::ImageSummary {
        created: seconds(image.config.created.as_deref()),
        labels: image.config.config.labels,
        id: image.id,
        parent_id: "",
        repo_tags: image.tags,
        repo_digests: image.digests,
        size: image.size,
        virtual_size: image.size,
        shared_size: -1,
        containers: i64::try_from(image.containers.len()).unwrap_or(-1),
    }
}

fn inspected(image: ImageView, tagged_at: Option<i64>) -> wire::ImageInspect {
    let ImageView { id, tags, digests, size, config, .. } = image;
    let comment = config.history.last().and_then(|step| step.comment.clone());
    wire::ImageInspect {
        id,
        repo_tags: tags,
        repo_digests: digests,
        parent: "",
        comment: comment.unwrap_or_default(),
        created: config.created.clone().unwrap_or_else(|| "0001-01-01T00:00:00Z".to_owned()),
        docker_version: "",
        author: config.author.clone().unwrap_or_default(),
        config: run_config(&config.config),
        architecture: config.architecture,
        variant: config.variant,
        os: config.os,
        size,
        virtual_size: size,
        graph_driver: wire::GraphDriver { data: None, name: "overlay2" },
        root_fs: wire::RootFs {
            kind: "layers",
            layers: config.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
        },
        metadata: wire::Metadata {
            last_tag_time: tagged_at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), date),
        },
    }
}

/// Fields that an image leaves out are there as null, as clients index them.
fn run_config(config: &crate::engine::images::RunConfig) -> Value {
    let mut value = serde_json::to_value(config).expect("an image config is always JSON");
    if let Some(fields) = value.as_object_mut() {
        for key in ["Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes"] {
            fields.entry(key).or_insert(Value::Null);
        }
        for key in ["User", "WorkingDir"] {
            fields.entry(key).or_insert(json!(""));
        }
    }
    value
}

/// Writes Unix nanoseconds as docker writes dates.
pub(super) fn date(at: i64) -> String {
    Timestamp::from_nanosecond(i128::from(at)).unwrap_or_default().to_string()
}

/// Returns Unix seconds of a date; zero when there is none.
fn seconds(date: Option<&str>) -> i64 {
    date.and_then(|date| date.parse::<Timestamp>().ok()).map_or(0, Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_comes_in_two_parts() {
        assert_eq!(with_tag("nginx", None), "nginx");
        assert_eq!(with_tag("nginx", Some("1")), "nginx:1");
        assert_eq!(with_tag("nginx", Some("sha256:abc")), "nginx@sha256:abc");
    }

    #[test]
    fn dates_are_read_and_written() {
        assert_eq!(date(1_500_000_000), "1970-01-01T00:00:01.5Z");
        assert_eq!(seconds(Some("1970-01-01T00:00:09Z")), 9);
        assert_eq!(seconds(Some("no date")), 0);
    }

    #[test]
    fn an_inspected_config_has_all_fields() {
        let value = run_config(&crate::engine::images::RunConfig::default());
        assert_eq!((&value["Cmd"], &value["User"]), (&Value::Null, &json!("")));
    }
}
