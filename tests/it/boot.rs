//! What a service manager sees: passed sockets, notifications, a cgroup that was given. systemd itself is met in
//! `tests/vm/systemd`.

use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::support::engine::{Engine, PATIENCE, possible, wait_for};
use super::support::http::Client;
use super::support::pace::slowed;
use super::support::process::processes;

/// An engine as systemd starts it; ended with this.
struct Service {
    process: Child,
}

impl Service {
    /// Passes `socket` as descriptor 3, and the names of sd_listen_fds(3).
    fn start(engine: &Engine, socket: &UnixListener, arguments: &[&str]) -> Self {
        let program = env!("CARGO_BIN_EXE_bargee");
        let process = Command::new("sh")
            .args(["-c", "LISTEN_PID=$$ exec \"$0\" engine \"$@\" 3<&0 </dev/null", program])
            .args(arguments)
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", "bargee")
            .env("WATCHDOG_USEC", "200000")
            .env("NOTIFY_SOCKET", engine.folder().join("notify"))
            .env("BARGEE_ROOT", engine.root())
            .env("BARGEE_RUN", engine.run())
            .stdin(socket.try_clone().map(std::os::fd::OwnedFd::from).expect("a copy"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(engine.folder().join("service.log")).expect("a log"))
            .spawn()
            .expect("sh starts");
        Self { process }
    }

    fn signal(&mut self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).expect("a child can be signalled");
        wait_for(PATIENCE, || self.process.try_wait().expect("a child")).expect("it ends");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // One that ended already is no harm.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Returns the next notification that is not a watchdog's.
fn next(notify: &UnixDatagram, skip: &str) -> String {
    let mut bytes = [0; 64];
    loop {
        let length = notify.recv(&mut bytes).expect("a notification");
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if text != skip {
            return text;
        }
    }
}

fn pid(engine: &Engine, name: &str) -> i64 {
    let answer = engine.client().get(&format!("/containers/{name}/json")).expect("an answer");
    answer.json()["State"]["Pid"].as_i64().expect("a pid")
}

/// The cgroups of a process, in all hierarchies.
fn cgroups_of(pid: i64) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives")
}

/// Pids of our helpers of this run folder.
fn helpers(run: &Path) -> Vec<i64> {
    let all = processes(&run.to_string_lossy());
    let helpers = all.into_iter().filter(|(_, line)| {
        let roles = [" __shim ", " __netd "];
        roles.iter().any(|role| line.contains(role))
    });
    helpers.map(|(pid, _)| pid).collect()
}

#[test]
fn a_service_manager_passes_the_socket_hears_notifications_and_keeps_containers_in_its_cgroup() {
    if !possible() {
        return;
    }
    let mut engine = Engine::start();
    engine.load_busybox("busybox");
    assert!(engine.stop().success());
    let notify = UnixDatagram::bind(engine.folder().join("notify")).expect("a socket");
    notify.set_read_timeout(Some(slowed(PATIENCE))).expect("a socket takes a timeout");
    let listener = UnixListener::bind(engine.socket()).expect("a socket");
    let home = format!("/bargee-home-{}", std::process::id());

    // A client queues while nobody has started the engine yet.
    let waiting = engine.client();
    let mut service = Service::start(&engine, &listener, &["--cgroup", &home]);
    let mut waiting: Client = waiting;
    assert_eq!(waiting.get("/_ping").expect("an answer").status, 200);
    assert_eq!(next(&notify, "WATCHDOG=1"), "READY=1");
    assert_eq!(next(&notify, ""), "WATCHDOG=1");

    let ran = engine.bargee(&["run", "-d", "--init", "--name", "one", "busybox", "sleep", "1000"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let init = pid(&engine, "one");
    let all = |pid: i64, part: &str| {
        let text = cgroups_of(pid);
        let wanted = format!(":{home}/{part}-");
        assert!(text.lines().all(|line| line.contains(&wanted)), "{wanted}: {text}");
    };
    all(init, "bargee");
    let found = helpers(&engine.run());
    assert_eq!(found.len(), 2, "a shim and netd");
    found.iter().for_each(|pid| all(*pid, "shims"));

    // A crash, and a start without the cgroup: what runs keeps its own.
    service.signal(rustix::process::Signal::KILL);
    let mut service = Service::start(&engine, &listener, &[]);
    assert_eq!(next(&notify, "WATCHDOG=1"), "READY=1");
    assert_eq!(pid(&engine, "one"), init, "the container was touched");
    let ran = engine.bargee(&["run", "-d", "--init", "--name", "two", "busybox", "sleep", "1000"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    all(pid(&engine, "two"), "bargee");

    let removed = engine.bargee(&["rm", "-f", "one", "two"]);
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    // Not by the command: it would wait for this socket to be closed, which is ours.
    let answer = engine.client().send("POST", "/bargee/v1/shutdown?containers=1", &[], b"");
    assert_eq!(answer.expect("an answer").status, 204);
    assert_eq!(next(&notify, "WATCHDOG=1"), "STOPPING=1");
    wait_for(PATIENCE, || service.process.try_wait().expect("a child")).expect("it ends");
    let trees = std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten();
    let trees = trees.map(|entry| entry.path()).chain([Path::new("/sys/fs/cgroup").to_owned()]);
    for tree in trees {
        let folder = tree.join(home.trim_start_matches('/'));
        let left = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let left: Vec<_> = left
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
        // Whoever gives a cgroup removes it.
        drop(std::fs::remove_dir(folder));
    }
    // The test's own socket, which no engine removes.
    std::fs::remove_file(engine.socket()).expect("it is there");
}

#[test]
fn an_engine_that_a_service_manager_restarts_again_and_again_keeps_no_stack() {
    if !possible() {
        return;
    }
    let mut engine = Engine::start();
    assert!(engine.stop().success());
    let notify = UnixDatagram::bind(engine.folder().join("notify")).expect("a socket");
    notify.set_read_timeout(Some(slowed(PATIENCE))).expect("a socket takes a timeout");
    let listener = UnixListener::bind(engine.socket()).expect("a socket");
    let log = engine.folder().join("service.log");
    let said = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("crashes again"));
    for _ in 0..3 {
        let mut service = Service::start(&engine, &listener, &[]);
        assert_eq!(next(&notify, "WATCHDOG=1"), "READY=1");
        assert!(!said());
        service.signal(rustix::process::Signal::KILL);
    }
    let mut service = Service::start(&engine, &listener, &[]);
    assert_eq!(next(&notify, "WATCHDOG=1"), "READY=1");
    assert!(said());
    service.signal(rustix::process::Signal::TERM);
    let mut service = Service::start(&engine, &listener, &[]);
    while next(&notify, "WATCHDOG=1") != "READY=1" {}
    assert!(!said(), "a clean end forgives");
    service.signal(rustix::process::Signal::TERM);
    std::fs::remove_file(engine.socket()).expect("it is there");
}
