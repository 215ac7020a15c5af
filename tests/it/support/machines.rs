//! A host with a machine on each side, and what tests of its packet rules ask there.
#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::engine::{Engine, possible, wait_for};
use super::folder::text;
use super::neighbour::{Neighbour, ask, ask_from, has, run};
use super::process;

/// Within what a change by others is repaired.
pub const REPAIR: Duration = Duration::from_secs(5);
/// The host's address to the machine outside, and that machine.
pub const HOST: &str = "192.0.2.1";
pub const OUTSIDE: &str = "192.0.2.2:80";

/// Whether the test can run, or says which program it lacks.
pub fn able(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| !has(program)).collect();
    if !missing.is_empty() {
        eprintln!("skipped: not installed: {missing:?}");
    }
    missing.is_empty() && possible()
}

/// The machines beside the host. The host is no router between them.
#[derive(Debug)]
pub struct Machines {
    pub wan: Neighbour,
    pub lan: Neighbour,
}

impl Machines {
    pub fn new() -> Self {
        let (wan, lan) = ("192.0.2", "198.51.100");
        Self { wan: Neighbour::new("wan", wan), lan: Neighbour::new("lan", lan) }
    }

    #[track_caller]
    pub fn check_no_router(&self) {
        assert!(self.lan.is_closed(OUTSIDE), "the host routes:\n{}", rules());
        assert!(self.wan.is_closed("198.51.100.2:80"), "the host routes:\n{}", rules());
    }
}

pub fn rules() -> String {
    run("nft", &["list", "ruleset"])
}

/// What a container does that serves a word.
pub fn serving(word: &str) -> String {
    format!("echo {word} > /index.html; exec httpd -f -p 80 -h /")
}

/// Starts a container of ours that serves `word` on a port of the host.
#[track_caller]
pub fn serve(engine: &Engine, word: &str, port: u16) {
    let (port, line) = (format!("{port}:80"), serving(word));
    let words = ["run", "-d", "--init", "--name", word, "-p", &port, "busybox", "sh", "-c", &line];
    let output = engine.bargee(&words);
    assert!(output.status.success(), "{}\n{}", text(&output.stderr), engine.log());
}

pub fn pid_of(engine: &Engine, name: &str) -> String {
    text(&engine.bargee(&["inspect", "-f", "{{.State.Pid}}", name]).stdout)
}

/// Checks that the port answers from everywhere, and that the container reaches the outside.
#[track_caller]
pub fn check(engine: &Engine, machines: &Machines, word: &str, port: u16) {
    for (host, who) in [(HOST, &machines.wan), ("198.51.100.1", &machines.lan)] {
        // Its program may not listen yet.
        let answer = wait_for(REPAIR, || who.ask(&format!("{host}:{port}")));
        assert_eq!(answer.as_deref(), Some(word), "{host}:\n{}\n{}", rules(), engine.log());
    }
    assert_eq!(ask(&format!("127.0.0.1:{port}")).as_deref(), Some(word));
    let pid = pid_of(engine, word);
    // firewalld lets a published port through by itself, before it is opened for the rest.
    let answer = wait_for(REPAIR, || ask_from(&pid, OUTSIDE));
    assert_eq!(answer.as_deref(), Some("wan"), "{word}:\n{}\n{}", rules(), engine.log());
}

/// Waits until our container's port answers from outside.
#[track_caller]
pub fn until_repaired(engine: &Engine, machines: &Machines, word: &str, port: u16) {
    let target = format!("{HOST}:{port}");
    let back = wait_for(REPAIR, || (!machines.wan.is_closed(&target)).then_some(()));
    assert!(back.is_some(), "not repaired:\n{}\n{}", rules(), engine.log());
    check(engine, machines, word, port);
}

pub fn address_of(engine: &Engine, name: &str) -> String {
    let format = "{{.NetworkSettings.IPAddress}}";
    text(&engine.bargee(&["inspect", "-f", format, name]).stdout).trim().to_owned()
}

pub fn with_busybox() -> Engine {
    let engine = Engine::start();
    engine.load_busybox("busybox");
    engine
}

/// Whether iptables-legacy works here; each kernel has it or not.
pub fn has_legacy() -> bool {
    let works = Command::new("iptables-legacy").arg("-S").output();
    let works = works.is_ok_and(|output| output.status.success());
    if !works {
        eprintln!("skipped: the kernel has no tables of iptables-legacy");
    }
    works
}

/// A program that ends with the test.
#[derive(Debug)]
pub struct Program(pub Child);

impl Program {
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("the program starts"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        process::end(&mut self.0);
    }
}

pub fn mount_memory(target: &str) {
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", target, "tmpfs", flags, None).expect("a tmpfs");
}
