//! A test's own network namespace as its host, and machines beside it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::MountPropagationFlags;

use super::pace::slowed;

/// Long enough for a slow machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is closed answers never, so the wait for it is short.
const IMPATIENCE: Duration = Duration::from_millis(400);

/// Runs a test on a thread whose network and mounts are its own, with forwarding off; its programs are there too.
pub fn on_a_host(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces");
        let apart = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", apart).expect("mounts are our own");
        run("ip", &["link", "set", "lo", "up"]);
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").expect("a sysctl");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a program that must succeed; returns its standard output.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a program of the host is there.
pub fn has(program: &str) -> bool {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    folders.iter().any(|folder| std::path::Path::new(folder).join(program).exists())
}

type Job = Box<dyn FnOnce() + Send>;

/// A machine that is linked to the host and serves its name on port 80. The host's address ends with 1, its own with 2.
#[derive(Debug)]
pub struct Neighbour {
    jobs: Sender<Job>,
}

impl Neighbour {
    /// `net` is the first three bytes of addresses.
    pub fn new(name: &'static str, net: &str) -> Self {
        let (jobs, queue) = channel::<Job>();
        let (ready, is_ready) = channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            ready.send(rustix::thread::gettid()).expect("the test waits");
            for job in queue {
                job();
            }
        });
        let thread = is_ready.recv().expect("the thread starts").as_raw_nonzero().to_string();
        run("ip", &["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &thread]);
        run("ip", &["addr", "add", &format!("{net}.1/24"), "dev", name]);
        run("ip", &["link", "set", name, "up"]);
        let this = Self { jobs };
        let (own, host) = (format!("{net}.2/24"), format!("{net}.1"));
        this.inside(move || {
            for words in [
                vec!["link", "set", "lo", "up"],
                vec!["addr", "add", &own, "dev", "eth0"],
                vec!["link", "set", "eth0", "up"],
                vec!["route", "add", "default", "via", &host],
            ] {
                run("ip", &words);
            }
            let listener = TcpListener::bind("0.0.0.0:80").expect("its own port");
            std::thread::spawn(move || {
                while let Ok((mut client, _)) = listener.accept() {
                    // A request that is not read whole is answered by a reset.
                    let (mut request, mut part) = (Vec::new(), [0; 512]);
                    while !request.ends_with(b"\r\n\r\n") {
                        match client.read(&mut part) {
                            Ok(count @ 1..) => request.extend_from_slice(&part[..count]),
                            _ => break,
                        }
                    }
                    drop(write!(client, "HTTP/1.0 200 OK\r\n\r\n{name}"));
                }
            });
        });
        this
    }

    fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = channel();
        let job = move || drop(answer.send(work()));
        self.jobs.send(Box::new(job)).expect("the thread goes on");
        answered.recv().expect("the work ends")
    }

    pub fn ask(&self, target: &str) -> Option<String> {
        let target = target.to_owned();
        self.inside(move || ask(&target))
    }

    pub fn is_closed(&self, target: &str) -> bool {
        let target = target.to_owned();
        self.inside(move || ask_within(&target, IMPATIENCE)).is_none()
    }
}

/// Returns the body of what is served there.
pub fn ask(target: &str) -> Option<String> {
    ask_within(target, PATIENCE)
}

/// The same from where a process is.
pub fn ask_from(pid: &str, target: &str) -> Option<String> {
    ask_from_within(pid, target, PATIENCE)
}

/// Whether nothing answers there to where a process is.
pub fn is_closed_from(pid: &str, target: &str) -> bool {
    ask_from_within(pid, target, IMPATIENCE).is_none()
}

fn ask_from_within(pid: &str, target: &str, patience: Duration) -> Option<String> {
    let path = format!("/proc/{}/ns/net", pid.trim());
    let namespace = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let target = target.to_owned();
    let thread = std::thread::spawn(move || {
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).expect("its namespace");
        ask_within(&target, patience)
    });
    thread.join().expect("it is asked")
}

fn ask_within(target: &str, patience: Duration) -> Option<String> {
    let target: SocketAddr = target.parse().expect("an address and a port");
    let mut stream = TcpStream::connect_timeout(&target, slowed(patience)).ok()?;
    stream.set_read_timeout(Some(slowed(patience))).expect("a timeout");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.trim_end().to_owned())
}
