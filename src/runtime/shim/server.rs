//! The shim's loop: wait, then serve every descriptor that has something, always in the same order.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags};

use super::attach::{Client, MOST_BACKLOG, Wishes};
use super::connection::Connection;
use super::container::{Container, Running, StartError, exit_of};
use super::exit;
use super::protocol::{
    Event, ExecStatus, Exit, Hello, Message, Purpose, Reply, Request, ShimPaths, ShimState, Status,
    VERSION,
};
use super::stdio::Stream;
use crate::runtime::bundle::ShimConfig;
use crate::runtime::cgroup::{Cgroup, Roots};
use crate::runtime::sys;

/// An exec, kept after its end so that its code can be asked for.
#[derive(Debug)]
struct Exec {
    pid: i32,
    running: Option<Running>,
    code: Option<i32>,
    /// Output from before the first client, who may come late.
    early: Vec<(Stream, Vec<u8>)>,
    attached: bool,
}

#[derive(Debug)]
struct Server {
    paths: ShimPaths,
    listener: UnixListener,
    signals: SignalFd,
    connections: Vec<Connection>,
    clients: Vec<Client>,
    container: Option<Container>,
    execs: BTreeMap<String, Exec>,
    last: Option<Exit>,
    /// Of the container that ended.
    cgroup: Option<Cgroup>,
    done: bool,
}

/// Serves one container until it is told to shut down. Must be called before any thread exists.
pub fn run(paths: &ShimPaths) -> ExitCode {
    let served = Server::open(paths).and_then(|mut server| {
        // Output that a client has not read yet is all that a shut shim still holds.
        while !server.done || !server.clients.is_empty() {
            server.wait()?;
            server.serve();
        }
        Ok(())
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The engine finds why beside the socket.
            let _ = fs::write(paths.run.join("shim.error"), error.to_string());
            ExitCode::FAILURE
        }
    }
}

impl Server {
    fn open(paths: &ShimPaths) -> io::Result<Self> {
        // Fails when we lead a session already.
        let _ = nix::unistd::setsid();
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        fs::write(paths.run.join("shim.pid"), std::process::id().to_string())?;
        let listener = match inherited_listener()? {
            Some(listener) => listener,
            None => bind(&paths.run.join("shim.sock"))?,
        };
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            signals,
            connections: Vec::new(),
            clients: Vec::new(),
            container: None,
            execs: BTreeMap::new(),
            last: exit::load(&paths.run)?,
            cgroup: None,
            done: false,
            paths: paths.clone(),
        })
    }

    fn wait(&self) -> io::Result<()> {
        let mut fds = vec![
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
        ];
        for connection in &self.connections {
            let output = if connection.has_output() { PollFlags::OUT } else { PollFlags::empty() };
            fds.push(PollFd::new(&connection.socket, PollFlags::IN | output));
        }
        for client in &self.clients {
            let running = match &client.exec {
                None => self.container.as_ref().map(|container| &container.init),
                Some(id) => self.execs.get(id).and_then(|exec| exec.running.as_ref()),
            };
            client.poll(running.map(|running| &running.channel), &mut fds);
        }
        if let Some(container) = &self.container {
            container.init.channel.poll(&mut fds);
        }
        for running in self.execs.values().filter_map(|exec| exec.running.as_ref()) {
            running.channel.poll(&mut fds);
        }
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Attach clients come before requests: one that connected before `Start` sees the first output.
    fn serve(&mut self) {
        self.relay(false);
        self.reap();
        while let Ok((socket, _)) = self.listener.accept() {
            if socket.set_nonblocking(true).is_ok() {
                self.connections.push(Connection::new(socket));
            }
        }
        self.greet();
        self.relay_input();
        self.answer();
        self.connections.retain(|connection| !connection.lost);
        self.clients.retain(|client| !client.is_lost());
    }

    fn relay(&mut self, all: bool) {
        let clients = &mut self.clients;
        if let Some(container) = &mut self.container {
            container.drain(all, |stream, bytes| broadcast(clients, None, stream, bytes));
        }
        for (id, exec) in &mut self.execs {
            exec.drain(false, |stream, bytes| broadcast(clients, Some(id), stream, bytes));
        }
    }

    fn relay_input(&mut self) {
        for client in &mut self.clients {
            client.flush();
            let (running, ends) = match &client.exec {
                None => match &mut self.container {
                    Some(container) => (Some(&mut container.init), container.stdin_once),
                    None => (None, false),
                },
                Some(id) => (self.execs.get_mut(id).and_then(|exec| exec.running.as_mut()), true),
            };
            client.pump(running.map(|running| &mut running.channel), ends);
        }
        if let Some(container) = &mut self.container {
            container.init.channel.write_input();
        }
        for running in self.execs.values_mut().filter_map(|exec| exec.running.as_mut()) {
            running.channel.write_input();
        }
    }

    fn greet(&mut self) {
        let mut index = 0;
        while index < self.connections.len() {
            let connection = &mut self.connections[index];
            index += 1;
            if connection.greeted {
                continue;
            }
            let Some(hello) = connection.next::<Hello>() else {
                continue;
            };
            connection.greeted = true;
            if let Purpose::Attach { exec, stdin, stdout, stderr } = hello.purpose {
                index -= 1;
                let socket = self.connections.swap_remove(index).socket;
                self.attach(Client::new(socket, exec, Wishes { stdin, stdout, stderr }));
            }
        }
    }

    fn attach(&mut self, mut client: Client) {
        let exec = client.exec.as_ref().and_then(|id| self.execs.get_mut(id));
        if let Some(exec) = exec {
            exec.attached = true;
            for (stream, bytes) in exec.early.drain(..) {
                client.push(stream, &bytes);
            }
            if exec.running.is_none() {
                client.close();
            }
        }
        self.clients.push(client);
    }

    fn answer(&mut self) {
        let mut index = 0;
        while index < self.connections.len() {
            self.connections[index].flush();
            while self.connections[index].greeted && !self.connections[index].lost {
                let Some(request) = self.connections[index].next::<Request>() else {
                    break;
                };
                let reply = self.handle(request).unwrap_or_else(|error| Reply::Failed {
                    message: error.message,
                    code: error.code,
                });
                self.connections[index].send(&Message::Reply(reply));
            }
            index += 1;
        }
    }

    fn handle(&mut self, request: Request) -> Result<Reply, StartError> {
        match request {
            Request::Status => return Ok(Reply::Status(self.status())),
            Request::Start { incarnation } => return self.start(incarnation),
            Request::Exec { id, process, tty, open_stdin } => {
                return self.exec(id, process, tty, open_stdin);
            }
            Request::Signal { signal, all } => self.running()?.signal(signal, all)?,
            Request::Pause => self.running()?.pause(true)?,
            Request::Resume => self.running()?.pause(false)?,
            Request::Update { resources } => self.running()?.update(resources)?,
            Request::SignalExec { id, signal } => {
                sys::send_signal(self.running_exec(&id)?.pidfd.as_fd(), signal)?;
            }
            Request::Resize { exec: None, rows, columns } => {
                self.running()?.init.channel.resize(rows, columns)?;
            }
            Request::Resize { exec: Some(id), rows, columns } => {
                self.running_exec(&id)?.channel.resize(rows, columns)?;
            }
            Request::Shutdown => self.shut_down()?,
        }
        Ok(Reply::Done)
    }

    fn running(&mut self) -> Result<&mut Container, StartError> {
        let missing = || StartError { message: "container is not running".into(), code: 125 };
        self.container.as_mut().ok_or_else(missing)
    }

    fn running_exec(&self, id: &str) -> Result<&Running, StartError> {
        let missing = || StartError { message: format!("exec {id} is not running"), code: 125 };
        self.execs.get(id).and_then(|exec| exec.running.as_ref()).ok_or_else(missing)
    }

    fn status(&self) -> Status {
        let state = match (&self.container, &self.last) {
            (Some(container), _) => ShimState::Running {
                pid: container.init.pid,
                start_time: container.start_time,
                incarnation: container.incarnation,
                paused: container.paused,
            },
            (None, Some(exit)) => ShimState::Exited(exit.clone()),
            (None, None) => ShimState::Created,
        };
        let execs = self.execs.iter();
        Status {
            version: VERSION,
            shim_pid: rustix::process::getpid().as_raw_nonzero().get(),
            state,
            execs: execs
                .map(|(id, exec)| ExecStatus { id: id.clone(), pid: exec.pid, code: exec.code })
                .collect(),
        }
    }

    fn start(&mut self, incarnation: u64) -> Result<Reply, StartError> {
        if self.container.is_some() {
            return Err(StartError { message: "container is running already".into(), code: 125 });
        }
        let container = Container::start(&self.paths, incarnation)?;
        let reply = Reply::Started { pid: container.init.pid, start_time: container.start_time };
        self.container = Some(container);
        self.execs.clear();
        Ok(reply)
    }

    fn exec(
        &mut self,
        id: String,
        process: serde_json::Value,
        tty: bool,
        open_stdin: bool,
    ) -> Result<Reply, StartError> {
        if self.execs.contains_key(&id) {
            return Err(StartError { message: format!("exec {id} exists already"), code: 125 });
        }
        let process = serde_json::from_value(process).map_err(io::Error::from)?;
        let running = self.running()?.exec(&process, tty, open_stdin)?;
        let pid = running.pid;
        let attached = self.clients.iter().any(|client| client.exec.as_deref() == Some(&id));
        let exec = Exec { pid, running: Some(running), code: None, early: Vec::new(), attached };
        self.execs.insert(id, exec);
        Ok(Reply::ExecStarted { pid })
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        self.tell_ooms();
        loop {
            match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::EINTR) => {}
                // ECHILD: there are no children at all.
                Err(_) | Ok(nix::sys::wait::WaitStatus::StillAlive) => return,
                Ok(status) => {
                    if let Some((pid, code)) = exit_of(status) {
                        self.ended(pid, code);
                    }
                }
            }
        }
    }

    /// A process may have died for memory whenever some process died.
    fn tell_ooms(&mut self) {
        let Some(container) = &mut self.container else {
            return;
        };
        let count = container.cgroup.oom_count().unwrap_or(container.ooms);
        if count > container.ooms {
            container.ooms = count;
            self.announce(&Event::Oom);
        }
    }

    fn ended(&mut self, pid: i32, code: i32) {
        if self.container.as_ref().is_some_and(|container| container.init.pid == pid) {
            self.init_ended(code);
            return;
        }
        let found = self.execs.iter_mut().find(|(_, exec)| exec.pid == pid && exec.code.is_none());
        let Some((id, exec)) = found else {
            return;
        };
        let id = id.clone();
        let clients = &mut self.clients;
        exec.drain(true, |stream, bytes| broadcast(clients, Some(&id), stream, bytes));
        (exec.running, exec.code) = (None, Some(code));
        // The code is known before the stream ends.
        self.announce(&Event::ExecExited { id: id.clone(), code });
        self.close_clients(Some(&id));
    }

    fn init_ended(&mut self, code: i32) {
        self.tell_ooms();
        let Some(mut container) = self.container.take() else {
            return;
        };
        if !container.own_pids {
            // What is left would hold the streams open, and nobody would end it.
            let _ = container.cgroup.kill();
        }
        let clients = &mut self.clients;
        container.drain(true, |stream, bytes| broadcast(clients, None, stream, bytes));
        if let Some(log) = &mut container.log {
            // A full disk: the record of the exit matters more.
            let _ = log.finish(Timestamp::now());
        }
        let at = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let exit = Exit { incarnation: container.incarnation, code, oom: container.was_oom(), at };
        // Without a disk the engine still hears it from us.
        let _ = exit::store(&self.paths.run, &exit);
        self.last = Some(exit.clone());
        self.cgroup = Some(container.cgroup);
        self.announce(&Event::Exited(exit));
        self.close_clients(None);
    }

    fn announce(&mut self, event: &Event) {
        for connection in self.connections.iter_mut().filter(|connection| connection.greeted) {
            connection.send(&Message::Event(event.clone()));
        }
    }

    fn close_clients(&mut self, exec: Option<&String>) {
        for client in self.clients.iter_mut().filter(|client| client.exec.as_ref() == exec) {
            client.close();
        }
    }

    fn shut_down(&mut self) -> io::Result<()> {
        if let Some(container) = &mut self.container {
            container.signal(libc::SIGKILL, true)?;
            if container.paused {
                // A task frozen by v1 dies only once thawed.
                container.pause(false)?;
            }
            container.signal(libc::SIGKILL, false)?;
            let pid = container.init.pid;
            if let Some((pid, code)) = exit_of(waitpid(Pid::from_raw(pid), None)?) {
                self.ended(pid, code);
            }
        }
        self.reap();
        self.remove_cgroup()?;
        for name in ["shim.sock", "shim.pid"] {
            match fs::remove_file(self.paths.run.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.done = true;
        Ok(())
    }

    fn remove_cgroup(&self) -> io::Result<()> {
        if let Some(cgroup) = &self.cgroup {
            return cgroup.remove().map_err(io::Error::other);
        }
        // A start that failed may have made it.
        let config = match fs::read(self.paths.bundle.join("shim.json")) {
            Ok(config) => config,
            // Nothing was ever started.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let config: ShimConfig = serde_json::from_slice(&config)?;
        let roots = Roots::detect(Path::new("/sys/fs/cgroup")).map_err(io::Error::other)?;
        match Cgroup::open(&roots, &config.cgroup) {
            Ok(cgroup) => cgroup.remove().map_err(io::Error::other),
            // It was never made.
            Err(_) => Ok(()),
        }
    }
}

/// Takes the listening socket that the engine passed as stdin, and leaves `/dev/null` there.
fn inherited_listener() -> io::Result<Option<UnixListener>> {
    let stdin = io::stdin();
    // Whatever else stdin is, it is not for us.
    if !rustix::net::sockopt::socket_acceptconn(&stdin).unwrap_or(false) {
        return Ok(None);
    }
    let listener = UnixListener::from(stdin.as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(fs::File::open("/dev/null")?)?;
    Ok(Some(listener))
}

fn bind(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self { message: error.to_string(), code: 125 }
    }
}

impl Exec {
    fn drain(&mut self, all: bool, mut sink: impl FnMut(Stream, &[u8])) {
        let Some(running) = &mut self.running else {
            return;
        };
        let mut buffer = [0; 32 * 1024];
        for stream in [Stream::Stdout, Stream::Stderr] {
            // A grandchild that keeps writing must not hold the end back for ever.
            for _ in 0..if all { 32 } else { 1 } {
                let Some(bytes) = running.channel.read(stream, &mut buffer) else {
                    break;
                };
                let kept: usize = self.early.iter().map(|(_, bytes)| bytes.len()).sum();
                if self.attached {
                    sink(stream, bytes);
                } else if kept + bytes.len() < MOST_BACKLOG / 2 {
                    self.early.push((stream, bytes.to_vec()));
                }
            }
        }
    }
}

fn broadcast(clients: &mut [Client], exec: Option<&String>, stream: Stream, bytes: &[u8]) {
    for client in clients.iter_mut().filter(|client| client.exec.as_ref() == exec) {
        client.push(stream, bytes);
    }
}
