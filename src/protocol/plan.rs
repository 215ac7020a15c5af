//! A plan as the command line prints it.

use serde::{Deserialize, Serialize};

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
