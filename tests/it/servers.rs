//! Stacks of real servers: nginx, PostgreSQL and Redis out of Debian's packages, under the names of the
//! public images; a program without memory; sixty services; every example.
//!
//! Each test plays host in a network namespace of its own, so that all may publish the same ports.
#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::support::engine::{self, Engine};
use super::support::pace::slowed;

/// Real servers make their databases and answer their health checks within this time on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A public image's names, and the root file system that stands for it.
const IMAGES: [(&str, &[&str]); 5] = [
    ("busybox", &["busybox"]),
    ("nginx", &["nginx:alpine"]),
    ("postgres", &["postgres:17"]),
    ("redis", &["redis:7", "redis:7-alpine"]),
    ("app", &["visits"]),
];

/// Returns the folder of root file systems, made once for all tests and kept between runs.
fn image_folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images/make-servers.sh");
        let output = Command::new(script).output().expect("the script starts");
        let said = String::from_utf8_lossy(&output.stderr);
        // Without Debian's packages there are no servers; anything else is a mistake of the script.
        if said.contains("mmdebstrap: command not found") {
            eprintln!("skipped: mmdebstrap is not installed");
            return None;
        }
        assert!(output.status.success(), "{said}");
        Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
    };
    FOLDER.get_or_init(make).as_deref()
}

/// A machine of one test: a network namespace, an engine in it, and a folder for stack files.
struct Machine {
    engine: Engine,
    folder: TempDir,
}

impl Machine {
    /// Returns one with the given images, or nothing where that cannot be.
    fn with(images: &[&str]) -> Option<Self> {
        if !engine::possible() {
            return None;
        }
        let archives = image_folder()?;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root makes namespaces");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.expect("iproute2 is installed").success());
        let folder = TempDir::with_prefix("stack-").expect("a temporary folder");
        let machine = Self { engine: Engine::start(), folder };
        for (archive, names) in IMAGES.iter().filter(|(archive, _)| images.contains(archive)) {
            machine.import(archives, archive, names);
        }
        Some(machine)
    }

    fn import(&self, archives: &Path, archive: &str, names: &[&str]) {
        let changes = fs::read_to_string(archives.join(format!("{archive}.changes")))
            .expect("an archive has changes");
        let tar = archives.join(format!("{archive}.tar"));
        let mut words = vec!["import"];
        words.extend(changes.lines().flat_map(|change| ["--change", change]));
        words.extend([tar.to_str().expect("the path is text"), names[0]]);
        self.succeeds(&words);
        for name in &names[1..] {
            self.succeeds(&["tag", names[0], name]);
        }
    }

    fn write(&self, text: &str) {
        fs::write(self.folder.path().join("stack.yaml"), text).expect("the stack is written");
    }

    /// Runs a command in the stack's folder.
    fn run_in(&self, folder: &Path, words: &[&str]) -> Output {
        let bargee = self.engine.command(words);
        // A command that waits for what never comes is a failure to be told, not one to wait for.
        let mut command = Command::new("timeout");
        command.arg(slowed(PATIENCE).as_secs().to_string()).arg(bargee.get_program()).args(words);
        command.envs(bargee.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(folder).env("HOME", "/root").env_remove("BARGEE_LOG");
        command.output().expect("coreutils are installed")
    }

    fn run(&self, words: &[&str]) -> Output {
        self.run_in(self.folder.path(), words)
    }

    #[track_caller]
    fn succeeds(&self, words: &[&str]) -> String {
        succeeded(words, self.run(words), &self.engine)
    }

    /// The plan is empty: nothing is left to do.
    #[track_caller]
    fn assert_settled(&self, folder: &Path) {
        let output = self.run_in(folder, &["plan"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "there is something to do:\n{said}");
    }

    /// The ids of all containers, by their names.
    fn containers(&self) -> Vec<(String, String)> {
        let answer = self.engine.client().get("/containers/json?all=1").expect("an answer");
        let list: Value = serde_json::from_str(&answer.text()).expect("a list of containers");
        let mut found: Vec<(String, String)> = list
            .as_array()
            .expect("a list")
            .iter()
            .map(|it| (text(&it["Names"][0]), text(&it["Id"])))
            .collect();
        found.sort();
        found
    }

    fn inspect(&self, name: &str) -> Value {
        let answer =
            self.engine.client().get(&format!("/containers/{name}/json")).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_str(&answer.text()).expect("a container")
    }
}

#[track_caller]
fn succeeded(words: &[&str], output: Output, engine: &Engine) -> String {
    assert!(
        output.status.success(),
        "bargee {words:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        engine.log()
    );
    String::from_utf8(output.stdout).expect("text is printed")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// Asks a web server of this namespace; `None` while it does not answer with 200.
fn fetch(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(slowed(Duration::from_secs(5)))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).filter(|status| *status == "200")?;
    Some(body.to_owned())
}

/// Waits until `look` finds something.
#[track_caller]
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < slowed(PATIENCE), "not within {:?}: {what}", slowed(PATIENCE));
        std::thread::sleep(Duration::from_millis(20));
    }
}

const SHOP: &str = "\
name: shop
services:
  proxy:
    image: nginx:alpine
    ports: ['127.0.0.1:8080:80']
    networks: [front]
    configs: [{source: proxy, target: /etc/nginx/conf.d/default.conf}]
    depends_on: {app: {condition: service_healthy}}
  app:
    image: visits
    networks: [front, back]
    environment: {DATABASE_PASSWORD: hush}
    stop_signal: SIGINT
    depends_on:
      db: {condition: service_healthy}
      cache: {condition: service_healthy}
    healthcheck:
      test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1:8000/healthz']
      interval: 500ms
      timeout: 5s
      retries: 60
  db:
    image: postgres:17
    networks: [back]
    environment: {POSTGRES_USER: app, POSTGRES_DB: app, POSTGRES_PASSWORD: hush}
    volumes: ['data:/var/lib/postgresql/data']
    healthcheck:
      test: [CMD, pg_isready, -h, 127.0.0.1, -U, app]
      interval: 500ms
      timeout: 5s
      retries: 120
  cache:
    image: redis:7-alpine
    networks: [back]
    healthcheck: {test: [CMD, redis-cli, ping], interval: 500ms, timeout: 5s, retries: 60}
networks:
  front: {}
  back: {internal: true}
volumes:
  data: {}
configs:
  proxy:
    content: 'server { listen 80; location / { proxy_pass http://app:8000; } }'
";

fn visit() -> Value {
    let body = eventually("the shop answers", || fetch(8080, "/"));
    serde_json::from_str(&body).expect("the app answers in JSON")
}

#[test]
fn a_shop_of_four_real_servers_starts_in_order_serves_and_keeps_its_data() {
    let Some(machine) = Machine::with(&["nginx", "postgres", "redis", "app"]) else { return };
    machine.write(SHOP);
    machine.succeeds(&["up", "-d", "--wait"]);
    let happened = |name: &str, action: &str| {
        let filter = format!("container={name}");
        let words = ["events", "--since", "0", "--until", "0s", "--format", "json", "-f", &filter];
        let events = machine.succeeds(&words);
        let mut events =
            events.lines().map(|line| serde_json::from_str::<Value>(line).expect("a JSON line"));
        let event = events.find(|event| event["Action"] == action);
        event.unwrap_or_else(|| panic!("{name}: no {action}"))["timeNano"].as_i64().expect("a time")
    };
    let waits = [
        ("shop-db-1", "shop-app-1"),
        ("shop-cache-1", "shop-app-1"),
        ("shop-app-1", "shop-proxy-1"),
    ];
    for (first, then) in waits {
        let healthy = happened(first, "health_status: healthy");
        assert!(healthy < happened(then, "start"), "{then} did not wait for {first}'s health");
    }
    assert_eq!(visit()["database"], 1);
    assert_eq!(visit()["database"], 2);
    assert_eq!(visit()["cache"], 3);
    machine.assert_settled(machine.folder.path());

    machine.succeeds(&["down"]);
    assert!(fetch(8080, "/").is_none(), "it is served after down");
    machine.succeeds(&["up", "-d", "--wait"]);
    let after = visit();
    assert_eq!(after["database"], 4, "the volume was not kept");
    assert_eq!(after["cache"], 1, "the cache has no volume of a name");
    machine.succeeds(&["down", "-v"]);
    assert!(machine.containers().is_empty());
}

#[test]
fn a_program_above_its_memory_limit_is_killed_restarted_and_said_to_be_oom() {
    let Some(machine) = Machine::with(&["busybox"]) else { return };
    machine.write(
        "name: hog\nservices:\n  hog:\n    image: busybox\n    command: [tail, /dev/zero]\n    mem_limit: 64m\n    \
         memswap_limit: 64m\n    restart: always\n",
    );
    machine.succeeds(&["up", "-d"]);
    eventually("it is restarted after an OOM kill", || {
        let state = machine.inspect("hog-hog-1");
        (state["RestartCount"].as_u64()? >= 1).then_some(())
    });
    eventually("ps says OOM", || {
        let listed = machine.succeeds(&["--stack", "hog", "ps", "-a"]);
        listed.to_ascii_lowercase().contains("oom").then_some(())
    });
    let events = machine.succeeds(&["events", "--since", "0", "--until", "0s"]);
    assert!(events.to_ascii_lowercase().contains("oom"), "{events}");
    machine.succeeds(&["down"]);
}

/// Brings up, and again, and looks whether the second time touched anything.
fn bring_up_twice(machine: &Machine, services: usize) {
    machine.succeeds(&["up", "-d"]);
    let before = machine.containers();
    assert_eq!(before.len(), services);
    machine.assert_settled(machine.folder.path());
    let started = |name: &str| machine.inspect(name)["State"]["StartedAt"].clone();
    let times: Vec<Value> = before.iter().map(|(name, _)| started(&name[1..])).collect();
    machine.succeeds(&["up", "-d"]);
    assert_eq!(machine.containers(), before);
    let again: Vec<Value> = before.iter().map(|(name, _)| started(&name[1..])).collect();
    assert_eq!(again, times, "a container was restarted");
    machine.assert_settled(machine.folder.path());
    machine.succeeds(&["down"]);
    assert!(machine.containers().is_empty());
}

fn sleepers(depends: impl Fn(usize) -> Option<usize>) -> String {
    let mut text = "name: sixty\nservices:\n".to_owned();
    for number in 0..60 {
        text.push_str(&format!(
            "  s{number}:\n    image: busybox\n    command: [sleep, '1000']\n    stop_signal: SIGKILL\n"
        ));
        if let Some(other) = depends(number) {
            text.push_str(&format!("    depends_on: [s{other}]\n"));
        }
    }
    text
}

#[test]
fn sixty_services_that_need_one_come_up_and_a_second_up_changes_nothing() {
    let Some(machine) = Machine::with(&["busybox"]) else { return };
    machine.write(&sleepers(|number| (number > 0).then_some(0)));
    bring_up_twice(&machine, 60);
}

#[test]
fn sixty_services_in_a_chain_come_up_and_a_second_up_changes_nothing() {
    let Some(machine) = Machine::with(&["busybox"]) else { return };
    machine.write(&sleepers(|number| number.checked_sub(1)));
    bring_up_twice(&machine, 60);
}

#[test]
fn every_example_loads_plans_and_comes_up() {
    let Some(machine) = Machine::with(&["busybox", "nginx", "postgres", "redis"]) else { return };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/stacks");
    let mut folders: Vec<PathBuf> = fs::read_dir(examples)
        .expect("there are examples")
        .map(|entry| entry.expect("a folder is listed").path())
        .collect();
    folders.sort();
    for folder in folders {
        let run = |words: &[&str]| machine.run_in(&folder, words);
        let planned = run(&["plan"]);
        let said = String::from_utf8_lossy(&planned.stderr).into_owned();
        assert_eq!(planned.status.code(), Some(2), "{}: {said}", folder.display());
        succeeded(&["up", "-d"], run(&["up", "-d"]), &machine.engine);
        machine.assert_settled(&folder);
        // All but the toml one, which chooses its port, and the profiles, which publish none by default.
        let text = ["stack.yaml", "stack.toml"]
            .iter()
            .find_map(|name| fs::read_to_string(folder.join(name)).ok())
            .expect("an example is a stack");
        if text.contains("127.0.0.1:8080:") {
            eventually(&format!("{} answers", folder.display()), || fetch(8080, "/"));
        }
        succeeded(&["down", "-v"], run(&["down", "-v"]), &machine.engine);
        assert!(machine.containers().is_empty(), "{} left containers", folder.display());
    }
}
