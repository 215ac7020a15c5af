//! `system check`: what the records want against what the kernel and the disk have.
//!
//! Both sides are sets of [`things::Thing`]s: `wanted` reads the rows and what the engine holds, `found` looks at the
//! machine, `report` takes the difference. `collect` removes at an engine's start what belongs to nothing.

mod collect;
mod found;
mod report;
mod things;
mod wanted;
