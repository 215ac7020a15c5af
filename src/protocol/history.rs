//! The revisions of a stack, and the way back to one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::stacks::SourceText;

/// One of the list `GET /bargee/v1/stacks/{name}/revisions`, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RevisionView {
    pub number: u32,
    /// It is what is wanted now.
    pub current: bool,
    /// `good`: the machine was made so; `bad`: it could not be; `applying`: not known yet.
    pub outcome: String,
    /// Unix nanoseconds.
    pub created_at: i64,
    pub author: Option<String>,
    pub message: Option<String>,
    /// Of all that it holds.
    pub digest: String,
}

/// `GET /bargee/v1/stacks/{name}/revisions/{number}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RevisionContent {
    pub revision: RevisionView,
    /// The files, as they were.
    pub sources: Vec<SourceText>,
    /// Values of the variables that the files used.
    pub variables: BTreeMap<String, Option<String>>,
    /// Image references, and the ids that they meant.
    pub images: BTreeMap<String, String>,
}

/// `POST /bargee/v1/stacks/{name}/rollback`; answers progress lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RollbackRequest {
    /// `None`: the last good one before the current one.
    pub to: Option<u32>,
    /// Also when jobs ran since, whose work stays done.
    pub past_jobs: bool,
    pub author: Option<String>,
    pub message: Option<String>,
    /// Seconds of grace for containers that are replaced, over their own.
    pub timeout: Option<u64>,
    /// Answer only when every service runs and is healthy, or can't become so.
    pub wait: bool,
}
