//! Docker's verbs on our command line: streams, exit codes, terminals, tables, and the engine that starts by itself.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::clients;
use crate::support::engine::{Engine, PATIENCE, possible, wait_for};
use crate::support::folder::text;
use crate::support::terminal::Shown;

/// Checks the exit code and returns what was printed to standard output.
#[track_caller]
fn printed(output: &Output, code: i32) -> String {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout:\n{stdout}\nstderr:\n{stderr}");
    stdout
}

fn busybox() -> Option<Engine> {
    if !possible() {
        return None;
    }
    let engine = Engine::start();
    engine.load_busybox("busybox");
    Some(engine)
}

#[test]
fn run_passes_output_and_exit_code_on() {
    let Some(engine) = busybox() else { return };
    let run = |words: &[&str]| engine.bargee(&[&["run", "--rm", "busybox"], words].concat());
    assert_eq!(printed(&run(&["echo", "hi"]), 0), "hi\n");
    let both = run(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(printed(&both, 7), "out\n");
    assert_eq!(text(&both.stderr), "err\n");
    printed(&run(&["nosuch"]), 127);
    printed(&run(&["/etc"]), 126);
    printed(&engine.bargee(&["run", "--pull", "never", "nosuch"]), 125);
    printed(&engine.bargee(&["run", "--nonsense", "busybox"]), 125);
    printed(&engine.bargee(&["run", "-d", "--name", "one", "busybox", "sleep", "100"]), 0);
    let again = engine.bargee(&["run", "-d", "--name", "one", "busybox", "true"]);
    printed(&again, 125);
    assert!(text(&again.stderr).contains("is already in use"), "{}", text(&again.stderr));
    printed(&engine.bargee(&["exec", "one", "sh", "-c", "exit 3"]), 3);
    printed(&engine.bargee(&["exec", "one", "nosuch"]), 127);
    printed(&engine.bargee(&["exec", "nosuch", "true"]), 1);
    let left = printed(&engine.bargee(&["ps", "-a", "--format", "{{.Names}}"]), 0);
    assert_eq!(left, "one\n", "--rm left something");
}

#[test]
fn the_end_of_the_input_reaches_the_program_and_its_answer_comes_back() {
    let Some(engine) = busybox() else { return };
    let mut child = engine
        .command(&["run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut input = child.stdin.take().expect("it was piped");
    input.write_all(&vec![b'x'; 1 << 20]).expect("the program reads");
    drop(input);
    let output = child.wait_with_output().expect("it can be waited for");
    let stdout = printed(&output, 0);
    assert_eq!(stdout.len(), (1 << 20) + "end\n".len());
    assert!(stdout.ends_with("xend\n"));
}

#[test]
fn our_own_profile_has_eleven_capabilities() {
    let Some(engine) = busybox() else { return };
    let output = engine.bargee(&["run", "--rm", "busybox", "grep", "CapBnd", "/proc/self/status"]);
    let line = printed(&output, 0);
    let mask = line.split_whitespace().last().expect("a number");
    let mask = u64::from_str_radix(mask, 16).expect("a hexadecimal number");
    // Docker's fourteen (0xa80425fb) without MKNOD, NET_RAW and AUDIT_WRITE.
    assert_eq!(mask, 0x8004_05fb, "{line}");
}

#[test]
fn a_program_on_a_terminal_sees_its_size_and_the_terminal_is_given_back() {
    let Some(engine) = busybox() else { return };
    let script = "stty size; until [ \"$(stty size)\" = '40 100' ]; do sleep 0.05; done; echo grown; read x; exit 5";
    let mut shown =
        Shown::run(engine.command(&["run", "--rm", "-it", "busybox", "sh", "-c", script]));
    shown.await_text("24 80");
    shown.resize(40, 100);
    shown.await_text("grown");
    shown.type_in("go\n");
    shown.ends_with(5);
}

#[test]
fn ctrl_c_reaches_the_program() {
    let Some(engine) = busybox() else { return };
    let script = "trap 'echo caught; exit 9' INT; echo ready; while true; do sleep 0.05; done";
    let mut shown =
        Shown::run(engine.command(&["run", "--rm", "-it", "busybox", "sh", "-c", script]));
    shown.await_text("ready");
    shown.type_in("\x03");
    assert!(shown.ends_with(9).contains("caught"));
}

#[test]
fn the_detach_keys_leave_the_program_running_and_attach_comes_back() {
    let Some(engine) = busybox() else { return };
    let words =
        ["run", "-it", "--name", "shell", "busybox", "sh", "-c", "echo ready; read x; exit 4"];
    let mut shown = Shown::run(engine.command(&words));
    shown.await_text("ready");
    shown.type_in("\x10\x11");
    shown.ends_with(0);
    let state = engine.bargee(&["inspect", "-f", "{{.State.Status}}", "shell"]);
    assert_eq!(printed(&state, 0), "running\n");
    let mut shown = Shown::run(engine.command(&["attach", "shell"]));
    shown.type_in("go\n");
    shown.ends_with(4);
    // A start that fails gives the terminal back too.
    let words = ["run", "--rm", "-it", "busybox", "nosuch"];
    Shown::run(engine.command(&words)).ends_with(127);
}

#[test]
fn tables_are_docker_s_to_the_letter() {
    let Some(engine) = busybox() else { return };
    if clients::docker().is_none() {
        return;
    }
    let run = ["run", "-d", "--name", "web", "-p", "127.0.0.1::80", "-v", "data:/data", "busybox"];
    let program = ["sh", "-c", "echo \"started\"; sleep 1000"];
    printed(&engine.bargee(&[&run[..], &program].concat()), 0);
    printed(&engine.bargee(&["run", "busybox", "false"]), 1);
    printed(&engine.bargee(&["tag", "busybox", "shop/tools:v1"]), 0);
    let verbs = [
        "ps",
        "ps -a",
        "ps -aq",
        "ps -a --no-trunc",
        "images",
        "images -q",
        "port web",
        "logs web",
        "top web",
        "volume ls",
        "network ls",
        "inspect web",
        "image inspect busybox",
        "volume inspect data",
        "network inspect bridge",
        "history busybox",
        "system df",
    ];
    for verb in verbs {
        let words: Vec<&str> = verb.split(' ').collect();
        let both = || {
            let ours = text(&engine.bargee(&words).stdout);
            (ours, engine.docker(&words))
        };
        // Ages may pass a second between the two.
        let same = wait_for(PATIENCE, || {
            let (ours, docker) = both();
            (!docker.is_empty() && ours.trim_end() == docker).then_some(())
        });
        assert!(same.is_some(), "{verb}: ours and docker's\n{:#?}", both());
    }
}

/// A place for an engine that starts by itself; it ends with the test.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: TempDir::with_prefix_in("bargee-auto-", "/dev/shm").expect("a folder") }
    }

    fn command(&self, words: &[&str]) -> Command {
        self.at(&self.folder.path().join("root"), "run", words)
    }

    fn at(&self, root: &Path, run: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bargee"));
        command.args(words).stdin(Stdio::null()).env("BARGEE_ROOT", root);
        command.env("BARGEE_RUN", self.folder.path().join(run));
        command
    }

    fn bargee(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the binary starts")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A failed clean-up shows in the leak check; a panic here would hide the test's own.
        drop(self.command(&["system", "shutdown"]).output());
    }
}

#[test]
fn a_program_finds_itself_and_others_from_its_first_moment() {
    let Some(engine) = busybox() else { return };
    printed(&engine.bargee(&["network", "create", "net"]), 0);
    let other = ["run", "-d", "--name", "other", "--network", "net", "busybox", "sleep", "1000"];
    printed(&engine.bargee(&other), 0);
    for _ in 0..8 {
        for name in ["me", "also", "other"] {
            let run =
                ["run", "--rm", "--name", "me", "--network", "net", "--network-alias", "also"];
            printed(&engine.bargee(&[&run[..], &["busybox", "nslookup", name]].concat()), 0);
        }
    }
}

#[test]
fn commands_at_once_start_one_engine_and_restart_replaces_it() {
    if !possible() {
        return;
    }
    let place = Place::new();
    assert!(text(&place.bargee(&["engine", "status"]).stdout).starts_with("no engine runs"));
    let children: Vec<Child> = (0..4)
        .map(|_| place.command(&["ps", "-q"]).stderr(Stdio::piped()).spawn().expect("it starts"))
        .collect();
    for child in children {
        printed(&child.wait_with_output().expect("it can be waited for"), 0);
    }
    let pid = || {
        let status = printed(&place.bargee(&["engine", "status", "--json"]), 0);
        serde_json::from_str::<serde_json::Value>(&status).expect("it is JSON")["pid"].clone()
    };
    let first = pid();
    printed(&place.bargee(&["engine", "restart"]), 0);
    assert_ne!(pid(), first);
    printed(&place.bargee(&["engine", "stop"]), 0);
    printed(&place.bargee(&["engine", "status"]), 1);
    for verb in ["engine stop", "system shutdown"] {
        let words: Vec<&str> = verb.split(' ').collect();
        assert!(printed(&place.bargee(&words), 0).starts_with("no engine runs"), "{verb}");
    }
}

#[test]
fn an_engine_that_cannot_start_says_why() {
    if !possible() {
        return;
    }
    let place = Place::new();
    printed(&place.bargee(&["ps"]), 0);
    let refused = |root: &Path, run: &str| {
        let output = place.at(root, run, &["ps"]).output().expect("the binary starts");
        printed(&output, 1);
        text(&output.stderr)
    };
    let held = refused(&place.folder.path().join("root"), "second");
    assert!(held.contains("another engine works on this root"), "{held}");
    let file = place.folder.path().join("file");
    fs::write(&file, "").expect("a file is written");
    let wrong = refused(&file, "third");
    assert!(wrong.contains("does not start: cannot create the folder"), "{wrong}");
    assert_eq!(wrong.lines().count(), 1, "{wrong}");
}
