//! Each verb of a stack, and each of its flags, as a user calls them.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::support::engine::{Engine, possible};
use crate::support::folder::{Folder, text};
use crate::support::terminal::Shown;

const STACK: &str = "
name: shop
services:
  db: {image: busybox, command: [sh, -c, 'echo db up; exec sleep 1000'], init: true, stop_grace_period: 1s, volumes: ['data:/data']}
  web:
    image: busybox
    command: [sh, -c, 'for n in 1 2 3; do echo web $$n; done; exec sleep 1000']
    init: true
    stop_grace_period: 1s
    environment: {WHO: web}
    ports: ['127.0.0.1::80']
    depends_on: {db: {condition: service_started, restart: true}}
    deploy: {replicas: 2}
volumes: {data: {}}
";

fn shop() -> Option<(Engine, Folder)> {
    if !possible() {
        return None;
    }
    let engine = Engine::start();
    engine.load_busybox("busybox");
    let folder = Folder::new(STACK);
    folder.ok(&engine, &["up", "-d"]);
    Some((engine, folder))
}

/// `SERVICE.N STATE` of each container, in order.
fn states(engine: &Engine, folder: &Folder) -> String {
    let words = ["ps", "--stack", "shop", "-a", "--format", "{{.Service}}.{{.Number}} {{.State}}"];
    folder.ok(engine, &words).lines().collect::<Vec<_>>().join(", ")
}

fn started_at(engine: &Engine, folder: &Folder, container: &str) -> String {
    folder.ok(engine, &["inspect", "-f", "{{.State.StartedAt}}", container])
}

const RUNNING: &str = "db.1 running, web.1 running, web.2 running";

#[test]
fn lists_and_looks() {
    let Some((engine, folder)) = shop() else { return };
    let ok = |words: &[&str]| folder.ok(&engine, words);
    let of_shop = |words: &[&str]| folder.ok(&engine, &[&["--stack", "shop"], words].concat());

    // ps
    assert_eq!(of_shop(&["ps", "-q"]).lines().filter(|id| id.len() == 64).count(), 3);
    assert_eq!(of_shop(&["ps", "--services"]), "db\nweb\n");
    assert_eq!(of_shop(&["ps", "web.2", "--format", "{{.Name}}"]), "shop-web-2\n");
    assert_eq!(of_shop(&["ps", "--status", "exited", "-q"]), "");
    assert_eq!(of_shop(&["ps", "--filter", "status=running", "-q"]).lines().count(), 3);
    let table = of_shop(&["ps", "--no-trunc"]);
    assert!(table.starts_with("NAME ") && table.contains("for n in 1 2 3"), "{table}");
    let line = of_shop(&["ps", "db", "--format", "json"]);
    let keys: Vec<&str> =
        line.split(",\"").map(|part| part.split('"').next().expect("a key")).collect();
    let row: Value = serde_json::from_str(&line).expect("one object a line");
    let compose: Vec<&String> = row.as_object().expect("an object").keys().take(20).collect();
    let expected = "Command CreatedAt ExitCode Health ID Image Labels LocalVolumes Mounts Name Names Networks Ports \
                    Project Publishers RunningFor Service Size State Status";
    let expected: Vec<&str> = expected.split(' ').collect();
    assert!(expected.iter().all(|key| row.get(*key).is_some()), "{line}");
    assert_eq!(compose.len(), expected.len(), "{keys:?}");
    let order: Vec<usize> = expected
        .iter()
        .map(|key| line.find(&format!("\"{key}\":")).expect("it is there"))
        .collect();
    assert!(order.is_sorted(), "{line}");
    assert_eq!((&row["Mounts"], &row["Networks"]), (&"shop_data".into(), &"shop_default".into()));

    // stack ls and inspect, inspect, images, port, top
    assert_eq!(ok(&["stack", "ls", "-q"]), "shop\n");
    let stack: Value =
        serde_json::from_str(&ok(&["stack", "ls", "--format", "json"])).expect("JSON");
    assert_eq!((&stack["name"], &stack["status"]), (&"shop".into(), &"running(3)".into()));
    assert_eq!(ok(&["stack", "inspect", "shop", "--format", "{{.revision}}"]), "1\n");
    assert_eq!(ok(&["inspect", "-f", "{{.Name}}", "shop/web.2"]), "/shop-web-2\n");
    assert_eq!(of_shop(&["inspect", "-f", "{{.Config.Image}}", "db"]), "busybox\n");
    assert!(of_shop(&["images"]).contains("busybox"));
    assert!(of_shop(&["images", "-q"]).lines().all(|id| id.len() >= 12));
    let port = of_shop(&["port", "web", "80", "--index", "2"]);
    assert!(port.starts_with("127.0.0.1:"), "{port}");
    assert!(of_shop(&["port", "--protocol", "tcp", "web"]).contains("127.0.0.1:"));
    assert!(of_shop(&["top", "db"]).contains("sleep 1000"));

    // config
    assert_eq!(ok(&["config", "--services"]), "db\nweb\n");
    assert_eq!(ok(&["config", "--volumes"]), "data\n");
    assert_eq!(
        ok(&["config", "--images"]).lines().collect::<BTreeSet<_>>(),
        BTreeSet::from(["busybox"])
    );
    assert_eq!(ok(&["config", "--networks"]), "default\n");
    assert_eq!(ok(&["config", "-q"]), "");
    let config: Value = serde_json::from_str(&ok(&["config", "--format", "json"])).expect("JSON");
    assert_eq!(config["services"]["web"]["environment"]["WHO"], "web");

    // plan
    let plan: Value = serde_json::from_str(&ok(&["plan", "--json"])).expect("JSON");
    assert_eq!(plan["steps"].as_array().map(Vec::len), Some(0));
    folder.write("stack.yaml", &STACK.replace("WHO: web", "WHO: me"));
    let plan = folder.ends(&engine, &["plan", "--no-color"], 2);
    assert!(
        plan.contains("web.1") && plan.contains("2 to replace") && !plan.contains('\u{1b}'),
        "{plan}"
    );
    folder.ok(&engine, &["down", "--stack", "shop"]);
}

#[test]
fn logs_and_events_are_what_was_asked_for() {
    let Some((engine, folder)) = shop() else { return };
    let of_shop = |words: &[&str]| folder.ok(&engine, &[&["--stack", "shop"], words].concat());
    let all = of_shop(&["logs"]);
    assert!(all.contains("db-1   | db up\n") && all.contains("web-2  | web 3\n"), "{all}");
    assert_eq!(of_shop(&["logs", "-n", "1", "--no-log-prefix", "web.1"]), "web 3\n");
    assert_eq!(of_shop(&["logs", "--tail", "1", "--index", "2", "web"]), "web-2  | web 3\n");
    let timed = of_shop(&["logs", "-t", "--no-color", "db"]);
    assert!(timed.contains('T') && timed.contains("Z db up"), "{timed}");
    assert_eq!(of_shop(&["logs", "--until", "1h"]), "");
    assert!(of_shop(&["logs", "--since", "1h", "db"]).contains("db up"));
    let shown = Shown::run(folder.command(&engine, &["--stack", "shop", "logs", "-f", "web.2"]));
    shown.await_text("web 3");
    folder.ok(&engine, &["kill", "--stack", "shop", "-s", "USR1", "db"]);
    folder.ok(&engine, &["stop", "shop/web.2"]);
    shown.ends_with(0);
    // Zero ago is now: what came before is all there is.
    let events = of_shop(&["events", "--json", "--since", "1h", "--until", "0s"]);
    let events: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let seen = |service: &str, action: &str| {
        events.iter().any(|event| {
            event["Actor"]["Attributes"]["com.docker.compose.service"] == service
                && event["Action"] == action
        })
    };
    assert!(seen("db", "create") && seen("web", "start") && seen("db", "kill"), "{events:?}");
    let text = of_shop(&["events", "--since", "1h", "--until", "0s", "web.2"]);
    assert!(text.contains(" container die ") && !text.contains("shop-db-1"), "{text}");
    folder.ok(&engine, &["down"]);
}

#[test]
fn exec_runs_in_a_service() {
    let Some((engine, folder)) = shop() else { return };
    let ok = |words: &[&str]| folder.ok(&engine, words);
    let script = "echo $A $(pwd) $(id -u) $(hostname)";
    let words =
        ["exec", "-T", "-e", "A=b", "-u", "1000", "-w", "/tmp", "shop/web", "sh", "-c", script];
    assert!(ok(&words).starts_with("b /tmp 1000 "));
    let second = ok(&["--stack", "shop", "exec", "--index", "2", "web", "hostname"]);
    let id = ok(&["inspect", "-f", "{{.Id}}", "shop-web-2"]);
    assert!(id.starts_with(second.trim()), "{second} {id}");
    folder.ends(&engine, &["exec", "shop/db", "sh", "-c", "exit 9"], 9);
    folder.ends(&engine, &["exec", "shop/db", "nosuch"], 127);
    ok(&["exec", "-d", "shop/db", "sh", "-c", "mkfifo /gate; read x < /gate; echo $x > /done"]);
    ok(&[
        "exec",
        "shop/db",
        "sh",
        "-c",
        "until [ -p /gate ]; do :; done; echo go > /gate; until [ -s /done ]; do :; done",
    ]);
    assert_eq!(ok(&["exec", "shop/db", "cat", "/done"]), "go\n");
    let script = "until [ \"$(stty size)\" = '24 80' ]; do sleep 0.05; done; echo sized";
    let shown = Shown::run(folder.command(&engine, &["exec", "shop/db", "sh", "-c", script]));
    assert!(shown.ends_with(0).contains("sized"));
    let wrong = folder.run(&engine, &["exec", "shop/wbe", "true"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("its services are db, web"), "{}", text(&wrong.stderr));
    ok(&["down"]);
}

#[test]
fn services_are_stopped_started_and_removed_by_their_verbs() {
    let Some((engine, folder)) = shop() else { return };
    let ok = |words: &[&str]| folder.ok(&engine, words);
    let states = || states(&engine, &folder);
    ok(&["stop", "--stack", "shop", "-t", "1", "web"]);
    assert_eq!(states(), "db.1 running, web.1 exited, web.2 exited");
    ok(&["start", "shop/web.2"]);
    assert_eq!(states(), "db.1 running, web.1 exited, web.2 running");
    ok(&["--stack", "shop", "start"]);
    assert_eq!(states(), RUNNING);

    let before = started_at(&engine, &folder, "shop-web-1");
    ok(&["restart", "--stack", "shop", "--no-deps", "-t", "1", "db"]);
    assert_eq!(started_at(&engine, &folder, "shop-web-1"), before);
    ok(&["restart", "--stack", "shop", "db"]);
    assert_ne!(started_at(&engine, &folder, "shop-web-1"), before, "restart: true is not followed");
    assert_eq!(states(), RUNNING);

    ok(&["pause", "shop/web.1"]);
    assert_eq!(states(), "db.1 running, web.1 paused, web.2 running");
    ok(&["unpause", "--stack", "shop"]);
    assert_eq!(states(), RUNNING);

    // A kill is a wish: there is no restart policy, and the loop leaves it.
    ok(&["kill", "shop/web.1"]);
    assert_eq!(ok(&["wait", "shop-web-1"]), "137\n");
    assert_eq!(states(), "db.1 running, web.1 exited, web.2 running");
    let left = folder.run(&engine, &["rm", "--stack", "shop", "-f", "web"]);
    assert!(
        left.status.success() && text(&left.stderr).contains("web.2"),
        "{}",
        text(&left.stderr)
    );
    assert_eq!(states(), "db.1 running, web.2 running");
    ok(&["rm", "--stack", "shop", "-s", "-v", "-f", "web"]);
    assert_eq!(states(), "db.1 running");
    let json = ok(&["start", "--stack", "shop", "--json"]);
    assert!(json.lines().last().is_some_and(|line| line.contains("\"finished\"")), "{json}");
    ok(&["up", "-d"]);
    assert_eq!(states(), RUNNING);
    ok(&["down", "-t", "1"]);
    assert!(ok(&["volume", "ls", "-q"]).contains("shop_data"));
    ok(&["up", "-d", "db"]);
    ok(&["down", "-v", "--remove-orphans"]);
    assert!(!ok(&["volume", "ls", "-q"]).contains("shop_data"));
}

#[test]
fn up_does_what_its_flags_say() {
    let Some((engine, folder)) = shop() else { return };
    let ok = |words: &[&str]| folder.ok(&engine, words);
    let states = || states(&engine, &folder);
    let id = |name: &str| ok(&["inspect", "-f", "{{.Id}}", name]);

    ok(&["up", "-d", "--scale", "web=1"]);
    assert_eq!(states(), "db.1 running, web.1 running");
    let (db, web) = (id("shop-db-1"), id("shop-web-1"));
    ok(&["up", "-d", "--scale", "web=1", "--force-recreate", "--no-deps", "web", "-t", "1"]);
    assert_eq!(id("shop-db-1"), db);
    assert_ne!(id("shop-web-1"), web);
    let web = id("shop-web-1");
    folder.write("stack.yaml", &STACK.replace("WHO: web", "WHO: me"));
    ok(&["up", "-d", "--scale", "web=1", "--no-recreate"]);
    assert_eq!(id("shop-web-1"), web);
    ok(&["apply", "--scale", "web=1", "--wait"]);
    assert_ne!(id("shop-web-1"), web);

    // A service that left the file goes, unless it is to stay.
    let without =
        STACK.split("  web:").next().expect("a first half").to_owned() + "volumes: {data: {}}\n";
    folder.write("stack.yaml", &without);
    ok(&["up", "-d", "--keep-orphans"]);
    assert_eq!(states(), "db.1 running, web.1 running");
    ok(&["up", "-d"]);
    assert_eq!(states(), "db.1 running");

    // Another folder's stack of this name is no accident only when it is said.
    let other = Folder::new(STACK);
    let refused = other.run(&engine, &["up", "-d"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("--take-over"), "{}", text(&refused.stderr));
    other.ok(&engine, &["up", "-d", "--take-over", "--no-start"]);
    assert_eq!(states(), "db.1 running, web.1 created, web.2 created");
    other.ok(&engine, &["-p", "copy", "up", "-d", "db", "--pull", "never"]);
    assert_eq!(other.ok(&engine, &["-p", "copy", "ps", "--services"]), "db\n");
    other.ok(&engine, &["-p", "copy", "down", "-v"]);

    // Waiting gives up in time, and says for what.
    let ill = "name: ill\nservices:\n  web: {image: busybox, command: [sleep, '1000'], init: true, stop_grace_period: 1s, healthcheck: {test: [CMD, 'false'], interval: 10m}}\n";
    let ill = Folder::new(ill);
    let late = ill.run(&engine, &["up", "--wait-timeout", "1"]);
    assert_eq!(late.status.code(), Some(1), "{}", text(&late.stderr));
    assert!(text(&late.stderr).contains("web"), "{}", text(&late.stderr));
    ill.ok(&engine, &["down"]);
    other.ok(&engine, &["down", "-v"]);

    // What can't be done yet says so.
    for flag in [&["--build"][..], &["--pull", "always"][..]] {
        let refused = folder.run(&engine, &[&["up", "-d"], flag].concat());
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("hint:"), "{}", text(&refused.stderr));
    }
}

/// Runs our own binary without any engine.
fn alone(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bargee"))
        .args(words)
        .env("BARGEE_RUN", "/nonexistent/run")
        .env("BARGEE_ROOT", "/nonexistent/root")
        .output()
        .expect("the binary starts");
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// The verbs that a help lists: two blanks, the name, what it is for.
fn listed(help: &str) -> Vec<String> {
    let verbs = help.split("Options:").next().expect("what comes before the options");
    let lines = verbs.lines().filter_map(|line| line.strip_prefix("  "));
    let names = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    names.filter_map(|line| line.split("  ").next()).map(|name| name.trim().to_owned()).collect()
}

#[test]
fn every_verb_has_a_help_that_says_what_it_is_for() {
    let (code, help, _) = alone(&["--help"]);
    assert_eq!(code, 0);
    let verbs = listed(&help);
    assert!(verbs.len() > 40, "{verbs:?}");
    let mut seen = 0;
    for verb in &verbs {
        let (code, help, said) = alone(&[verb, "--help"]);
        assert_eq!((code, said.as_str()), (0, ""), "{verb}");
        let title = help.lines().next().unwrap_or_default();
        assert!(title.len() > 10 && title.starts_with(char::is_uppercase), "{verb}: {title:?}");
        assert!(help.contains(&format!("Usage: bargee {verb}")), "{help}");
        assert_eq!(alone(&["help", verb]), (0, help.clone(), String::new()));
        for below in help.contains("Commands:").then(|| listed(&help)).into_iter().flatten() {
            let (code, help, _) = alone(&[verb, &below, "--help"]);
            assert!(code == 0 && help.contains(&format!("Usage: bargee {verb} {below}")), "{help}");
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} verbs below others");
    // On a stack a verb has that meaning's own.
    assert!(alone(&["--stack", "x", "logs", "--help"]).1.contains("--no-log-prefix"));
    assert!(alone(&["--stack", "x", "run", "--help"]).1.contains("--no-deps"));
}

#[test]
fn a_wrong_word_is_refused_with_the_right_ones() {
    let (code, _, said) = alone(&["--log-level", "loud", "ps"]);
    assert!(
        code == 125 && said.contains("off, error, warn, info, debug or trace"),
        "{code} {said}"
    );
    let (code, _, said) = alone(&["engine", "--log-level=loud"]);
    assert!(code == 1 && said.contains("off, error, warn, info, debug or trace"), "{code} {said}");
    let (code, _, said) = alone(&["confg"]);
    assert!(code == 125 && said.contains("did you mean config?"), "{code} {said}");
}
