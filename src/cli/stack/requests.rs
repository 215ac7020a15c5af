//! The requests of `/bargee/v1`, by what they are for.

use serde::Serialize;
use serde_json::Value;

use crate::cli::client::{Client, ClientError, Lines, Method, segment};
use crate::cli::error::CliError;
use crate::protocol::{ApplyRequest, DownRequest, PlanReport, ServiceSelection, StackView};

/// Asks for one stack's change and returns the lines that tell of it.
async fn change<T: Serialize>(
    client: &Client,
    stack: &str,
    verb: &str,
    body: &T,
) -> Result<Lines, CliError> {
    let path = format!("/bargee/v1/stacks/{}/{verb}", segment(stack));
    Ok(client.lines(Method::POST, &path, &[], Some(&json(body)?)).await?)
}

pub(crate) async fn apply(client: &Client, request: &ApplyRequest) -> Result<Lines, CliError> {
    change(client, request.submission.stack.name.as_str(), "apply", request).await
}

pub(crate) async fn plan(client: &Client, request: &ApplyRequest) -> Result<PlanReport, CliError> {
    let name = segment(request.submission.stack.name.as_str());
    let path = format!("/bargee/v1/stacks/{name}/plan");
    Ok(client.post(&path, &[], Some(&json(request)?)).await?.json()?)
}

pub(crate) async fn down(
    client: &Client,
    stack: &str,
    request: &DownRequest,
) -> Result<Lines, CliError> {
    change(client, stack, "down", request).await
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

pub(crate) async fn view(client: &Client, stack: &str) -> Result<StackView, ClientError> {
    client.get(&format!("/bargee/v1/stacks/{}", segment(stack)), &[]).await?.json()
}

pub(crate) async fn views(client: &Client) -> Result<Vec<StackView>, ClientError> {
    client.get("/bargee/v1/stacks", &[]).await?.json()
}

fn json<T: Serialize>(body: &T) -> Result<Value, CliError> {
    serde_json::to_value(body)
        .map_err(|error| CliError::Failed(format!("cannot write the request as JSON: {error}")))
}
