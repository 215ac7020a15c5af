//! Deciding what to change: pure planning over plain data, and the loop that obeys the plan.

pub mod apply;
pub mod cause;
pub mod controller;
pub mod desired;
pub mod diff;
pub mod graph;
#[cfg(test)]
mod histories;
pub mod host;
pub mod observed;
pub mod plan;
pub mod resolve;
pub mod restart;
pub mod rollout;
mod settled;
#[cfg(test)]
pub mod simulate;
