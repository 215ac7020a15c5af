//! The cgroup of the processes that outlive us, shims and netd, where a cgroup was given to us: a service manager may
//! kill what is left in the engine's own.

use std::io;

use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::runtime::cgroup::Cgroup;

impl Engine {
    /// Makes the cgroup, where there is to be one.
    pub(crate) fn make_room_for_helpers(&self) -> Result<(), EngineError> {
        let Some(path) = self.paths.cgroup_of_helpers() else { return Ok(()) };
        let made = Cgroup::ensure(&self.machine.cgroups, &path);
        made.map(drop).map_err(|error| {
            let doing = format!("create the cgroup {path} for shims and netd");
            EngineError::io(doing)(io::Error::other(error))
        })
    }

    /// Returns the cgroup, where there is one.
    pub(crate) fn cgroup_of_helpers(&self) -> Option<Cgroup> {
        let path = self.paths.cgroup_of_helpers()?;
        Cgroup::open(&self.machine.cgroups, &path).ok()
    }

    /// Removes the cgroup; netd, the last in it, was told to end.
    pub(crate) fn leave_cgroup_of_helpers(&self) -> Result<(), EngineError> {
        let Some(cgroup) = self.cgroup_of_helpers() else { return Ok(()) };
        cgroup.remove().map_err(|error| {
            EngineError::io("leave the cgroup of shims and netd")(io::Error::other(error))
        })
    }
}
