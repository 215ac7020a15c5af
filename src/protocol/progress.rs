//! The lines of a stream that carries a change out.

use serde::{Deserialize, Serialize};

use super::plan::PlanReport;

/// One JSON line. A stream ends with `finished`; one that ends without it was cut off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Progress {
    /// What is going to be done; a lost race makes a new plan, whose numbers then count.
    Planned {
        plan: Box<PlanReport>,
    },
    Started {
        number: usize,
    },
    Done {
        number: usize,
        milliseconds: u64,
    },
    Failed {
        number: usize,
        message: String,
        hint: Option<String>,
    },
    /// Step `because` failed or was cancelled itself.
    Cancelled {
        number: usize,
        because: usize,
    },
    /// `--wait`: what is not ready yet, when that changes.
    Waiting {
        services: Vec<String>,
    },
    /// What is decided on the way: an update is paused, or the last good revision comes back.
    Remark {
        message: String,
    },
    Finished {
        ok: bool,
        message: Option<String>,
        hint: Option<String>,
    },
}
