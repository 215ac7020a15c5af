//! Other programs that hold packet rules on the same machine: docker, ufw, firewalld, a user's own, a second engine.
//!
//! Each test has a network namespace that plays host, so that it owns all packet rules there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::engine::{Engine, PATIENCE, possible, wait_for};
use crate::support::folder::text;
use crate::support::neighbour::{Neighbour, ask, ask_from, has, on_a_host, run};

/// Within what a change by others is repaired.
const REPAIR: Duration = Duration::from_secs(5);
/// The host's address to the machine outside, and that machine.
const HOST: &str = "192.0.2.1";
const OUTSIDE: &str = "192.0.2.2:80";

/// Whether the test can run, or says which program it lacks.
fn able(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| !has(program)).collect();
    if !missing.is_empty() {
        eprintln!("skipped: not installed: {missing:?}");
    }
    missing.is_empty() && possible()
}

/// The machines beside the host. The host is no router between them.
struct Machines {
    wan: Neighbour,
    lan: Neighbour,
}

impl Machines {
    fn new() -> Self {
        let (wan, lan) = ("192.0.2", "198.51.100");
        Self { wan: Neighbour::new("wan", wan), lan: Neighbour::new("lan", lan) }
    }

    #[track_caller]
    fn check_no_router(&self) {
        assert!(self.lan.is_closed(OUTSIDE), "the host routes:\n{}", rules());
        assert!(self.wan.is_closed("198.51.100.2:80"), "the host routes:\n{}", rules());
    }
}

fn rules() -> String {
    run("nft", &["list", "ruleset"])
}

/// What a container does that serves a word.
fn serving(word: &str) -> String {
    format!("echo {word} > /index.html; exec httpd -f -p 80 -h /")
}

/// Starts a container of ours that serves `word` on a port of the host.
#[track_caller]
fn serve(engine: &Engine, word: &str, port: u16) {
    let (port, line) = (format!("{port}:80"), serving(word));
    let words = ["run", "-d", "--init", "--name", word, "-p", &port, "busybox", "sh", "-c", &line];
    let output = engine.bargee(&words);
    assert!(output.status.success(), "{}\n{}", text(&output.stderr), engine.log());
}

/// Checks that the port answers from everywhere, and that the container reaches the outside.
#[track_caller]
fn check(engine: &Engine, machines: &Machines, word: &str, port: u16) {
    for (host, who) in [(HOST, &machines.wan), ("198.51.100.1", &machines.lan)] {
        // Its program may not listen yet.
        let answer = wait_for(REPAIR, || who.ask(&format!("{host}:{port}")));
        assert_eq!(answer.as_deref(), Some(word), "{host}:\n{}\n{}", rules(), engine.log());
    }
    assert_eq!(ask(&format!("127.0.0.1:{port}")).as_deref(), Some(word));
    let pid = text(&engine.bargee(&["inspect", "-f", "{{.State.Pid}}", word]).stdout);
    // firewalld lets a published port through by itself, before it is opened for the rest.
    let answer = wait_for(REPAIR, || ask_from(&pid, OUTSIDE));
    assert_eq!(answer.as_deref(), Some("wan"), "{word}:\n{}\n{}", rules(), engine.log());
}

/// Waits until our container's port answers from outside.
#[track_caller]
fn until_repaired(engine: &Engine, machines: &Machines, word: &str, port: u16) {
    let target = format!("{HOST}:{port}");
    let back = wait_for(REPAIR, || (!machines.wan.is_closed(&target)).then_some(()));
    assert!(back.is_some(), "not repaired:\n{}\n{}", rules(), engine.log());
    check(engine, machines, word, port);
}

/// A docker daemon of the test's own.
struct Docker {
    folder: TempDir,
    process: Child,
}

impl Docker {
    fn start() -> Self {
        let folder = TempDir::with_prefix_in("dockerd-", "/dev/shm").expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let log = File::create(folder.path().join("log")).expect("a log");
        let mut command = Command::new("dockerd");
        command
            .args(["--data-root", &at("data"), "--exec-root", &at("exec")])
            .args(["--pidfile", &at("pid"), "-H", &format!("unix://{}", at("sock"))])
            .args(["--bip", "10.199.0.1/24", "--config-file", &at("none.json")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log is shared"))
            .stderr(log);
        std::fs::write(folder.path().join("none.json"), "{}").expect("an empty configuration");
        let process = command.spawn().expect("dockerd starts");
        let this = Self { folder, process };
        let up = wait_for(PATIENCE, || this.try_run(&["version"]).is_ok().then_some(()));
        assert!(up.is_some(), "dockerd does not answer:\n{}", this.log());
        let archive = this.folder.path().join("image.tar");
        std::fs::write(&archive, crate::support::image::busybox("busybox")).expect("an archive");
        this.run(&["load", "-i", &archive.display().to_string()]);
        this
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn try_run(&self, arguments: &[&str]) -> Result<String, String> {
        let socket = format!("unix://{}", self.folder.path().join("sock").display());
        let output = Command::new("docker")
            .args(["-H", &socket])
            .args(arguments)
            .env("DOCKER_CONFIG", self.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("docker starts");
        match output.status.success() {
            true => Ok(text(&output.stdout).trim_end().to_owned()),
            false => Err(text(&output.stderr)),
        }
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments).unwrap_or_else(|why| panic!("{arguments:?}: {why}\n{}", self.log()))
    }

    #[track_caller]
    fn serve(&self, word: &str, port: u16) {
        let (port, line) = (format!("{port}:80"), serving(word));
        self.run(&["run", "-d", "--name", word, "-p", &port, "busybox", "sh", "-c", &line]);
    }

    #[track_caller]
    fn check(&self, machines: &Machines, word: &str, port: u16) {
        let target = format!("{HOST}:{port}");
        // docker answers before its program listens.
        let answer = wait_for(PATIENCE, || machines.wan.ask(&target).filter(|got| got == word));
        assert!(answer.is_some(), "docker's port is closed:\n{}\n{}", rules(), self.log());
        let pid = self.run(&["inspect", "-f", "{{.State.Pid}}", word]);
        assert_eq!(ask_from(&pid, OUTSIDE).as_deref(), Some("wan"), "{word}:\n{}", rules());
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let all = self.try_run(&["ps", "-aq"]).unwrap_or_default();
        for id in all.lines() {
            drop(self.try_run(&["rm", "-f", id]));
        }
        let _gone = kill_process(Pid::from_child(&self.process), Signal::TERM);
        if wait_for(PATIENCE, || self.process.try_wait().ok().flatten()).is_none() {
            drop(self.process.kill());
            drop(self.process.wait());
        }
        // It leaves its mounts behind, in this thread's own mount namespace.
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        let below = mounts.lines().filter_map(|line| line.split(' ').nth(4).map(PathBuf::from));
        let mut below: Vec<_> = below.filter(|path| path.starts_with(self.folder.path())).collect();
        below.reverse();
        for path in below {
            let _gone = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

fn with_busybox() -> Engine {
    let engine = Engine::start();
    engine.load_busybox("busybox");
    engine
}

const DOCKER: [&str; 4] = ["dockerd", "docker", "iptables", "nft"];

#[test]
fn a_docker_that_starts_after_us_and_we_leave_each_other_whole() {
    if !able(&DOCKER) {
        return;
    }
    on_a_host(|| {
        let machines = Machines::new();
        let engine = with_busybox();
        serve(&engine, "ours", 8081);
        check(&engine, &machines, "ours", 8081);
        machines.check_no_router();
        let docker = Docker::start();
        docker.serve("docker", 8082);
        docker.check(&machines, "docker", 8082);
        check(&engine, &machines, "ours", 8081);
        machines.check_no_router();
        // What lists docker's rules still can.
        assert!(run("iptables", &["-S", "FORWARD"]).contains("bargee"), "{}", rules());
        let taken = docker.try_run(&["run", "-d", "-p", "8081:80", "busybox", "true"]);
        let why = taken.expect_err("the port is ours");
        assert!(why.contains("address already in use"), "{why}");
        let taken = engine.bargee(&["run", "-d", "-p", "8082:80", "busybox", "true"]);
        let why = text(&taken.stderr);
        assert!(!taken.status.success() && why.contains("docker-proxy"), "{why}");
        // At our end docker's containers go on, and the host is no router yet.
        drop(engine);
        docker.check(&machines, "docker", 8082);
        machines.check_no_router();
        assert!(!rules().contains("bargee"), "{}", rules());
    });
}

#[test]
fn a_docker_that_was_there_before_us_and_we_leave_each_other_whole() {
    if !able(&DOCKER) {
        return;
    }
    on_a_host(|| {
        let machines = Machines::new();
        let docker = Docker::start();
        docker.serve("docker", 8082);
        let engine = with_busybox();
        serve(&engine, "ours", 8081);
        check(&engine, &machines, "ours", 8081);
        docker.check(&machines, "docker", 8082);
        machines.check_no_router();
        // Docker's restart writes its chains anew.
        drop(docker);
        check(&engine, &machines, "ours", 8081);
        let docker = Docker::start();
        docker.serve("docker", 8082);
        docker.check(&machines, "docker", 8082);
        check(&engine, &machines, "ours", 8081);
        drop(engine);
        docker.check(&machines, "docker", 8082);
        assert!(!rules().contains("bargee"), "{}", rules());
    });
}

#[test]
fn flushed_rules_and_a_drop_by_policy_are_repaired_while_containers_run() {
    if !able(&["nft", "iptables"]) {
        return;
    }
    on_a_host(|| {
        let machines = Machines::new();
        let engine = with_busybox();
        serve(&engine, "ours", 8081);
        check(&engine, &machines, "ours", 8081);
        let changes: [&[&[&str]]; 6] = [
            &[&["iptables", "-P", "FORWARD", "DROP"]],
            &[&["iptables", "-F"]],
            &[&["nft", "flush", "ruleset"]],
            &[&[
                "nft",
                "table ip mine { chain f { type filter hook forward priority 0; policy drop; }; }",
            ]],
            &[&["nft", "flush", "ruleset"], &["iptables", "-P", "FORWARD", "DROP"]],
            &[
                &["iptables", "-A", "FORWARD", "-j", "REJECT"],
                &["iptables", "-P", "FORWARD", "ACCEPT"],
            ],
        ];
        for commands in changes {
            for command in commands {
                run(command[0], &command[1..]);
            }
            until_repaired(&engine, &machines, "ours", 8081);
            let closed = wait_for(REPAIR, || machines.lan.is_closed(OUTSIDE).then_some(()));
            assert!(closed.is_some(), "{commands:?}: the host routes:\n{}", rules());
        }
        drop(engine);
        assert!(!rules().contains("bargee"), "{}", rules());
        let forward = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("a sysctl");
        assert_eq!(forward.trim(), "0");
    });
}

#[test]
fn rules_flushed_while_the_engine_is_down_are_as_before_when_it_is_back() {
    if !able(&["nft"]) {
        return;
    }
    on_a_host(|| {
        let machines = Machines::new();
        let mut engine = with_busybox();
        serve(&engine, "ours", 8081);
        check(&engine, &machines, "ours", 8081);
        engine.kill();
        run("nft", &["flush", "ruleset"]);
        assert!(!machines.lan.is_closed(OUTSIDE), "nothing closes");
        engine.launch();
        check(&engine, &machines, "ours", 8081);
        machines.check_no_router();
    });
}

#[test]
fn under_ufw_published_ports_answer_and_containers_reach_the_outside() {
    if !able(&["ufw", "iptables", "nft"]) {
        return;
    }
    on_a_host(|| {
        // ufw keeps its settings and its lock where the host's own may be.
        let folder = tempfile::tempdir().expect("a folder");
        let settings = folder.path().join("ufw");
        run("cp", &["-a", "/etc/ufw", &settings.display().to_string()]);
        rustix::mount::mount_bind(&settings, "/etc/ufw").expect("a bind mount");
        mount_memory("/run");
        let machines = Machines::new();
        let engine = with_busybox();
        serve(&engine, "ours", 8081);
        run("ufw", &["--force", "enable"]);
        until_repaired(&engine, &machines, "ours", 8081);
        machines.check_no_router();
        run("ufw", &["reload"]);
        until_repaired(&engine, &machines, "ours", 8081);
        assert!(run("ufw", &["status", "verbose"]).contains("deny (routed)"));
        run("ufw", &["disable"]);
        until_repaired(&engine, &machines, "ours", 8081);
        let closed = wait_for(REPAIR, || machines.lan.is_closed(OUTSIDE).then_some(()));
        assert!(closed.is_some(), "the host routes:\n{}", rules());
    });
}

/// A program that ends with the test.
struct Program(Child);

impl Program {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("the program starts"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = kill_process(Pid::from_child(&self.0), Signal::TERM);
        if wait_for(PATIENCE, || self.0.try_wait().ok().flatten()).is_none() {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

#[test]
fn under_firewalld_published_ports_answer_and_containers_reach_the_outside() {
    if !able(&["firewalld", "firewall-cmd", "dbus-daemon", "nft"]) {
        return;
    }
    on_a_host(|| {
        // Its bus, and files that the host's own may have.
        mount_memory("/run");
        std::fs::create_dir("/run/dbus").expect("a folder");
        let machines = Machines::new();
        let engine = with_busybox();
        serve(&engine, "ours", 8081);
        let address = "--address=unix:path=/run/dbus/system_bus_socket";
        let _bus = Program::start("dbus-daemon", &["--system", "--nofork", "--nopidfile", address]);
        let bus = Path::new("/run/dbus/system_bus_socket");
        wait_for(PATIENCE, || bus.exists().then_some(())).expect("a bus");
        let _firewalld = Program::start("firewalld", &["--nofork", "--nopid"]);
        let is_up = || {
            let state = Command::new("firewall-cmd").arg("--state").output();
            state.is_ok_and(|output| output.status.success()).then_some(())
        };
        wait_for(PATIENCE, is_up).expect("firewalld comes up");
        until_repaired(&engine, &machines, "ours", 8081);
        machines.check_no_router();
        run("firewall-cmd", &["--reload"]);
        until_repaired(&engine, &machines, "ours", 8081);
        machines.check_no_router();
    });
}

fn mount_memory(target: &str) {
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", target, "tmpfs", flags, None).expect("a tmpfs");
}

#[test]
fn two_engines_share_a_machine_and_the_end_of_one_leaves_the_other_whole() {
    if !able(&["nft"]) {
        return;
    }
    on_a_host(|| {
        let machines = Machines::new();
        let (one, two) = (with_busybox(), with_busybox());
        serve(&one, "one", 8081);
        serve(&two, "two", 8082);
        check(&one, &machines, "one", 8081);
        check(&two, &machines, "two", 8082);
        machines.check_no_router();
        let subnet = |engine: &Engine| {
            let format = "{{range .IPAM.Config}}{{.Subnet}}{{end}}";
            text(&engine.bargee(&["network", "inspect", "-f", format, "bridge"]).stdout)
        };
        assert_ne!(subnet(&one), subnet(&two));
        let taken = two.bargee(&["run", "-d", "-p", "8081:80", "busybox", "true"]);
        let why = text(&taken.stderr);
        assert_eq!(taken.status.code(), Some(125), "{why}");
        assert!(why.contains("8081") && why.contains("bargee"), "{why}");
        drop(one);
        check(&two, &machines, "two", 8082);
        machines.check_no_router();
        drop(two);
        assert!(!rules().contains("bargee"), "{}", rules());
        let forward = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("a sysctl");
        assert_eq!(forward.trim(), "0");
    });
}

#[test]
fn a_second_engine_on_one_root_says_who_has_it() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    let other = engine.folder().join("other-run");
    for run in [engine.run(), other] {
        let mut command = engine.command(&["engine", "--run"]);
        let output = command.arg(&run).stdin(Stdio::null()).output().expect("the binary starts");
        let why = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{why}");
        assert!(why.contains(&format!("pid {}", engine.pid())), "{why}");
        assert!(why.contains("engine stop"), "{why}");
    }
    assert_eq!(engine.client().get("/_ping").expect("it goes on").status, 200);
}
