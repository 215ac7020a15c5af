//! Another process in a running container: born in init's pid namespace, joins the other namespaces by
//! init's pidfd (setns(2) takes one since Linux 5.8), then executes as init did.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{LinuxSeccomp, Process};
use rustix::fs::{Mode, OFlags};

use super::cgroup::{Birth, Cgroup};
use super::init::handshake::Streams;
use super::init::{self, During, InitError};
use super::sys;

/// What an exec needs beside its streams.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) process: &'a Process,
    pub(crate) seccomp: Option<&'a LinuxSeccomp>,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) init: BorrowedFd<'a>,
}

/// The namespaces that an exec joins; those that init shares with us are joined in vain, which is harmless.
const JOINED: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWCGROUP);

/// Opens init's pid namespace while init lives.
pub(crate) fn pid_namespace(init: i32) -> Result<OwnedFd, InitError> {
    let path = format!("/proc/{init}/ns/pid");
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .during(|| format!("open {path}"))
}

/// The child's part.
pub(crate) fn run(
    plan: &Plan<'_>,
    birth: Birth,
    streams: Streams,
    parent: BorrowedFd<'_>,
) -> Result<Infallible, InitError> {
    init::hide_from_container()?;
    sys::reset_signals().during(|| "reset signals".into())?;
    nix::unistd::setsid().during(|| "start a session".into())?;
    init::adjust_oom_score(plan.process)?;
    init::join_cgroup(plan.cgroup, birth)?;
    setns(plan.init.as_fd(), JOINED).during(|| "join the container's namespaces".into())?;
    streams.connect(plan.process, parent, false)?;
    init::become_user_and_execute(plan.process, plan.seccomp, parent)
}
