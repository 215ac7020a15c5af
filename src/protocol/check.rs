//! `GET /bargee/v1/check`: how what is there differs from what is known.

use serde::{Deserialize, Serialize};

/// What a check found. Nothing found and nothing under way is a machine as the records say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// What was under way, such as `stack shop`: what belongs to it is no finding.
    pub busy: Vec<String>,
    pub findings: Vec<Finding>,
}

/// One difference that stayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub fault: Fault,
    /// `mount`, `link`, `namespace`, `cgroup`, `rule`, `process`, `folder`, `port`, …
    pub kind: String,
    /// Which one, and where it is.
    pub what: String,
    /// What may be done about it.
    pub advice: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// It is there and belongs to nothing.
    Leak,
    /// The records want it, and it is not there.
    Missing,
}
