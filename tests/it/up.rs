//! A stack as its user meets it: up, plan, down, the foreground, and files that are wrong.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

use crate::support::engine::{Engine, PATIENCE, possible, wait_for};

/// A folder with a stack file, whose name is the stack's and differs from every other test's.
struct Folder {
    folder: TempDir,
}

impl Folder {
    fn new(text: &str) -> Self {
        let folder = TempDir::with_prefix("stack").expect("a temporary folder");
        fs::write(folder.path().join("stack.yaml"), text).expect("a file is written");
        Self { folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("stack.yaml")
    }

    fn run(&self, engine: &Engine, arguments: &[&str]) -> Output {
        let mut command = engine.command(arguments);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.output().expect("the binary starts")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout:\n{stdout}\nstderr:\n{stderr}");
}

/// A port that is free now, from the kernel.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound").port()
}

fn hello(port: u16, memory: &str) -> String {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/stacks/hello/stack.yaml");
    let text = fs::read_to_string(example).expect("the example is there");
    assert!(text.contains(":8080:80") && text.contains("64m"), "the example changed: {text}");
    text.replace(":8080:80", &format!(":{port}:80")).replace("64m", memory)
}

/// The answer of the web service, whatever it is.
fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn hello_comes_up_is_reached_changes_and_goes() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    let port = free_port();
    let folder = Folder::new(&hello(port, "64m"));

    let up = folder.run(&engine, &["up", "-d", "--wait"]);
    assert_code(&up, 0);
    assert_eq!(text(&up.stdout), format!("web  http://127.0.0.1:{port}/\n"));
    assert!(text(&up.stderr).contains("web.2 start … done "), "{}", text(&up.stderr));
    assert!(get(port).is_some_and(|answer| answer.starts_with("HTTP/1.")), "no answer");

    assert_code(&folder.run(&engine, &["plan"]), 0);
    let ps = folder.run(&engine, &["ps", "--stack", "hello", "--format", "{{.Name}} {{.State}}"]);
    assert_eq!(text(&ps.stdout), "hello-web-1 running\nhello-web-2 running\n");

    fs::write(folder.file(), hello(port, "96m")).expect("the file is changed");
    let plan = folder.run(&engine, &["plan"]);
    assert_code(&plan, 2);
    assert!(text(&plan.stdout).contains("stack.yaml:7"), "no origin: {}", text(&plan.stdout));
    assert!(text(&plan.stdout).contains("2 to change"), "{}", text(&plan.stdout));
    assert_code(&folder.run(&engine, &["up", "-d"]), 0);
    assert_code(&folder.run(&engine, &["plan"]), 0);

    assert_code(&folder.run(&engine, &["down"]), 0);
    assert!(get(port).is_none(), "the port still answers");
    let ps = folder.run(&engine, &["stack", "ls", "-q"]);
    assert_eq!(text(&ps.stdout), "");
    // Down again has nothing to do.
    assert_code(&folder.run(&engine, &["down"]), 0);
}

#[test]
fn services_stop_start_and_come_back() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    let folder = Folder::new("name: verbs\nservices:\n  web:\n    image: bargee/hello\n");
    assert_code(&folder.run(&engine, &["up", "-d"]), 0);
    let state = || {
        let ps = folder.run(&engine, &["ps", "--stack", "verbs", "-a", "--format", "{{.State}}"]);
        text(&ps.stdout).trim().to_owned()
    };
    assert_code(&folder.run(&engine, &["stop", "verbs/web"]), 0);
    assert_eq!(state(), "exited");
    assert_code(&folder.run(&engine, &["start", "verbs/web.1"]), 0);
    assert_eq!(state(), "running");
    let wrong = folder.run(&engine, &["stop", "verbs/wbe"]);
    assert_code(&wrong, 1);
    assert!(text(&wrong.stderr).contains("wbe"), "{}", text(&wrong.stderr));
    assert_code(&folder.run(&engine, &["down"]), 0);
}

/// A command on a terminal of its own; the first end reads what it shows.
fn on_a_terminal(mut command: Command) -> (std::process::Child, fs::File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("it is ours");
    unlockpt(&master).expect("it is unlocked");
    let name = ptsname(&master, Vec::new()).expect("it has a name");
    let name = name.into_string().expect("its name is text");
    let slave = || -> OwnedFd {
        fs::File::options().read(true).write(true).open(&name).expect("its other end").into()
    };
    command.stdin(slave()).stdout(slave()).stderr(slave()).env("TERM", "xterm");
    let child = command.spawn().expect("the binary starts");
    (child, fs::File::from(master))
}

#[test]
fn the_foreground_follows_until_ctrl_c_and_exits_with_130() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    let folder = Folder::new("name: front\nservices:\n  web:\n    image: bargee/hello\n");
    let mut command = engine.command(&["up"]);
    command.current_dir(folder.folder.path());
    let (mut child, mut terminal) = on_a_terminal(command);
    let running = wait_for(PATIENCE, || {
        let ps = folder.run(&engine, &["ps", "--stack", "front", "--format", "{{.State}}"]);
        (text(&ps.stdout).trim() == "running").then_some(())
    });
    assert!(running.is_some(), "it does not come up: {}", engine.log());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is signalled");
    let reader = std::thread::spawn(move || {
        let mut shown = Vec::new();
        // The terminal's end is an error (EIO) once the last program on it is gone.
        drop(terminal.read_to_end(&mut shown));
        text(&shown)
    });
    let status = wait_for(PATIENCE, || child.try_wait().expect("a child can be waited for"));
    let shown = reader.join().expect("the reader ends");
    assert_eq!(status.and_then(|status| status.code()), Some(130), "{shown}");
    assert!(shown.contains("Gracefully stopping"), "{shown}");
    assert!(shown.contains("✔ web.1"), "nothing was drawn: {shown}");
    let ps = folder.run(&engine, &["ps", "--stack", "front", "-a", "--format", "{{.State}}"]);
    assert_eq!(text(&ps.stdout).trim(), "exited");
    assert_code(&folder.run(&engine, &["down"]), 0);
}

/// Runs `up -d` on a wrong file; a refusal is quick, exits with 1, and shows place, line and hint.
#[track_caller]
fn refused(engine: &Engine, folder: &Folder, place: &str, excerpt: &str) -> String {
    let start = Instant::now();
    let output = folder.run(engine, &["up", "-d"]);
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    assert_code(&output, 1);
    let message = text(&output.stderr);
    assert!(message.contains(&format!("stack.yaml:{place}")), "no {place} in:\n{message}");
    assert!(message.contains(excerpt), "the line is not shown:\n{message}");
    assert!(message.contains("hint:"), "no hint in:\n{message}");
    let left = folder.run(engine, &["stack", "ls", "-q"]);
    assert_eq!(text(&left.stdout), "", "something was changed");
    message
}

#[test]
fn a_missing_image_and_a_port_in_use_are_shown_at_their_lines() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    let missing = "name: wrong\nservices:\n  web:\n    image: not/here\n    pull_policy: never\n";
    let message = refused(&engine, &Folder::new(missing), "4:12", "image: not/here");
    assert!(message.contains("not/here"), "{message}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let taken = format!(
        "name: wrong\nservices:\n  web:\n    image: bargee/hello\n    ports:\n      - 127.0.0.1:{port}:80\n"
    );
    let message = refused(&engine, &Folder::new(&taken), "6:9", &format!("127.0.0.1:{port}:80"));
    assert!(message.contains("held by"), "{message}");
}

#[test]
fn a_wrong_file_starts_no_engine() {
    let folder = Folder::new("services:\n  web:\n    imgae: a\n");
    let run = folder.folder.path().join("run");
    let output = Command::new(env!("CARGO_BIN_EXE_bargee"))
        .args(["up", "-d"])
        .current_dir(folder.folder.path())
        .env("BARGEE_ROOT", folder.folder.path().join("root"))
        .env("BARGEE_RUN", &run)
        .output()
        .expect("the binary starts");
    assert_code(&output, 1);
    assert!(text(&output.stderr).contains("stack.yaml:3:5"), "{}", text(&output.stderr));
    assert!(!run.exists(), "an engine was started");
}
