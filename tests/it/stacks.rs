//! Stacks on a real kernel: brought up, kept, changed, and taken down, through the API that the command line uses.

use std::collections::BTreeMap;
use std::io;

use bargee::protocol::{
    ApplyOptions, ApplyRequest, DownRequest, Progress, ServiceSelection, StackView, Submission,
};
use bargee::spec::load::{Files, Input, load};
use bargee::spec::name::StackName;
use bargee::spec::stack::Stack;
use bargee::spec::validate::{self, Context};

use super::support::engine::{Engine, PATIENCE, possible, wait_for};

/// A stack of three that depend on each other.
const SHOP: &str = "
name: shop
services:
  db:
    image: busybox
    command: [sh, -c, 'touch /ready; exec sleep 1000']
    init: true
    environment: {A: '1'}
    mem_limit: 64m
    stop_grace_period: 1s
    healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms, start_period: 5s, start_interval: 50ms}
  job:
    image: busybox
    command: ['true']
    depends_on: {db: {condition: service_healthy}}
  web:
    image: busybox
    command: [sleep, '1000']
    init: true
    stop_grace_period: 1s
    restart: always
    depends_on:
      db: {condition: service_healthy}
      job: {condition: service_completed_successfully}
";

#[derive(Debug)]
struct NoFiles;

impl validate::Files for NoFiles {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        Err(format!("{path} does not exist"))
    }
}

impl Files for NoFiles {
    fn read(&self, path: &str) -> io::Result<String> {
        Err(io::Error::new(io::ErrorKind::NotFound, path.to_owned()))
    }
}

fn parse(text: &str) -> Stack {
    let input = Input { path: "/srv/stack.yaml".to_owned(), text: text.to_owned() };
    let loaded = load(&[input], &BTreeMap::new(), &NoFiles);
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    let context = Context {
        name: StackName::try_from("shop").expect("a name"),
        home: None,
        working_dir: "/srv",
        config_files: &["/srv/stack.yaml".to_owned()],
        environment: &BTreeMap::new(),
        files: &NoFiles,
        profiles: &[],
        selected: &[],
        sources: &loaded.sources,
    };
    validate::validate(&loaded.root, &context).expect("the test's stack is valid").0
}

fn request(text: &str, options: ApplyOptions) -> ApplyRequest {
    let submission = Submission {
        stack: parse(text),
        sources: Vec::new(),
        variables: BTreeMap::new(),
        source: "/srv/stack.yaml".to_owned(),
    };
    ApplyRequest { submission, options }
}

/// An engine with an image named `busybox`.
struct Host(Engine);

/// How a change went.
#[derive(Debug)]
struct Change {
    plans: Vec<String>,
    ok: bool,
    message: String,
}

impl Host {
    fn start() -> Self {
        let engine = Engine::start();
        engine.load_busybox("busybox");
        Self(engine)
    }

    fn post(&self, path: &str, body: &impl serde::Serialize) -> Change {
        let body = serde_json::to_value(body).expect("plain data");
        let answer = self.0.client().post(path, &body).expect("the engine answers");
        assert_eq!(answer.status, 200, "{path}: {}\n{}", answer.text(), self.0.log());
        let mut change = Change { plans: Vec::new(), ok: false, message: String::new() };
        let mut finished = false;
        for line in answer.text().lines() {
            match serde_json::from_str(line).expect("each line is a progress") {
                Progress::Planned { plan } => change.plans.push(plan.text),
                Progress::Failed { message, .. } => change.message.push_str(&message),
                Progress::Finished { ok, message, .. } => {
                    (change.ok, finished) = (ok, true);
                    change.message.push_str(&message.unwrap_or_default());
                }
                _ => {}
            }
        }
        assert!(finished, "the stream was cut off: {}\n{}", answer.text(), self.0.log());
        change
    }

    fn apply(&self, text: &str, options: ApplyOptions) -> Change {
        let request = request(text, options);
        let name = request.submission.stack.name.as_str().to_owned();
        self.post(&format!("/bargee/v1/stacks/{name}/apply"), &request)
    }

    /// Brings a stack up, which must work, and returns the first plan.
    fn up(&self, text: &str) -> String {
        let change = self.apply(text, ApplyOptions { wait: true, ..ApplyOptions::default() });
        assert!(change.ok, "{change:?}\n{}", self.0.log());
        assert_eq!(self.plan(text), "", "after an up the plan is empty");
        change.plans.into_iter().next().unwrap_or_default()
    }

    fn plan(&self, text: &str) -> String {
        let request = request(text, ApplyOptions::default());
        let path = format!("/bargee/v1/stacks/{}/plan", request.submission.stack.name);
        let body = serde_json::to_value(&request).expect("plain data");
        let answer = self.0.client().post(&path, &body).expect("the engine answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["text"].as_str().expect("a plan has a text").to_owned()
    }

    fn down(&self, name: &str) {
        let change = self.post(&format!("/bargee/v1/stacks/{name}/down"), &DownRequest::default());
        assert!(change.ok, "{change:?}\n{}", self.0.log());
    }

    fn services(&self, verb: &str, services: &[&str]) -> Change {
        let services = services.iter().map(|word| (*word).to_owned()).collect();
        let selection = ServiceSelection { services, ..ServiceSelection::default() };
        self.post(&format!("/bargee/v1/stacks/shop/{verb}"), &selection)
    }

    fn view(&self) -> StackView {
        let answer = self.0.client().get("/bargee/v1/stacks/shop").expect("the engine answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).expect("a view")
    }

    /// Returns id and state of the first replica of a service.
    fn replica(&self, service: &str) -> Option<(String, String)> {
        let view = self.view();
        let service = view.services.into_iter().find(|view| view.name == service)?;
        let replica = service.replicas.into_iter().next()?;
        Some((replica.id, replica.state))
    }

    fn id(&self, service: &str) -> String {
        self.replica(service).expect("the service has a container").0
    }

    /// Waits until `service` runs in a container that is not `old`.
    fn until_replaced(&self, service: &str, old: &str) -> String {
        wait_for(PATIENCE, || {
            self.replica(service).filter(|(id, state)| id != old && state == "running")
        })
        .unwrap_or_else(|| {
            panic!("{service} is not made anew: {:?}\n{}", self.view(), self.0.log())
        })
        .0
    }

    fn until_running(&self, service: &str) {
        wait_for(PATIENCE, || self.replica(service).filter(|(_, state)| state == "running"))
            .unwrap_or_else(|| {
                panic!("{service} does not run: {:?}\n{}", self.view(), self.0.log())
            });
    }

    fn remove_container(&self, id: &str) {
        let path = format!("/containers/{id}?force=1");
        let answer = self.0.client().send("DELETE", &path, &[], b"").expect("the engine answers");
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    fn count(&self, path: &str, key: &str) -> usize {
        let answer = self.0.client().get(path).expect("the engine answers").json();
        let list = if key.is_empty() { answer } else { answer[key].clone() };
        list.as_array().map_or(0, Vec::len)
    }
}

#[test]
fn a_stack_comes_up_in_order_changes_and_goes() {
    if !possible() {
        return;
    }
    let host = Host::start();
    let networks = host.count("/networks", "");
    let plan = host.up(SHOP);
    assert!(plan.contains("db wait until healthy, needed by job"), "{plan}");
    assert_eq!(host.replica("job").map(|(_, state)| state).as_deref(), Some("exited"));
    assert_eq!(host.view().status, "running(2)");
    let (db, web) = (host.id("db"), host.id("web"));

    // A limit changes while it runs.
    let more = SHOP.replace("64m", "128m");
    let plan = host.up(&more);
    assert!(plan.contains("db.1 update, changed: resources.memory 67108864 → 134217728"), "{plan}");
    assert_eq!(host.id("db"), db);

    // The environment does not.
    let other = more.replace("A: '1'", "A: '2'");
    let plan = host.up(&other);
    assert!(plan.contains("spec changed: environment.A 1 → 2"), "{plan}");
    assert_ne!(host.id("db"), db);
    assert_eq!(host.id("web"), web);

    // What leaves the file goes.
    let (less, _) = other.split_once("  web:").expect("the stack has a web");
    let plan = host.up(less);
    assert!(plan.contains("web.1 remove, orphaned"), "{plan}");
    assert_eq!(host.replica("web"), None);

    host.down("shop");
    assert_eq!(host.count("/containers/json?all=1", ""), 0);
    assert_eq!(host.count("/networks", ""), networks);
    let gone = host.0.client().get("/bargee/v1/stacks/shop").expect("the engine answers");
    assert_eq!(gone.status, 404, "{}", gone.text());
}

#[test]
fn what_was_removed_or_killed_by_hand_is_healed() {
    if !possible() {
        return;
    }
    let mut host = Host::start();
    host.up(SHOP);
    let web = host.id("web");
    host.remove_container(&web);
    let web = host.until_replaced("web", &web);

    // By its policy, in the same container.
    let top = host.0.client().get(&format!("/containers/{web}/json")).expect("an answer").json();
    let pid = i32::try_from(top["State"]["Pid"].as_i64().expect("a pid")).expect("a pid");
    let process = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("it runs");
    wait_for(PATIENCE, || {
        let path = format!("/containers/{web}/json");
        let state = host.0.client().get(&path).ok()?.json()["State"].clone();
        (state["Running"] == true && state["Pid"] != pid).then_some(())
    })
    .unwrap_or_else(|| panic!("not started again\n{}", host.0.log()));

    // While the engine is away.
    let db = host.id("db");
    host.0.kill();
    std::fs::remove_dir_all(host.0.root().join("containers").join(&db)).expect("its folder");
    host.0.launch();
    host.until_replaced("db", &db);
    host.until_running("web");
}

#[test]
fn an_engine_that_dies_half_way_goes_on_where_it_was() {
    if !possible() {
        return;
    }
    let mut host = Host::start();
    // The database becomes healthy when the test says so; by then another engine is at work.
    let gate = host.0.folder().join("gate");
    std::fs::create_dir(&gate).expect("a folder");
    let text = SHOP
        .replace("touch /ready; exec", "exec")
        .replace("-e, /ready]", "-e, /gate/ready]")
        .replace(
            "    environment:",
            &format!("    volumes: ['{}:/gate']\n    environment:", gate.display()),
        );
    let request = request(&text, ApplyOptions::default());
    let body = serde_json::to_vec(&request).expect("plain data");
    let mut client = host.0.client();
    client.write("POST", "/bargee/v1/stacks/shop/apply", &[], &body).expect("it is sent");
    wait_for(PATIENCE, || {
        let answer = host.0.client().get("/bargee/v1/stacks/shop").ok()?;
        let view: StackView = serde_json::from_slice(&answer.body).ok()?;
        let db = view.services.into_iter().find(|service| service.name == "db")?;
        db.replicas.first().filter(|replica| replica.state == "running").map(drop)
    })
    .unwrap_or_else(|| panic!("the database does not run\n{}", host.0.log()));
    host.0.kill();
    std::fs::write(gate.join("ready"), "").expect("the gate opens");
    host.0.launch();
    host.until_running("web");
    assert_eq!(host.plan(&text), "");
}

#[test]
fn a_stop_is_remembered_and_a_start_forgets_it() {
    if !possible() {
        return;
    }
    let mut host = Host::start();
    host.up(SHOP);
    let web = host.id("web");
    assert!(host.services("stop", &["web"]).ok);
    assert_eq!(host.replica("web"), Some((web.clone(), "exited".to_owned())));
    host.0.kill();
    host.0.launch();
    // Another service's change makes the loop look; it must leave the stopped one alone.
    let db = host.id("db");
    host.remove_container(&db);
    host.until_replaced("db", &db);
    assert_eq!(host.replica("web"), Some((web.clone(), "exited".to_owned())));

    // What was stopped and then removed stays away, as `docker compose down` expects.
    host.remove_container(&web);
    let db = host.id("db");
    host.remove_container(&db);
    host.until_replaced("db", &db);
    assert_eq!(host.replica("web"), None);
    let started = host.services("start", &["web"]);
    assert!(started.ok, "{started:?}");
    host.until_running("web");
}

#[test]
fn waiting_fails_when_a_service_cannot_become_ready() {
    if !possible() {
        return;
    }
    let host = Host::start();
    let text = "name: shop\nservices: {job: {image: busybox, command: [sh, -c, exit 3]}}";
    let change = host.apply(text, ApplyOptions { wait: true, ..ApplyOptions::default() });
    assert!(!change.ok, "{change:?}");
    assert_eq!(change.message, "container shop-job-1 exited with 3");
}

#[test]
fn a_problem_is_told_and_changes_nothing() {
    if !possible() {
        return;
    }
    let host = Host::start();
    let text = "name: shop\nservices: {web: {image: busybox, pull_policy: never}, \
                other: {image: nowhere, pull_policy: never}}";
    let change = host.apply(text, ApplyOptions::default());
    assert!(!change.ok);
    assert!(
        change.message.contains("other: image nowhere is not here and its pull policy forbids"),
        "{change:?}"
    );
    assert_eq!(host.count("/containers/json?all=1", ""), 0);
    let unknown = host.0.client().post("/bargee/v1/stacks/none/down", &serde_json::json!({}));
    let unknown = unknown.expect("the engine answers");
    assert_eq!(
        (unknown.status, unknown.json()["message"].as_str()),
        (404, Some("no such stack: none"))
    );
    assert!(unknown.json()["hint"].is_string(), "{}", unknown.text());
}

#[test]
fn another_files_stack_is_not_replaced_by_accident() {
    if !possible() {
        return;
    }
    let host = Host::start();
    let text =
        "name: shop\nservices: {web: {image: busybox, command: [sleep, '1000'], init: true}}";
    host.up(text);
    let mut other = request(text, ApplyOptions::default());
    other.submission.source = "/elsewhere/stack.yaml".to_owned();
    let body = serde_json::to_value(&other).expect("plain data");
    let answer = host.0.client().post("/bargee/v1/stacks/shop/apply", &body).expect("an answer");
    assert_eq!(answer.status, 409, "{}", answer.text());
    other.options.take_over = true;
    assert!(host.post("/bargee/v1/stacks/shop/apply", &other).ok);
    assert_eq!(host.view().source, "/elsewhere/stack.yaml");
}
