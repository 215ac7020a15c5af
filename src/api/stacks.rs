//! `/bargee/v1`: our own words for stacks. Changes answer JSON lines that end with `finished`; errors are
//! `{"message": "…", "hint": "…"}`.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::mpsc;

use super::answer;
use super::body::TypedBody;
use super::error::ApiError;
use crate::engine::stacks::ServiceVerb;
use crate::engine::{Engine, EngineError};
use crate::protocol::{
    ApplyRequest, DownRequest, PlanReport, Progress, RevisionContent, RevisionView,
    RollbackRequest, RunRequest, ServiceSelection, StackView, Submission,
};

const LINES: &str = "application/x-ndjson";

pub(crate) fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/bargee/v1/stacks", get(list))
        .route("/bargee/v1/stacks/{name}", get(view))
        .route("/bargee/v1/stacks/{name}/plan", post(plan))
        .route("/bargee/v1/stacks/{name}/apply", post(apply))
        .route("/bargee/v1/stacks/{name}/down", post(down))
        .route("/bargee/v1/stacks/{name}/run", post(run))
        .route("/bargee/v1/stacks/{name}/rollback", post(rollback))
        .route("/bargee/v1/stacks/{name}/revisions", get(history))
        .route("/bargee/v1/stacks/{name}/revisions/{number}", get(revision))
        .route("/bargee/v1/stacks/{name}/revisions/{from}/diff/{to}", get(difference))
        .route("/bargee/v1/stacks/{name}/{verb}", post(services))
}

/// An error with what the user can do about it.
#[derive(Debug)]
struct Refusal {
    error: ApiError,
    hint: Option<String>,
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        let hint = error.hint();
        Self { error: error.into(), hint }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self { error, hint: None }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "message": self.error.message, "hint": self.hint });
        answer::json_with(self.error.status, &body)
    }
}

async fn list(State(engine): State<Arc<Engine>>) -> Result<Response, Refusal> {
    let views: Vec<StackView> = tokio::task::block_in_place(|| engine.stack_views())?;
    Ok(answer::json(&views))
}

async fn view(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let view: StackView = tokio::task::block_in_place(|| engine.stack_view(&name))?;
    Ok(answer::json(&view))
}

async fn plan(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
    TypedBody(request): TypedBody<ApplyRequest>,
) -> Result<Response, Refusal> {
    check_name(&name, &request.submission)?;
    let report: PlanReport = engine.plan_stack(request).await?;
    Ok(answer::json(&report))
}

async fn apply(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
    TypedBody(request): TypedBody<ApplyRequest>,
) -> Result<Response, Refusal> {
    check_name(&name, &request.submission)?;
    Ok(lines(engine.apply_stack(request).await?))
}

async fn down(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
    TypedBody(request): TypedBody<DownRequest>,
) -> Result<Response, Refusal> {
    Ok(lines(engine.down_stack(&name, request).await?))
}

async fn run(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
    TypedBody(request): TypedBody<RunRequest>,
) -> Result<Response, Refusal> {
    if let Some(submission) = &request.submission {
        check_name(&name, submission)?;
    }
    Ok(lines(engine.run_in_stack(&name, request).await?))
}

async fn rollback(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
    TypedBody(request): TypedBody<RollbackRequest>,
) -> Result<Response, Refusal> {
    Ok(lines(engine.rollback_stack(&name, request).await?))
}

async fn history(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let revisions: Vec<RevisionView> = tokio::task::block_in_place(|| engine.stack_history(&name))?;
    Ok(answer::json(&revisions))
}

async fn revision(
    State(engine): State<Arc<Engine>>,
    Path((name, number)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let number = revision_number(&number)?;
    let revision: RevisionContent =
        tokio::task::block_in_place(|| engine.stack_revision(&name, number))?;
    Ok(answer::json(&revision))
}

async fn difference(
    State(engine): State<Arc<Engine>>,
    Path((name, from, to)): Path<(String, String, String)>,
) -> Result<Response, Refusal> {
    let (from, to) = (revision_number(&from)?, revision_number(&to)?);
    let report: PlanReport =
        tokio::task::block_in_place(|| engine.stack_difference(&name, from, to))?;
    Ok(answer::json(&report))
}

fn revision_number(text: &str) -> Result<u32, ApiError> {
    text.parse().map_err(|_| ApiError::invalid(format!("{text:?} is no number of a revision")))
}

async fn services(
    State(engine): State<Arc<Engine>>,
    Path((name, verb)): Path<(String, String)>,
    TypedBody(selection): TypedBody<ServiceSelection>,
) -> Result<Response, Refusal> {
    let verb = match verb.as_str() {
        "start" => ServiceVerb::Start,
        "stop" => ServiceVerb::Stop,
        "restart" => ServiceVerb::Restart,
        "kill" => ServiceVerb::Kill,
        "rm" => ServiceVerb::Remove,
        _ => return Err(ApiError::not_found("page not found").into()),
    };
    Ok(lines(engine.stack_services(&name, verb, selection).await?))
}

/// The path says which stack, as access logs and proxies see it; the body must mean the same one.
fn check_name(name: &str, submission: &Submission) -> Result<(), ApiError> {
    let submitted = submission.stack.name.as_str();
    if submitted == name {
        return Ok(());
    }
    Err(ApiError::invalid(format!("the path names the stack {name}, the body {submitted}")))
}

/// Answers one line for each step of the way, as it comes.
fn lines(progress: mpsc::Receiver<Progress>) -> Response {
    let lines = answer::receiver(progress).map(|line| {
        let mut text = serde_json::to_vec(&line).expect("our own types have string keys");
        text.push(b'\n');
        Bytes::from(text)
    });
    answer::bytes(LINES, lines)
}
