//! A stack as its user meets it: up, plan, down, the foreground, and files that are wrong.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::engine::{Engine, PATIENCE, possible, wait_for};
use crate::support::folder::{Folder, assert_code, free_port, text};
use crate::support::pace::slowed;
use crate::support::terminal::Shown;

fn hello(port: u16, memory: &str) -> String {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/stacks/hello/stack.yaml");
    let text = fs::read_to_string(example).expect("the example is there");
    assert!(text.contains(":8080:80") && text.contains("64m"), "the example changed: {text}");
    text.replace(":8080:80", &format!(":{port}:80")).replace("64m", memory)
}

/// The answer of the web service, whatever it is.
fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(slowed(Duration::from_secs(5)))).ok()?;
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

#[test]
fn replicas_are_replaced_with_a_pause_between_them() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    let stack = "
name: paced
services:
  web:
    image: bargee/hello
    environment: {A: '1'}
    deploy: {replicas: 3, update_config: {parallelism: 1, delay: 700ms}}
";
    let folder = Folder::new(stack);
    folder.ok(&engine, &["up", "-d"]);
    folder.write("stack.yaml", &stack.replace("A: '1'", "A: '2'"));
    let plan = folder.ends(&engine, &["plan"], 2);
    assert!(plan.contains("pause"), "{plan}");
    folder.ok(&engine, &["up", "-d"]);
    let started = |number: u32| -> jiff::Timestamp {
        let words = ["inspect", "-f", "{{.State.StartedAt}}", &format!("paced-web-{number}")];
        folder.ok(&engine, &words).trim().parse().expect("a time")
    };
    for number in [1, 2] {
        let pause = started(number + 1).duration_since(started(number));
        assert!(pause.as_millis() >= 700, "{number}: {pause}");
    }
    folder.ends(&engine, &["plan"], 0);
    folder.ok(&engine, &["down"]);
}

/// Waits until `up` in the foreground has brought the stack's containers to `state`.
#[track_caller]
fn until_state(engine: &Engine, folder: &Folder, stack: &str, state: &str) {
    let reached = wait_for(PATIENCE, || {
        // There is no such stack before `up` made it.
        let ps = folder.run(engine, &["ps", "--stack", stack, "-a", "--format", "{{.State}}"]);
        let shown = text(&ps.stdout);
        (!shown.is_empty() && shown.lines().all(|line| line == state)).then_some(())
    });
    assert!(reached.is_some(), "{stack} is not {state}: {}", engine.log());
}

#[test]
fn the_foreground_follows_until_ctrl_c_and_exits_with_130() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    let folder = Folder::new("name: front\nservices:\n  web:\n    image: bargee/hello\n");
    let shown = Shown::run(folder.command(&engine, &["up"]));
    until_state(&engine, &folder, "front", "running");
    shown.signal(Signal::INT);
    let shown = shown.ends_with(130);
    assert!(shown.contains("Gracefully stopping"), "{shown}");
    assert!(shown.contains("✔ web.1"), "nothing was drawn: {shown}");
    until_state(&engine, &folder, "front", "exited");
    folder.ok(&engine, &["down"]);
}

/// Runs `up -d` on a wrong file; a refusal is quick, exits with 1, and shows place, line and hint.
#[track_caller]
fn refused(engine: &Engine, folder: &Folder, place: &str, excerpt: &str) -> String {
    let start = Instant::now();
    let output = folder.run(engine, &["up", "-d"]);
    assert!(start.elapsed() < slowed(Duration::from_secs(5)), "it took {:?}", start.elapsed());
    assert_code(&output, 1);
    let message = text(&output.stderr);
    assert!(message.contains(place), "no {place} in:\n{message}");
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
    let message = refused(&engine, &Folder::new(missing), "stack.yaml:4:12", "image: not/here");
    assert!(message.contains("not/here"), "{message}");
    for policy in ["missing", "always", "build\n    build: ."] {
        let missing = format!(
            "name: wrong\nservices:\n  web:\n    image: not/here\n    pull_policy: {policy}\n"
        );
        let message = refused(&engine, &Folder::new(&missing), "stack.yaml:", "not/here");
        let networks = engine.bargee(&["network", "ls"]);
        assert!(!text(&networks.stdout).contains("wrong"), "{message}");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let taken = format!(
        "name: wrong\nservices:\n  web:\n    image: bargee/hello\n    ports:\n      - 127.0.0.1:{port}:80\n"
    );
    let message =
        refused(&engine, &Folder::new(&taken), "stack.yaml:6:9", &format!("127.0.0.1:{port}:80"));
    assert!(message.contains("held by"), "{message}");
}

#[test]
fn a_wrong_file_starts_no_engine() {
    let folder = Folder::new("services:\n  web:\n    imgae: a\n");
    let run = folder.path().join("run");
    let output = Command::new(env!("CARGO_BIN_EXE_bargee"))
        .args(["up", "-d"])
        .current_dir(folder.path())
        .env("BARGEE_ROOT", folder.path().join("root"))
        .env("BARGEE_RUN", &run)
        .output()
        .expect("the binary starts");
    assert_code(&output, 1);
    assert!(text(&output.stderr).contains("stack.yaml:3:5"), "{}", text(&output.stderr));
    assert!(!run.exists(), "an engine was started");
}
