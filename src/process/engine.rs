//! The engine's own process: sockets, runtime, engine, API, and its end.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::crashes::Starts;
use super::keeper_watch::KeeperWatch;
use super::listen::{self, Bound, DockerLink, OwnSocket, Passed};
use super::{Options, ProcessError, logging, rebind, sd_notify, sys};
use crate::api::server::{self, Listener};
use crate::engine::Engine;
use crate::engine::config::{self, Config};

/// Tasks wait for the kernel or for other processes almost always.
const WORKERS: usize = 2;
/// Threads for blocking work; beyond them work queues.
const BLOCKING: usize = 128;
/// Bytes of a thread's stack.
const STACK: usize = 1 << 20;

/// Runs the engine until a signal or a client ends it. Containers go on.
pub(super) fn run(options: &Options) -> Result<(), ProcessError> {
    sys::use_few_arenas();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let config = config::load(&options.config, options.named())?;
    logging::start(options.log_level.as_ref().unwrap_or(&config.log_level))?;
    let (starts, crashed) = note_start(options)?;
    let config = Config { after_crashes: options.after_crashes || crashed, ..config };
    raise_open_files();
    // Bound before all else: clients queue while the engine looks at what runs.
    let sockets = Sockets::open(options, &config)?;
    let last_word = sockets.keeper.as_ref().map(KeeperWatch::last_word).unwrap_or_default();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .map_err(ProcessError::io("start the engine's threads"))?
        .block_on(serve(options, config, sockets))?;
    // A clean end.
    last_word.say();
    drop(starts);
    Ok(())
}

/// Counts the crashes of engines that a service manager restarts; a keeper counts those of its own.
fn note_start(options: &Options) -> Result<(Option<Starts>, bool), ProcessError> {
    if options.socket_on_stdin || std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok((None, false));
    }
    let path = options.paths.run().join("engine.starts");
    let noted = std::fs::create_dir_all(options.paths.run())
        .and_then(|()| Starts::note(path.clone(), SystemTime::now()));
    let (starts, crashed) =
        noted.map_err(ProcessError::io(format!("note this start in {}", path.display())))?;
    if crashed {
        tracing::error!("it crashes again and again; no stack is kept until its next `up`");
    }
    Ok((Some(starts), crashed))
}

/// The sockets, and what goes with them at the end.
struct Sockets {
    bound: Vec<Bound>,
    own: Option<OwnSocket>,
    /// Of an engine that has a keeper.
    keeper: Option<KeeperWatch>,
}

impl Sockets {
    fn open(options: &Options, config: &Config) -> Result<Self, ProcessError> {
        let group = config.socket_group.as_deref();
        let mut bound = listen::bind_configured(&config.listen, group)?;
        let mut keeper = None;
        let passed = if options.socket_on_stdin {
            let socket = socket_of_stdin()?;
            let copy = socket.try_clone().map_err(ProcessError::io("copy the socket"))?;
            keeper = Some(KeeperWatch::new(options, copy)?);
            vec![Passed { socket, name: "standard input".to_owned() }]
        } else {
            passed_sockets()
        };
        let own = if passed.is_empty() {
            let own = OwnSocket::bind(&options.paths, group)?;
            let copy = own.listener.try_clone();
            bound.push(Bound::Unix(copy.map_err(ProcessError::io("copy the socket"))?));
            Some(own)
        } else {
            bound.extend(listen::passed(passed)?);
            None
        };
        Ok(Self { bound, own, keeper })
    }
}

/// Takes the keeper's socket, and leaves standard input empty.
fn socket_of_stdin() -> Result<OwnedFd, ProcessError> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .map_err(|errno| ProcessError::io("take the socket of the keeper")(errno.into()))?;
    let null = File::open("/dev/null").map_err(ProcessError::io("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&null)
        .map_err(|errno| ProcessError::io("empty standard input")(errno.into()))?;
    Ok(socket)
}

/// Takes what systemd passed to this very process, each with its name: sd_listen_fds(3).
fn passed_sockets() -> Vec<Passed> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let ours = number("LISTEN_PID").map(i32::cast_unsigned) == Some(std::process::id());
    let Some(count) = number("LISTEN_FDS").filter(|&count| ours && count > 0) else {
        return Vec::new();
    };
    let sockets = sys::take_passed(count);
    if let Err(error) = sys::close_at_exec() {
        tracing::warn!(%error, "children inherit the sockets");
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    // The man page's word for one without a name.
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat("unknown".to_owned()));
    sockets.into_iter().zip(names).map(|(socket, name)| Passed { socket, name }).collect()
}

async fn serve(options: &Options, config: Config, sockets: Sockets) -> Result<(), ProcessError> {
    let shutdown = CancellationToken::new();
    // From here on the signals are ours; one that comes while the engine opens is served right after.
    let asked = Signals::listen()?;
    if let Some(keeper) = sockets.keeper {
        keeper.start(shutdown.clone());
    }
    let listeners = sockets
        .bound
        .into_iter()
        .map(into_listener)
        .collect::<Result<Vec<_>, _>>()
        .map_err(ProcessError::io("wait for connections"))?;
    let docker_socket = config.docker_socket;
    let group = config.socket_group.clone();
    let engine = Engine::open(options.paths.clone(), config).await?;
    let pid_file = PidFile::write(options.paths.pid_file());
    let link = if docker_socket { DockerLink::offer(&options.paths) } else { None };
    tracing::info!(root = %options.paths.root().display(), run = %options.paths.run().display(), "the engine serves");
    let socket = options.paths.socket();
    // A service manager's may lie elsewhere.
    if options.socket_on_stdin || sockets.own.is_some() || socket.exists() {
        rebind::watch(&engine, socket, group, shutdown.clone());
    }
    sd_notify::tell("READY=1");
    if let Some(often) = sd_notify::watchdog(|name| std::env::var_os(name)) {
        tokio::spawn(feed_watchdog(Arc::downgrade(&engine), often));
    }
    tokio::spawn(asked.cancel(shutdown.clone()));
    let stops = shutdown.clone();
    tokio::spawn(async move {
        stops.cancelled().await;
        sd_notify::tell("STOPPING=1");
    });
    server::serve(Arc::clone(&engine), listeners, shutdown).await;
    if let Err(error) = engine.leave_machine().await {
        tracing::warn!(%error, "networks of nothing stay until the next start");
    }
    tracing::info!("the engine ends; containers go on");
    drop((link, pid_file, sockets.own));
    Ok(())
}

/// Says that tasks run and that the database answers, as long as they do.
async fn feed_watchdog(engine: Weak<Engine>, often: Duration) {
    let mut clock = tokio::time::interval(often);
    loop {
        clock.tick().await;
        let Some(engine) = engine.upgrade() else { return };
        tokio::task::block_in_place(|| engine.wait_for_database());
        sd_notify::tell("WATCHDOG=1");
    }
}

fn into_listener(bound: Bound) -> std::io::Result<Listener> {
    match bound {
        Bound::Unix(socket) => {
            socket.set_nonblocking(true)?;
            tokio::net::UnixListener::from_std(socket).map(Listener::Unix)
        }
        Bound::Tcp(socket) => {
            socket.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(socket).map(Listener::Tcp)
        }
    }
}

/// The signals that end the engine.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, ProcessError> {
        let listen = |kind| signal(kind).map_err(ProcessError::io("listen to signals"));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn cancel(mut self, shutdown: CancellationToken) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        shutdown.cancel();
    }
}

/// Tells scripts who the engine is; removed at a clean end.
#[derive(Debug)]
struct PidFile(PathBuf);

impl PidFile {
    /// Without it scripts don't know us, and everything else works.
    fn write(path: PathBuf) -> Self {
        if let Err(error) = std::fs::write(&path, format!("{}\n", std::process::id())) {
            tracing::warn!(%error, path = %path.display(), "the file with our pid is not written");
        }
        Self(path)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "the pid file is not removed");
        }
    }
}

/// Each container costs some descriptors; their own limits are set by the shim.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays low");
    }
}
