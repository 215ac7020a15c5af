//! A plan as the command line prints it.

use serde::{Deserialize, Serialize};

use super::stacks::ApplyRequest;

/// What would change. `text` is the form that people read; the rest is for `--json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    pub stack: String,
    pub steps: Vec<PlanStep>,
    /// What must be mended before any step may run.
    pub problems: Vec<String>,
    pub warnings: Vec<String>,
    /// A line for each step with those that it follows; empty unless [`super::ApplyOptions::detail`] asked for it.
    pub text: String,
    /// Of all steps, whole: the same plan on a machine that has not changed. With [`super::ApplyOptions::with_digest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// A plan that is kept, to be carried out later exactly as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanFile {
    /// Of this form; another number is another form.
    pub bargee_plan: u32,
    pub digest: String,
    pub request: ApplyRequest,
    pub report: PlanReport,
}

impl PlanFile {
    pub const VERSION: u32 = 1;
}

/// One step. Numbers start at 1 and are those of the progress lines.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanStep {
    pub number: usize,
    /// Steps that come before it.
    pub after: Vec<usize>,
    pub service: Option<String>,
    /// Whom it is done to: `web.1`, `network shop_default`.
    pub subject: String,
    /// `create`, `start`, `wait until healthy`, …
    pub action: String,
    /// Why, in words: `image changed: … → …`.
    pub cause: String,
    /// The cause as data, and the step when [`super::ApplyOptions::detail`] asked for it; their shape may grow.
    pub detail: serde_json::Value,
}
