//! `/networks`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;

use crate::api::answer;
use crate::api::body::JsonBody;
use crate::api::error::ApiError;
use crate::api::query::{Filters, Parameters, check_filters};
use crate::api::wire::create::endpoint;
use crate::api::wire::lenient::Object;
use crate::api::wire::network::{self, NetworkJson};
use crate::engine::Engine;
use crate::engine::networks::PREDEFINED;
use crate::engine::state::networks::Network;

pub(crate) fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/networks", get(list))
        .route("/networks/create", post(create))
        .route("/networks/prune", post(prune))
        .route("/networks/{id}", get(inspect).delete(remove))
        .route("/networks/{id}/connect", post(connect))
        .route("/networks/{id}/disconnect", post(disconnect))
}

const LIST_FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];
const PRUNE_FILTERS: [&str; 3] = ["label", "label!", "until"];

async fn list(State(engine): State<Arc<Engine>>, query: Parameters) -> Result<Response, ApiError> {
    let filters = query.filters()?;
    check_filters(&filters, &LIST_FILTERS)?;
    let networks = engine.networks()?;
    let shown: Vec<NetworkJson> = networks
        .iter()
        .filter(|row| is_listed(&engine, row, &filters))
        .map(|row| view(&engine, row))
        .collect();
    Ok(answer::json(&shown))
}

fn is_listed(engine: &Engine, row: &Network, filters: &Filters) -> bool {
    let is_predefined = PREDEFINED.contains(&row.name.as_str());
    let driver = row.spec.driver.as_deref().unwrap_or_default();
    filters.iter().all(|(key, values)| {
        values.is_empty()
            || values.iter().any(|value| match key.as_str() {
                "name" => is_like(&row.name, value),
                "id" => is_like(&row.id, value),
                "driver" => driver == value,
                "scope" => value == "local",
                "type" => (value == "builtin") == is_predefined,
                "dangling" => {
                    let wanted = !matches!(value.as_str(), "0" | "false");
                    (!is_predefined && engine.network_members(row).is_empty()) == wanted
                }
                _ => has_label(row, value),
            })
    })
}

/// Docker takes a filter as a regular expression, and as plain text when it is none.
fn is_like(text: &str, wanted: &str) -> bool {
    text.contains(wanted) || regex::Regex::new(wanted).is_ok_and(|regex| regex.is_match(text))
}

fn has_label(row: &Network, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => row.spec.labels.get(key).is_some_and(|text| text == value),
        None => row.spec.labels.contains_key(wanted),
    }
}

fn view(engine: &Engine, row: &Network) -> NetworkJson {
    network::network(row, &engine.bridge_name(row), &engine.network_members(row))
}

async fn inspect(
    State(engine): State<Arc<Engine>>,
    Path(word): Path<String>,
    query: Parameters,
) -> Result<Response, ApiError> {
    if query.text("scope").is_some_and(|scope| scope != "local") {
        return Err(ApiError::not_found(format!("network {word} not found")));
    }
    Ok(answer::json(&view(&engine, &engine.network(&word)?)))
}

async fn create(
    State(engine): State<Arc<Engine>>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let (request, unread) = network::create(&body)?;
    let warning = match unread.is_empty() {
        true => String::new(),
        false => format!("not supported and ignored: {}", unread.join(", ")),
    };
    let row = engine.create_network(request).await?;
    let created = json!({ "Id": row.id, "Warning": warning });
    Ok(answer::json_with(StatusCode::CREATED, &created))
}

async fn remove(
    State(engine): State<Arc<Engine>>,
    Path(word): Path<String>,
) -> Result<Response, ApiError> {
    engine.remove_network(&word).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn connect(
    State(engine): State<Arc<Engine>>,
    Path(word): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let mut root = Object::open("", &body)?;
    let container = root.text("Container")?;
    let settings = root.value("EndpointConfig").cloned().unwrap_or_default();
    let endpoint = endpoint("EndpointConfig", &settings)?;
    engine.connect_network(&word, &container, endpoint).await?;
    Ok(StatusCode::OK.into_response())
}

async fn disconnect(
    State(engine): State<Arc<Engine>>,
    Path(word): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let mut root = Object::open("", &body)?;
    engine.disconnect_network(&word, &root.text("Container")?, root.flag("Force")?).await?;
    Ok(StatusCode::OK.into_response())
}

async fn prune(State(engine): State<Arc<Engine>>, query: Parameters) -> Result<Response, ApiError> {
    let filters = query.filters()?;
    check_filters(&filters, &PRUNE_FILTERS)?;
    let values = |key: &str| filters.get(key).cloned().unwrap_or_default();
    let until = values("until").iter().map(|text| moment(text)).collect::<Result<Vec<_>, _>>()?;
    let (wanted, unwanted) = (values("label"), values("label!"));
    let removed = engine
        .prune_networks(|row| {
            wanted.iter().all(|label| has_label(row, label))
                && !unwanted.iter().any(|label| has_label(row, label))
                && until.iter().all(|moment| row.created_at < *moment)
        })
        .await?;
    Ok(answer::json(&json!({ "NetworksDeleted": removed })))
}

/// Reads a Unix time, a timestamp, or a span back from now such as `24h`, as Unix nanoseconds.
fn moment(text: &str) -> Result<i64, ApiError> {
    let wrong = || ApiError::invalid(format!("invalid filter 'until={text}'"));
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds.checked_mul(1_000_000_000).ok_or_else(wrong);
    }
    let time = match text.parse::<jiff::Timestamp>() {
        Ok(time) => time,
        Err(_) => {
            let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
            jiff::Timestamp::now().checked_sub(span).map_err(|_| wrong())?
        }
    };
    i64::try_from(time.as_nanosecond()).map_err(|_| wrong())
}
