//! `system check`: what the records want against what the kernel and the disk have.
//!
//! Both sides are sets of [`things::Thing`]s: `wanted` reads the rows and what the engine holds, `found` looks at the
//! machine, `report` takes the difference. `collect` removes what belongs to nothing, at an engine's start
//! and after a teardown that failed.

mod collect;
mod found;
mod report;
mod things;
mod wanted;

pub(crate) use collect::Leaks;
