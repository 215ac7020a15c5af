//! Control groups of one container: version 1, version 2 and both side by side (hybrid).
//!
//! The folder where the hierarchies are mounted is a parameter ([`Roots::detect`]). Nobody moves another
//! process: a child is cloned into version 2 and joins the rest by itself ([`Cgroup::join`]).
//!
//! `cgroups-rs` is not used: it takes its roots from `/proc/self/mountinfo` only, so no test could hand it a
//! folder, it hides which file a write failed on, and it puts memory and swap limits in the wrong order when
//! a limit is raised. The files are written here directly.

mod device_program;
mod error;
mod events;
mod files;
mod group;
mod limits;
mod roots;
mod stats;
mod sys;
mod v1;
mod v2;

pub use error::{CgroupError, Unenforced};
pub use group::{Birth, Cgroup, Doors, children};
pub use limits::is_limit_file;
pub use roots::Roots;
pub use stats::Stats;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;
