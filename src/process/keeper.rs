//! The keeper of an engine that no service manager watches: binds the socket, starts the engine with it, and starts
//! it again when it crashes, so that clients queue instead of being refused. One that was killed is replaced by the
//! engine itself: see `keeper_watch`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::SigSet;
use nix::unistd::setsid;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::crashes::{CRASHES, Crashes};
use super::kept::{End, Kept};
use super::listen::{ListenError, OwnSocket};
use super::sys::{self, Fork};
use super::{Options, ProcessError, cgroup};
use crate::engine::config;
use crate::engine::lock::LockError;

/// Bytes of the log above which a new one is begun.
const MAX_LOG: u64 = 10 << 20;
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What an engine keeps of the environment it was started from.
const KEPT_VARIABLES: [&str; 5] =
    ["BARGEE_LOG", "RUST_BACKTRACE", "TZ", "HTTP_PROXY", "HTTPS_PROXY"];

/// Binds the socket and leaves a keeper behind. Returns in the caller's process once clients can connect, in the
/// keeper when the engine has ended.
pub(super) fn start(options: &Options) -> Result<(), ProcessError> {
    // A pipe of the caller that stayed open here would keep its reader waiting for ever.
    sys::close_inherited().map_err(ProcessError::io("close inherited files"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let config = config::load(&options.config, options.named())?;
    let program = std::env::current_exe().map_err(ProcessError::io("find our own binary"))?;
    let mut socket = match OwnSocket::bind(&options.paths, config.socket_group.as_deref()) {
        Ok(socket) => socket,
        // Somebody else was faster: there is an engine, which is what was asked for.
        Err(ListenError::Lock(LockError::Held { .. })) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match sys::fork().map_err(ProcessError::io("fork the keeper"))? {
        Fork::Parent => {
            // The socket is the child's now: neither removed nor unlocked by us.
            std::mem::forget(socket);
            Ok(())
        }
        Fork::Child => {
            let log = options.paths.run().join("engine.log");
            leave(&log, &program)?;
            socket.is_mine().map_err(ProcessError::io("sign the lock of the socket"))?;
            let options = at_home(options, &log);
            Keeper { options, program, socket, log }.keep(None)
        }
    }
}

/// Keeps the engine `engine`, our parent, whose first keeper was killed. Its socket is our standard input, and its last
/// word comes by our standard output. Returns when the last engine has ended.
pub(super) fn adopt(options: &Options, engine: i32) -> Result<(), ProcessError> {
    let program = std::env::current_exe().map_err(ProcessError::io("find our own binary"))?;
    let take = |fd: std::os::fd::BorrowedFd<'_>| {
        rustix::io::fcntl_dupfd_cloexec(fd, 3)
            .map_err(|errno| ProcessError::io("take what the engine passed on")(errno.into()))
    };
    let listener = take(rustix::stdio::stdin())?;
    let kept = Kept::parent(engine, take(rustix::stdio::stdout())?);
    let log = options.paths.run().join("engine.log");
    leave(&log, &program)?;
    let socket = OwnSocket::adopt(&options.paths, listener.into())?;
    let options = options.clone();
    Keeper { options, program, socket, log }.keep(Some(kept))
}

/// Sheds what the caller's session gave us.
fn leave(log: &Path, program: &Path) -> Result<(), ProcessError> {
    let errno =
        |doing: &'static str| move |errno: nix::Error| ProcessError::io(doing)(errno.into());
    setsid().map_err(errno("leave the session"))?;
    SigSet::empty().thread_set_mask().map_err(errno("unblock signals"))?;
    enter_host_mounts(program);
    std::env::set_current_dir("/").map_err(ProcessError::io("go to /"))?;
    // Whatever whoever started us has: the kernel takes containers first, whose scores are their own, and us before
    // their shims. It is dockerd's value, and that of our unit.
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-500") {
        tracing::debug!(%error, "the OOM score stays");
    }
    let log = open_log(log)?;
    let null = File::open("/dev/null").map_err(ProcessError::io("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&log))
        .and_then(|()| rustix::stdio::dup2_stderr(&log))
        .map_err(|errno| ProcessError::io("redirect the output to the log")(errno.into()))
}

/// Moves out of the login session, whose end would be ours. Not possible: stay.
fn at_home(options: &Options, log: &Path) -> Options {
    let mut options = options.clone();
    if !options.paths.home().is_empty() {
        return options;
    }
    match cgroup::leave_session(options.paths.id()) {
        Ok(None) => {}
        Ok(Some(scope)) => options.paths = options.paths.at_home(&scope),
        Err(error) => {
            say(log, &format!("this engine may end with the login session: {error}"));
        }
    }
    options
}

/// Joins PID 1's mounts, so that ours are not those of some short-lived namespace. Not possible: stay.
fn enter_host_mounts(program: &Path) {
    let own = std::fs::read_link("/proc/self/ns/mnt").ok();
    let host = std::fs::read_link("/proc/1/ns/mnt").ok();
    let same_program = same_file(
        program,
        &Path::new("/proc/1/root").join(program.strip_prefix("/").unwrap_or(program)),
    );
    if host.is_none() || own == host || !same_program {
        return;
    }
    let joined = File::open("/proc/1/ns/mnt")
        .and_then(|namespace| Ok(setns(namespace, CloneFlags::CLONE_NEWNS)?));
    if let Err(error) = joined {
        tracing::debug!(%error, "the engine stays in its own mount namespace");
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity =
        |path: &Path| std::fs::metadata(path).map(|facts| (facts.dev(), facts.ino())).ok();
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

fn open_log(path: &Path) -> Result<File, ProcessError> {
    let doing = format!("open the log {}", path.display());
    if std::fs::metadata(path).is_ok_and(|facts| facts.len() > MAX_LOG) {
        let mut old = path.as_os_str().to_owned();
        old.push(".1");
        std::fs::rename(path, PathBuf::from(old)).map_err(ProcessError::io(doing.clone()))?;
    }
    OpenOptions::new().create(true).append(true).open(path).map_err(ProcessError::io(doing))
}

/// What a keeper has.
#[derive(Debug)]
struct Keeper {
    options: Options,
    program: PathBuf,
    socket: OwnSocket,
    log: PathBuf,
}

impl Keeper {
    /// Starts the engine again and again, until it ends by itself or crashes too often. `first` runs already.
    fn keep(&self, first: Option<Kept>) -> Result<(), ProcessError> {
        let asked = asked().map_err(ProcessError::io("listen to signals"))?;
        let mut crashes = Crashes::default();
        // Its loops act no more: whatever crashed it may have been one of them.
        let mut cautious = self.options.after_crashes;
        let mut running = first;
        loop {
            let mut engine = match running.take() {
                Some(engine) => engine,
                None => self.start_engine(cautious)?,
            };
            let end = engine.wait(&asked).map_err(ProcessError::io("wait for the engine"))?;
            let End::Crash(how) = end else { return Ok(()) };
            say(&self.log, &format!("the engine ended with {how}"));
            if !crashes.are_too_many(SystemTime::now()) {
                continue;
            }
            if cautious {
                let error = ProcessError::Crashes { times: CRASHES, log: self.log.clone() };
                say(&self.log, &format!("{error}; giving up"));
                return Err(error);
            }
            say(
                &self.log,
                "it crashes again and again; the next one keeps no stack until the next `up`",
            );
            (cautious, crashes) = (true, Crashes::default());
        }
    }

    /// Executes by path, so that an upgraded binary takes effect.
    fn start_engine(&self, cautious: bool) -> Result<Kept, ProcessError> {
        let listener = self.socket.listener.as_fd().try_clone_to_owned();
        let listener = listener.map_err(ProcessError::io("copy the socket"))?;
        let mut command = Command::new(&self.program);
        command.args(self.options.of_engine(std::process::id()));
        if cautious {
            command.arg("--after-crashes");
        }
        command.env_clear().env("PATH", SEARCH_PATH).env("HOME", "/root");
        for name in KEPT_VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let child = command
            .stdin(Stdio::from(listener))
            .spawn()
            .map_err(ProcessError::io(format!("execute {}", self.program.display())))?;
        Kept::child(child).map_err(ProcessError::io("watch the engine"))
    }
}

/// Returns what has something to read whenever a signal asks us to end.
fn asked() -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// Writes a line to the log, which is our standard error too.
fn say(log: &Path, text: &str) {
    use std::io::Write as _;
    let line = format!("{:.3} keeper: {text}\n", jiff::Timestamp::now());
    let written = OpenOptions::new()
        .append(true)
        .open(log)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    // There is nobody else to tell.
    drop(written);
}
