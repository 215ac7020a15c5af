//! The `clone3` child: config.json applied step by step, in one visible order, then `execve`.

mod cgroup_files;
pub(crate) mod handshake;
mod identity;
pub(crate) mod pid1;
pub(super) mod rootfs;
mod source;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};
use rustix::fs::{Mode, OFlags};

use super::bundle::ShimConfig;
use super::cgroup::{Birth, Cgroup};
use super::sys;
pub(crate) use identity::become_user_and_execute;

/// A step that failed, with the code that `docker run` exits with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("cannot {action}: {}", in_small_letters(source))]
    Step { action: String, source: io::Error },
    #[error("cannot join the cgroup: {0}")]
    Cgroup(String),
    #[error("cannot {0}")]
    Restrict(String),
    #[error("this runtime has no {0}")]
    Unsupported(&'static str),
    #[error("exec: {program:?}: {}", in_small_letters(source))]
    Execute { program: String, source: io::Error },
    #[error("exec: {program:?}: executable file not found in $PATH")]
    NotFound { program: String },
}

impl InitError {
    /// Docker's exit codes: 127 not found, 126 not executable, 125 (128 here, as runc) for all else.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::Execute { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::Execute { .. } => 126,
            _ => 128,
        }
    }
}

/// Docker's command line tells what may not be executed by the words `permission denied`, in small letters.
fn in_small_letters(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// Names the step that an error belongs to.
pub(crate) trait During<T> {
    fn during(self, action: impl FnOnce() -> String) -> Result<T, InitError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, action: impl FnOnce() -> String) -> Result<T, InitError> {
        self.map_err(|source| InitError::Step { action: action(), source: source.into() })
    }
}

/// What the child needs, all read by the parent.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) process: &'a Process,
    pub(crate) shim: &'a ShimConfig,
    pub(crate) bundle: PathBuf,
    pub(crate) cgroup: &'a Cgroup,
    /// Whether `shim.files` are still to be written.
    pub(crate) first_start: bool,
    /// Where init's command line lies, when it stays as PID 1.
    pub(crate) stays: Option<pid1::CommandLine>,
    pub(crate) namespaces: Namespaces,
}

/// The namespaces of a config, sorted by what is done about them.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// `CLONE_NEW*` given to clone3.
    pub(crate) cloned: i32,
    /// Made by the child once it stands in its cgroup.
    pub(crate) cgroup: bool,
    /// Whether the mount namespace is our own, so that mounts may be made.
    pub(crate) mount: bool,
    pub(crate) joined: Vec<(CloneFlags, OwnedFd)>,
    /// A pid namespace to be born in; setns(2) works for children only.
    pub(crate) pid: Option<OwnedFd>,
}

impl Namespaces {
    /// Opens the ones that are given by path.
    pub(crate) fn open(spec: &Spec) -> Result<Self, InitError> {
        let mut all = Self::default();
        let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        for namespace in listed.into_iter().flatten() {
            let Some(flag) = flag(namespace.typ()) else {
                return Err(InitError::Unsupported("user or time namespaces"));
            };
            match namespace.path() {
                Some(path) => all.join(flag, path)?,
                None if flag == CloneFlags::CLONE_NEWCGROUP => all.cgroup = true,
                None => all.cloned |= flag.bits(),
            }
        }
        all.mount = all.cloned & libc::CLONE_NEWNS != 0;
        Ok(all)
    }

    fn join(&mut self, flag: CloneFlags, path: &Path) -> Result<(), InitError> {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .during(|| format!("open the namespace {}", path.display()))?;
        if flag == CloneFlags::CLONE_NEWPID {
            self.pid = Some(fd);
        } else {
            self.joined.push((flag, fd));
        }
        Ok(())
    }
}

fn flag(kind: LinuxNamespaceType) -> Option<CloneFlags> {
    match kind {
        LinuxNamespaceType::Mount => Some(CloneFlags::CLONE_NEWNS),
        LinuxNamespaceType::Cgroup => Some(CloneFlags::CLONE_NEWCGROUP),
        LinuxNamespaceType::Uts => Some(CloneFlags::CLONE_NEWUTS),
        LinuxNamespaceType::Ipc => Some(CloneFlags::CLONE_NEWIPC),
        LinuxNamespaceType::Pid => Some(CloneFlags::CLONE_NEWPID),
        LinuxNamespaceType::Network => Some(CloneFlags::CLONE_NEWNET),
        LinuxNamespaceType::User | LinuxNamespaceType::Time => None,
    }
}

/// Clones into the pid namespace `pid`, or as `namespaces` says, and into the cgroup as `birth` says.
///
/// Our own namespace for children is restored after it, so that later children are not born there.
pub(crate) fn clone_into(
    pid: Option<BorrowedFd<'_>>,
    namespaces: i32,
    cgroup: &Cgroup,
    birth: Birth,
) -> io::Result<sys::Side> {
    let cgroup = cgroup.v2_dir().filter(|_| birth == Birth::Inside);
    let cgroup = cgroup.map(fs::File::open).transpose()?;
    let cgroup = cgroup.as_ref().map(AsFd::as_fd);
    let Some(pid) = pid else {
        return sys::clone3(namespaces, cgroup);
    };
    let own = fs::File::open("/proc/self/ns/pid")?;
    setns(pid, CloneFlags::CLONE_NEWPID)?;
    let side = sys::clone3(namespaces, cgroup);
    if !matches!(side, Ok(sys::Side::Child)) {
        setns(&own, CloneFlags::CLONE_NEWPID)?;
    }
    side
}

/// The child's whole life before the program; returns only what went wrong.
pub(crate) fn run(
    plan: &Plan<'_>,
    birth: Birth,
    streams: handshake::Streams,
    parent: BorrowedFd<'_>,
) -> Result<std::convert::Infallible, InitError> {
    hide_from_container()?;
    sys::reset_signals().during(|| "reset signals".into())?;
    nix::unistd::setsid().during(|| "start a session".into())?;
    adjust_oom_score(plan.process)?;
    join_cgroup(plan.cgroup, birth)?;
    join_namespaces(&plan.namespaces)?;
    let root = prepare_rootfs(plan)?;
    set_hostname(plan.spec)?;
    if let Some(root) = &root {
        write_sysctls(plan.spec, root.as_fd())?;
        rootfs::restrict(plan.spec, root.as_fd())?;
        rootfs::enter(root.as_fd())?;
    }
    streams.connect(plan.process, parent, root.is_some())?;
    if let Some(root) = &root {
        rootfs::seal(plan.spec, root.as_fd())?;
    }
    drop(root);
    if let Some(command_line) = &plan.stays {
        pid1::split(std::io::stdin().as_fd(), command_line, plan.process)?;
    }
    become_user_and_execute(plan.process, seccomp_of(plan.spec), parent)
}

/// Keeps processes inside from opening our `/proc/PID/exe` and descriptors until `execve`, which ends it
/// (CVE-2019-5736, CVE-2016-9962).
pub(crate) fn hide_from_container() -> Result<(), InitError> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .during(|| "become undumpable".into())
}

fn seccomp_of(spec: &Spec) -> Option<&oci_spec::runtime::LinuxSeccomp> {
    spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref())
}

/// The score that is asked for, or the kernel's default: the shim's own must not be inherited.
pub(crate) fn adjust_oom_score(process: &Process) -> Result<(), InitError> {
    let score = process.oom_score_adj().unwrap_or(0);
    match fs::write("/proc/self/oom_score_adj", score.to_string()) {
        // Below our own limit only CAP_SYS_RESOURCE may go, proc(5); a nested host may lack it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result.during(|| "write /proc/self/oom_score_adj".into()),
    }
}

pub(crate) fn join_cgroup(cgroup: &Cgroup, birth: Birth) -> Result<(), InitError> {
    cgroup.join(birth).map_err(|error| InitError::Cgroup(error.to_string()))
}

fn join_namespaces(namespaces: &Namespaces) -> Result<(), InitError> {
    for (flag, fd) in &namespaces.joined {
        setns(fd, *flag).during(|| format!("join a namespace ({flag:?})"))?;
    }
    if namespaces.cgroup {
        // After joining the cgroup: the namespace's root is where we stand, cgroup_namespaces(7).
        unshare(CloneFlags::CLONE_NEWCGROUP).during(|| "unshare the cgroup namespace".into())?;
    }
    Ok(())
}

fn prepare_rootfs(plan: &Plan<'_>) -> Result<Option<OwnedFd>, InitError> {
    if !plan.namespaces.mount {
        return Ok(None);
    }
    let shared = rootfs::clone_shared(plan.spec, &plan.shim.sources)?;
    let root = rootfs::mount(plan.spec, &plan.shim.rootfs, &plan.bundle.join("rootfs"))?;
    rootfs::populate(plan.spec, &plan.shim.sources, shared, root.as_fd())?;
    if plan.first_start {
        for file in &plan.shim.files {
            rootfs::write_file(root.as_fd(), file)?;
        }
    }
    Ok(Some(root))
}

fn set_hostname(spec: &Spec) -> Result<(), InitError> {
    if let Some(name) = spec.hostname() {
        rustix::system::sethostname(name.as_bytes())
            .during(|| format!("set the host name {name}"))?;
    }
    if let Some(name) = spec.domainname() {
        rustix::system::setdomainname(name.as_bytes())
            .during(|| format!("set the domain name {name}"))?;
    }
    Ok(())
}

fn write_sysctls(spec: &Spec, root: BorrowedFd<'_>) -> Result<(), InitError> {
    let sysctls = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    let mut sysctls: Vec<_> = sysctls.into_iter().flatten().collect();
    sysctls.sort();
    for (name, value) in sysctls {
        let path = format!("proc/sys/{}", name.replace('.', "/"));
        let file = rootfs::open_inside(root, Path::new(&path), OFlags::WRONLY)
            .during(|| format!("open the sysctl {name}"))?;
        rustix::io::write(&file, value.as_bytes())
            .during(|| format!("set the sysctl {name}={value}"))?;
    }
    Ok(())
}
