//! Images in and out: `load`, `import`, `pull`, `save`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{blocking, failed, with_tag};
use crate::api::answer;
use crate::api::error::ApiError;
use crate::api::query::Parameters;
use crate::api::transfer::{BodyReader, Patience, written_by};
use crate::engine::images::{Format, ImportOptions, LoadedImage, Platform};
use crate::engine::{Engine, EngineError};

pub(super) async fn load(
    State(engine): State<Arc<Engine>>,
    request: Request,
) -> Result<Response, ApiError> {
    let archive = BodyReader::new(request.into_body(), Patience::Endless);
    let loaded = blocking(move || engine.load_images(archive)).await?;
    let lines: Vec<Value> =
        loaded.iter().flat_map(told).map(|line| json!({ "stream": format!("{line}\n") })).collect();
    Ok(answer::json_lines(futures_util::stream::iter(lines)))
}

/// The lines that clients look for.
fn told(image: &LoadedImage) -> Vec<String> {
    if image.references.is_empty() {
        return vec![format!("Loaded image ID: {}", image.id)];
    }
    image.references.iter().map(|name| format!("Loaded image: {name}")).collect()
}

/// Imports the body, or pulls.
pub(super) async fn create(
    State(engine): State<Arc<Engine>>,
    query: Parameters,
    request: Request,
) -> Result<Response, ApiError> {
    if let Some(image) = query.text("fromImage") {
        return pull(&engine, &with_tag(image, query.text("tag"))).await;
    }
    if query.text("fromSrc") != Some("-") {
        let message =
            "the source of an image is `-`, the request's body: fetch other sources first";
        return Err(ApiError::invalid(message));
    }
    let options = ImportOptions {
        changes: query.texts("changes").into_iter().map(str::to_owned).collect(),
        message: query.text("message").map(str::to_owned),
        created: Timestamp::now().to_string(),
        platform: query.text("platform").map(platform),
    };
    let reference = query.text("repo").map(|name| with_tag(name, query.text("tag")));
    let rootfs = BodyReader::new(request.into_body(), Patience::Endless);
    let id = blocking(move || engine.import_image(rootfs, &options, reference.as_deref())).await?;
    Ok(answer::json_lines(futures_util::stream::iter([json!({ "status": id })])))
}

async fn pull(engine: &Arc<Engine>, reference: &str) -> Result<Response, ApiError> {
    match engine.pull_image(reference).await {
        Ok(()) => {
            let line = json!({ "status": format!("Status: Image is up to date for {reference}") });
            Ok(answer::json_lines(futures_util::stream::iter([line])))
        }
        Err(error @ EngineError::NotImplemented { .. }) => Ok(failed(&error.full())),
        Err(error) => Err(error.into()),
    }
}

fn platform(text: &str) -> Platform {
    let mut parts = text.split('/').map(str::to_owned);
    Platform {
        os: parts.next().unwrap_or_default(),
        architecture: parts.next().unwrap_or_default(),
        variant: parts.next(),
    }
}

pub(super) async fn get_one(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    save(engine, vec![name])
}

pub(super) async fn get_many(
    State(engine): State<Arc<Engine>>,
    query: Parameters,
) -> Result<Response, ApiError> {
    let names = query.texts("names").into_iter().flat_map(|names| names.split(','));
    let names: Vec<String> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(ApiError::invalid("no image is named in the parameter names"));
    }
    save(engine, names)
}

fn save(engine: Arc<Engine>, names: Vec<String>) -> Result<Response, ApiError> {
    engine.check_saveable(&names)?;
    let body: Body = written_by(Patience::Endless, move |output| {
        engine.save_images(&names, output, Format::Docker)
    });
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/x-tar");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_is_told_as_clients_look_for_it() {
        let mut image = LoadedImage { id: "sha256:1".into(), references: Vec::new() };
        assert_eq!(told(&image), ["Loaded image ID: sha256:1"]);
        image.references = vec!["a:1".into(), "a:2".into()];
        assert_eq!(told(&image), ["Loaded image: a:1", "Loaded image: a:2"]);
    }
}
