//! `GET /system/df`: what images, containers and volumes take on the disk.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::api::answer;
use crate::api::docker::containers;
use crate::api::error::ApiError;
use crate::api::query::Parameters;
use crate::api::wire::time;
use crate::engine::images::LayerUsage;
use crate::engine::{Engine, counters};

/// `type=image&type=container&type=volume` asks for some of them only.
pub(super) async fn usage(
    State(engine): State<Arc<Engine>>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let types = parameters.texts("type");
    let wanted = |word: &str| types.is_empty() || types.contains(&word);
    tokio::task::block_in_place(|| {
        let layers = if wanted("image") { engine.layer_usage()? } else { LayerUsage::default() };
        let images = if wanted("image") { images(&engine, &layers)? } else { Vec::new() };
        let mut answer = json!({ "LayersSize": layers.total, "Images": images });
        answer["Containers"] =
            if wanted("container") { json!(containers::list_all(&engine)?) } else { json!([]) };
        answer["Volumes"] = if wanted("volume") { json!(volumes(&engine)?) } else { json!([]) };
        answer["BuildCache"] = json!([]);
        answer["BuilderSize"] = json!(0);
        Ok(answer::json(&answer))
    })
}

fn images(engine: &Arc<Engine>, layers: &LayerUsage) -> Result<Vec<Value>, ApiError> {
    let images = engine.images()?;
    Ok(images
        .into_iter()
        .map(|image| {
            let created = image.config.created.as_deref();
            let created = created.and_then(|text| text.parse::<jiff::Timestamp>().ok());
            json!({
                "Id": image.id,
                "ParentId": "",
                "RepoTags": image.tags,
                "RepoDigests": image.digests,
                "Created": created.map_or(0, jiff::Timestamp::as_second),
                "Size": image.size,
                "VirtualSize": image.size,
                "SharedSize": layers.shared.get(&image.id).copied().unwrap_or(0),
                "Labels": image.config.config.labels,
                "Containers": image.containers.len(),
            })
        })
        .collect())
}

fn volumes(engine: &Arc<Engine>) -> Result<Vec<Value>, ApiError> {
    let volumes = engine.volumes()?;
    Ok(volumes
        .into_iter()
        .map(|volume| {
            let data = engine.paths().volume_data(&volume.name);
            json!({
                "CreatedAt": time::rfc3339(Some(volume.created_at)),
                "Driver": "local",
                "Labels": volume.labels,
                "Mountpoint": data,
                "Name": volume.name,
                "Options": volume.options,
                "Scope": "local",
                "UsageData": {
                    "RefCount": engine.volume_users(&volume.name).len(),
                    "Size": counters::folder_size(&data),
                },
            })
        })
        .collect())
}
