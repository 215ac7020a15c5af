//! `bargee run` on a service: a container beside its replicas.

use std::io::Write;
use std::process::Stdio;

use crate::support::engine::{Engine, PATIENCE, possible, wait_for};
use crate::support::folder::{Folder, free_port, text};
use crate::support::terminal::Shown;

const STACK: &str = "
name: tools
services:
  db:
    image: busybox
    command: [sh, -c, 'touch /ready; exec sleep 1000']
    init: true
    stop_grace_period: 1s
    healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms, start_period: 5s, start_interval: 50ms}
  web: {image: busybox, command: [sleep, '1000'], init: true, stop_grace_period: 1s}
  job:
    image: busybox
    profiles: [tools]
    command: [sh, -c, 'echo $$A $$B in $$(pwd) as $$(id -u)']
    working_dir: /tmp
    user: '1000'
    environment: {A: one, B: two}
    restart: always
    ports: ['127.0.0.1:PORT:80']
    volumes: ['data:/data']
    depends_on: {db: {condition: service_healthy}}
volumes: {data: {}}
";

fn tools() -> Option<(Engine, Folder, u16)> {
    if !possible() {
        return None;
    }
    let engine = Engine::start();
    engine.load_busybox("busybox");
    let port = free_port();
    Some((engine, Folder::new(&STACK.replace("PORT", &port.to_string())), port))
}

/// `NAME STATE` of each container of the stack.
fn containers(engine: &Engine, folder: &Folder) -> Vec<String> {
    let words = ["ps", "--stack", "tools", "-a", "--format", "{{.Name}} {{.State}}"];
    folder.ok(engine, &words).lines().map(str::to_owned).collect()
}

#[test]
fn a_run_brings_up_what_the_service_needs_and_nothing_else() {
    let Some((engine, folder, port)) = tools() else { return };
    // Named, a service is there whatever its profiles say.
    let said = folder.ok(&engine, &["-f", "stack.yaml", "run", "--rm", "job"]);
    assert_eq!(said, "one two in /tmp as 1000\n");
    assert_eq!(containers(&engine, &folder), ["tools-db-1 running"]);

    // Command, variables, user and folder over the service's own; the exit code is the program's.
    let words = ["-f", "stack.yaml", "run", "--rm", "-e", "B=2", "-u", "0", "-w", "/", "job"];
    let script = ["sh", "-c", "echo $A $B in $(pwd) as $(id -u); exit 7"];
    assert_eq!(folder.ends(&engine, &[&words[..], &script].concat(), 7), "one 2 in / as 0\n");
    let missing = ["-f", "stack.yaml", "run", "--rm", "job", "nosuch"];
    folder.ends(&engine, &missing, 127);

    // It joins the service's networks under no name of the service, and mounts its volumes.
    let script = "known() { ping -c1 -w1 $1 2>&1 | grep -q ^PING; }; \
                  known db && ! known job && touch /data/seen; ls /data";
    let words = ["-f", "stack.yaml", "run", "--rm", "-u", "0", "job", "sh", "-c", script];
    assert_eq!(folder.ok(&engine, &words), "seen\n");
    // Names come right behind the start.
    let script = "until ping -c1 -w1 job 2>&1 | grep ^PING; do sleep 0.05; done";
    let words = ["-f", "stack.yaml", "run", "--rm", "--use-aliases", "job", "sh", "-c", script];
    assert!(folder.ok(&engine, &words).starts_with("PING job"));

    // Its ports are closed unless they are asked for.
    let detached =
        ["-f", "stack.yaml", "run", "-d", "--name", "one", "--no-deps", "job", "sleep", "1000"];
    let id = folder.ok(&engine, &detached);
    let ports = |name: &str| folder.ok(&engine, &["port", name]);
    assert_eq!((id.trim().len(), ports("one").as_str()), (64, ""));
    let open =
        ["-f", "stack.yaml", "run", "-d", "--name", "two", "-P", "-p", "127.0.0.1::81", "job"];
    folder.ok(&engine, &[&open[..], &["sleep", "1000"]].concat());
    let published = ports("two");
    assert!(published.contains(&format!("80/tcp -> 127.0.0.1:{port}")), "{published}");
    assert!(published.contains("81/tcp -> 127.0.0.1:"), "{published}");

    // A replica comes beside them; what was made by `run` is neither healed nor an orphan, and goes with `down`.
    folder.ok(&engine, &["up", "-d", "--wait"]);
    folder.ends(&engine, &["plan"], 0);
    folder.ok(&engine, &["kill", "one"]);
    assert_eq!(folder.ok(&engine, &["wait", "one"]), "137\n");
    let there = containers(&engine, &folder);
    let expected = ["one exited", "two running", "tools-db-1 running", "tools-web-1 running"];
    assert!(expected.iter().all(|line| there.contains(&(*line).to_owned())), "{there:?}");
    folder.ok(&engine, &["down", "-v", "-t", "1"]);
    assert_eq!(folder.ok(&engine, &["ps", "-aq"]), "");
}

#[test]
fn without_dependencies_nothing_is_started_and_the_kept_stack_is_enough() {
    let Some((engine, folder, _)) = tools() else { return };
    let run = |words: &[&str]| {
        folder.ok(&engine, &[&["-f", "stack.yaml", "run", "--rm"], words].concat())
    };
    assert_eq!(run(&["--no-deps", "--entrypoint", "echo -n", "web", "hello"]), "hello");
    assert_eq!(containers_of_nothing(&engine, &folder), "");
    folder.ok(&engine, &["up", "-d"]);
    // Away from the files, by the stack's name.
    let away = Folder::new("");
    let said =
        away.ok(&engine, &["run", "--stack", "tools", "--rm", "--no-deps", "web", "id", "-u"]);
    assert_eq!(said, "0\n");
    away.ends(&engine, &["--stack", "nosuch", "run", "web"], 1);
    let wrong = away.run(&engine, &["--stack", "tools", "run", "wbe"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("no service wbe; it has db, web"), "{wrong:?}");
    folder.ok(&engine, &["down", "-v", "-t", "1"]);
}

/// The containers of the stack, which nobody keeps yet.
fn containers_of_nothing(engine: &Engine, folder: &Folder) -> String {
    folder.ok(engine, &["ps", "-a", "--filter", "label=com.docker.compose.project=tools", "-q"])
}

#[test]
fn a_run_has_the_input_and_the_terminal_of_its_caller() {
    let Some((engine, folder, _)) = tools() else { return };
    let words = ["-f", "stack.yaml", "run", "--rm", "web", "tr", "a-z", "A-Z"];
    let mut child = folder
        .command(&engine, &words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    child.stdin.take().expect("a pipe").write_all(b"quiet\n").expect("it is read");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "QUIET\n"));

    let words = ["-f", "stack.yaml", "run", "--rm", "web", "sh", "-c", "stty size; read x; exit 5"];
    let mut shown = Shown::run(folder.command(&engine, &words));
    shown.await_text("24 80");
    shown.type_in("go\n");
    shown.ends_with(5);
    folder.ok(&engine, &["down", "-v"]);
}

#[test]
fn a_run_that_cannot_be_changes_nothing() {
    let Some((engine, _, port)) = tools() else { return };
    let missing = format!(
        "name: tools\nservices:\n  web:\n    image: not/here\n    ports: ['127.0.0.1:{port}:80']\n"
    );
    let folder = Folder::new(&missing);
    let refused = folder.run(&engine, &["-f", "stack.yaml", "run", "--rm", "web"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("stack.yaml:4:12") && said.contains("hint:"), "{said}");
    assert_eq!(folder.ok(&engine, &["stack", "ls", "-q"]), "");
    let networks = folder.ok(&engine, &["network", "ls", "--format", "{{.Name}}"]);
    assert!(!networks.contains("tools"), "{networks}");
    // An image's name with a slash stays docker's.
    let docker = folder.run(&engine, &["run", "--pull", "never", "--rm", "not/here"]);
    assert_eq!(docker.status.code(), Some(125), "{}", text(&docker.stderr));
    let gone = wait_for(PATIENCE, || folder.ok(&engine, &["ps", "-aq"]).is_empty().then_some(()));
    assert!(gone.is_some());
}
