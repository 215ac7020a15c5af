//! The requests of `/bargee/v1`, by what they are for.

use serde::Serialize;

use super::tell;
use crate::cli::client::{Client, ClientError, Json, Lines, Method, segment};
use crate::cli::error::CliError;
use crate::protocol::{
    ApplyRequest, DownRequest, PlanReport, RevisionContent, RevisionView, RollbackRequest,
    RunRequest, ServiceSelection, StackView,
};

/// Asks for one stack's change and returns the lines that tell of it.
async fn change<T: Serialize>(
    client: &Client,
    stack: &str,
    verb: &str,
    body: &T,
) -> Result<Lines, CliError> {
    let path = format!("/bargee/v1/stacks/{}/{verb}", segment(stack));
    client.lines(Method::POST, &path, &[], Some(json(body)?)).await.map_err(explained)
}

/// Adds what may be done about a refusal that users meet.
fn explained(error: ClientError) -> CliError {
    let hint = match &error {
        ClientError::Server { status: 409, message } if message.contains(" belongs to ") => {
            "--take-over makes it this file's stack; -p NAME brings up another one"
        }
        ClientError::Server { status: 404, message } if message.contains("no such stack") => {
            "`bargee up` brings it up; `bargee stack ls` lists what is there"
        }
        _ => return error.into(),
    };
    tell::refuse(&error.to_string(), Some(hint))
}

pub(crate) async fn apply(client: &Client, request: &ApplyRequest) -> Result<Lines, CliError> {
    change(client, request.submission.stack.name.as_str(), "apply", request).await
}

pub(crate) async fn run(
    client: &Client,
    stack: &str,
    request: &RunRequest,
) -> Result<Lines, CliError> {
    change(client, stack, "run", request).await
}

pub(crate) async fn plan(client: &Client, request: &ApplyRequest) -> Result<PlanReport, CliError> {
    let name = segment(request.submission.stack.name.as_str());
    let path = format!("/bargee/v1/stacks/{name}/plan");
    let answer = client.post(&path, &[], Some(json(request)?)).await.map_err(explained)?;
    Ok(answer.json()?)
}

/// `None`: there is no such stack, so it is down.
pub(crate) async fn down(
    client: &Client,
    stack: &str,
    request: &DownRequest,
) -> Result<Option<Lines>, CliError> {
    let path = format!("/bargee/v1/stacks/{}/down", segment(stack));
    match client.lines(Method::POST, &path, &[], Some(json(request)?)).await {
        Ok(lines) => Ok(Some(lines)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `verb` is `start`, `stop`, `restart`, `kill` or `rm`.
pub(crate) async fn services(
    client: &Client,
    stack: &str,
    verb: &str,
    selection: &ServiceSelection,
) -> Result<Lines, CliError> {
    change(client, stack, verb, selection).await
}

pub(crate) async fn view(client: &Client, stack: &str) -> Result<StackView, CliError> {
    let path = format!("/bargee/v1/stacks/{}", segment(stack));
    Ok(client.get(&path, &[]).await.map_err(explained)?.json()?)
}

pub(crate) async fn views(client: &Client) -> Result<Vec<StackView>, ClientError> {
    client.get("/bargee/v1/stacks", &[]).await?.json()
}

pub(crate) async fn revisions(client: &Client, stack: &str) -> Result<Vec<RevisionView>, CliError> {
    let path = format!("/bargee/v1/stacks/{}/revisions", segment(stack));
    Ok(client.get(&path, &[]).await.map_err(explained)?.json()?)
}

pub(crate) async fn revision(
    client: &Client,
    stack: &str,
    number: u32,
) -> Result<RevisionContent, CliError> {
    let path = format!("/bargee/v1/stacks/{}/revisions/{number}", segment(stack));
    Ok(client.get(&path, &[]).await.map_err(explained)?.json()?)
}

/// What leads from one revision to another.
pub(crate) async fn difference(
    client: &Client,
    stack: &str,
    from: u32,
    to: u32,
) -> Result<PlanReport, CliError> {
    let path = format!("/bargee/v1/stacks/{}/revisions/{from}/diff/{to}", segment(stack));
    Ok(client.get(&path, &[]).await.map_err(explained)?.json()?)
}

pub(crate) async fn rollback(
    client: &Client,
    stack: &str,
    request: &RollbackRequest,
) -> Result<Lines, CliError> {
    change(client, stack, "rollback", request).await
}

fn json(body: &impl Serialize) -> Result<Json, CliError> {
    Json::of(body)
        .map_err(|error| CliError::Failed(format!("cannot write the request as JSON: {error}")))
}
