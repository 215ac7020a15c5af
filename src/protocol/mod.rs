//! What command line and engine say to each other below `/bargee/v1`, besides the Docker Engine API.
//!
//! Plain data with stable JSON: requests, and the lines of the streams that answer them. Pure.

mod check;
mod history;
mod log_level;
mod plan;
mod progress;
mod run;
mod stacks;

pub use check::{CheckReport, Fault, Finding};
pub use history::{RevisionContent, RevisionView, RollbackRequest};
pub use log_level::{InvalidLogLevel, LogLevel};
pub use plan::{PlanFile, PlanReport, PlanStep};
pub use progress::Progress;
pub use run::{OneoffChange, RunRequest};
pub use stacks::{
    ApplyOptions, ApplyRequest, DownRequest, RecreatePolicy, ReplicaView, ServiceSelection,
    ServiceView, SourceText, StackView, Submission, Version,
};
