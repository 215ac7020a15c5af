//! Deciding what to change: pure planning over plain data, and the loop that obeys the plan.

pub mod desired;
pub mod host;
pub mod observed;
