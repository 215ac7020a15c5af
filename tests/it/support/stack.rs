//! Stacks of tests, through the API that the command line uses.

use std::collections::BTreeMap;
use std::io;

use bargee::protocol::{
    ApplyOptions, ApplyRequest, DownRequest, Progress, ServiceSelection, StackView, Submission,
};
use bargee::spec::load::{Files, Input, load};
use bargee::spec::name::StackName;
use bargee::spec::stack::Stack;
use bargee::spec::validate::{self, Context};

use super::engine::{Engine, PATIENCE, wait_for};

/// A stack of three that depend on each other.
pub const SHOP: &str = "
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
    let name = text.lines().find_map(|line| line.strip_prefix("name: ")).expect("it has a name");
    let context = Context {
        name: StackName::try_from(name).expect("a name"),
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

/// Returns the request that brings a stack up.
pub fn request(text: &str, options: ApplyOptions) -> ApplyRequest {
    let submission = Submission {
        stack: std::sync::Arc::new(parse(text)),
        sources: Vec::new(),
        variables: BTreeMap::new(),
        source: "/srv/stack.yaml".to_owned(),
    };
    // The plan's text comes with the detail.
    ApplyRequest { submission, options: ApplyOptions { detail: true, ..options } }
}

/// An engine with an image named `busybox`.
#[derive(Debug)]
pub struct Host(pub Engine);

/// How a change went.
#[derive(Debug)]
pub struct Change {
    pub plans: Vec<String>,
    pub ok: bool,
    pub message: String,
}

impl Host {
    pub fn start() -> Self {
        let engine = Engine::start();
        engine.load_busybox("busybox");
        Self(engine)
    }

    pub fn post(&self, path: &str, body: &impl serde::Serialize) -> Change {
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

    pub fn apply(&self, text: &str, options: ApplyOptions) -> Change {
        let request = request(text, options);
        let name = request.submission.stack.name.as_str().to_owned();
        self.post(&format!("/bargee/v1/stacks/{name}/apply"), &request)
    }

    /// Brings a stack up, which must work, and returns the first plan.
    pub fn up(&self, text: &str) -> String {
        let change = self.apply(text, ApplyOptions { wait: true, ..ApplyOptions::default() });
        assert!(change.ok, "{change:?}\n{}", self.0.log());
        assert_eq!(self.plan(text), "", "after an up the plan is empty");
        change.plans.into_iter().next().unwrap_or_default()
    }

    pub fn plan(&self, text: &str) -> String {
        let request = request(text, ApplyOptions::default());
        let path = format!("/bargee/v1/stacks/{}/plan", request.submission.stack.name);
        let body = serde_json::to_value(&request).expect("plain data");
        let answer = self.0.client().post(&path, &body).expect("the engine answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["text"].as_str().expect("a plan has a text").to_owned()
    }

    pub fn down(&self, name: &str) {
        let change = self.post(&format!("/bargee/v1/stacks/{name}/down"), &DownRequest::default());
        assert!(change.ok, "{change:?}\n{}", self.0.log());
    }

    pub fn services(&self, verb: &str, services: &[&str]) -> Change {
        let services = services.iter().map(|word| (*word).to_owned()).collect();
        let selection = ServiceSelection { services, ..ServiceSelection::default() };
        self.post(&format!("/bargee/v1/stacks/shop/{verb}"), &selection)
    }

    pub fn view(&self) -> StackView {
        let answer = self.0.client().get("/bargee/v1/stacks/shop").expect("the engine answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).expect("a view")
    }

    /// Returns id and state of the first replica of a service.
    pub fn replica(&self, service: &str) -> Option<(String, String)> {
        let view = self.view();
        let service = view.services.into_iter().find(|view| view.name == service)?;
        let replica = service.replicas.into_iter().next()?;
        Some((replica.id, replica.state))
    }

    pub fn id(&self, service: &str) -> String {
        self.replica(service).expect("the service has a container").0
    }

    /// Waits until `service` runs in a container that is not `old`.
    pub fn until_replaced(&self, service: &str, old: &str) -> String {
        wait_for(PATIENCE, || {
            self.replica(service).filter(|(id, state)| id != old && state == "running")
        })
        .unwrap_or_else(|| {
            panic!("{service} is not made anew: {:?}\n{}", self.view(), self.0.log())
        })
        .0
    }

    pub fn until_running(&self, service: &str) {
        wait_for(PATIENCE, || self.replica(service).filter(|(_, state)| state == "running"))
            .unwrap_or_else(|| {
                panic!("{service} does not run: {:?}\n{}", self.view(), self.0.log())
            });
    }

    pub fn remove_container(&self, id: &str) {
        let path = format!("/containers/{id}?force=1");
        let answer = self.0.client().send("DELETE", &path, &[], b"").expect("the engine answers");
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    pub fn count(&self, path: &str, key: &str) -> usize {
        let answer = self.0.client().get(path).expect("the engine answers").json();
        let list = if key.is_empty() { answer } else { answer[key].clone() };
        list.as_array().map_or(0, Vec::len)
    }
}
