//! What is done under faults. A step that was refused is tried again, and must work then.

use std::time::{Duration, Instant};

use bargee::protocol::{ApplyOptions, DownRequest, Progress};
use serde_json::{Value, json};

use super::calls::PROGRAM;
use super::injector::{Injector, Variant};
use crate::support::engine::{Engine, PATIENCE, wait_for};
use crate::support::http::Answer;
use crate::support::pace::slowed;
use crate::support::stack::request;

/// What went wrong, in words.
pub type Wrong = String;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// A container with a volume, a port and a network: create, start, stop, remove.
    Container,
    /// A stack of three: up, down.
    Stack,
}

impl Scenario {
    pub const ALL: [Self; 2] = [Self::Container, Self::Stack];

    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Stack => "stack",
        }
    }
}

/// An engine that may be killed under us.
#[derive(Debug)]
pub struct Run<'a> {
    pub engine: &'a mut Engine,
    pub injector: &'a Injector,
    pub variant: Variant,
    pub port: u16,
}

/// More tries than one fault can spoil.
const TRIES: usize = 3;

impl Run<'_> {
    pub fn go(&mut self, scenario: Scenario) -> Result<(), Wrong> {
        match scenario {
            Scenario::Container => self.container(),
            Scenario::Stack => self.stack(),
        }
    }

    fn container(&mut self) -> Result<(), Wrong> {
        let port = self.port;
        let network = json!({ "Name": "net" });
        self.step("POST", "/networks/create", &network, &[201, 409])?;
        self.step("POST", "/volumes/create", &json!({ "Name": "data" }), &[201])?;
        let body = json!({
            "Image": "busybox", "Cmd": ["sh", "-c", "echo well > /tmp/index.html; exec httpd -f -p 80 -h /tmp"],
            "Labels": { "of": "faults" },
            "HostConfig": {
                "Init": true, "NetworkMode": "net", "Memory": 64 << 20, "Binds": ["data:/data"],
                "PortBindings": { "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": port.to_string() }] },
            },
        });
        // A kill may have come between the creation and its answer.
        self.step("POST", "/containers/create?name=one", &body, &[201, 409])?;
        self.step("POST", "/containers/one/start", &Value::Null, &[204, 304])?;
        self.start_again_what_was_killed()?;
        self.until("the container serves", |_| serves(port))?;
        self.step("POST", "/containers/one/stop?t=0", &Value::Null, &[204, 304])?;
        self.step("DELETE", "/containers/one?v=1", &Value::Null, &[204, 404])?;
        self.step("DELETE", "/networks/net", &Value::Null, &[204, 404])?;
        self.step("DELETE", "/volumes/data", &Value::Null, &[204, 404])?;
        Ok(())
    }

    /// A program that was killed once all was ready has run, by what its container says: without a policy it stays
    /// exited.
    fn start_again_what_was_killed(&mut self) -> Result<(), Wrong> {
        let hit = self.injector.hit().filter(|point| point.role == PROGRAM);
        if hit.is_none() || self.variant != Variant::Kill {
            return Ok(());
        }
        self.until("the killed program's container is exited", |run| {
            let state = run.ask("GET", "/containers/one/json", &Value::Null).ok()?.json();
            let state = &state["State"];
            (state["Status"] == "exited" && state["ExitCode"] == 137).then_some(())
        })?;
        self.step("POST", "/containers/one/start", &Value::Null, &[204])
    }

    fn stack(&mut self) -> Result<(), Wrong> {
        let text = stack_file(self.port);
        let options =
            ApplyOptions { wait: true, wait_timeout: Some(15), ..ApplyOptions::default() };
        let up = serde_json::to_value(request(&text, options)).expect("plain data");
        self.change("/bargee/v1/stacks/faulty/apply", &up)?;
        let plan = serde_json::to_value(request(&text, ApplyOptions::default())).expect("plain");
        // A dead shim, say, is healed behind the answer.
        self.until("the plan is empty", |run| {
            let answer = run.ask("POST", "/bargee/v1/stacks/faulty/plan", &plan).ok()?;
            (answer.status == 200 && answer.json()["text"] == "").then_some(())
        })?;
        let port = self.port;
        self.until("the stack serves", |_| serves(port))?;
        let down = DownRequest { volumes: true, timeout: Some(0) };
        let down = serde_json::to_value(down).expect("plain data");
        self.change("/bargee/v1/stacks/faulty/down", &down)
    }

    /// Tries a request until it works; each refusal must say why.
    fn step(&mut self, method: &str, path: &str, body: &Value, good: &[u16]) -> Result<(), Wrong> {
        let mut said = Vec::new();
        for _ in 0..TRIES {
            match self.ask(method, path, body) {
                Ok(answer) if good.contains(&answer.status) => return Ok(()),
                Ok(answer) => {
                    let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
                    if message.is_empty() {
                        return Err(format!("{path}: {} without a message", answer.status));
                    }
                    said.push(message);
                }
                Err(gone) => said.push(self.after_a_crash(&gone)?),
            }
        }
        Err(format!("{method} {path} never works: {said:#?}"))
    }

    /// Tries a change of a stack until it works.
    fn change(&mut self, path: &str, body: &Value) -> Result<(), Wrong> {
        let mut said = Vec::new();
        for _ in 0..TRIES {
            match self.ask("POST", path, body) {
                // Of a `down`: the stack went while nobody listened.
                Ok(answer) if answer.status == 404 && !said.is_empty() => return Ok(()),
                Ok(answer) if answer.status == 200 => match outcome(&answer) {
                    Some((true, _)) => return Ok(()),
                    Some((false, message)) if message.is_empty() => {
                        return Err(format!("{path} failed without a message"));
                    }
                    Some((false, message)) => said.push(message),
                    None => said.push(self.after_a_crash("its answer was cut off")?),
                },
                Ok(answer) => said.push(answer.text()),
                Err(gone) => said.push(self.after_a_crash(&gone)?),
            }
        }
        Err(format!("{path} never works: {said:#?}"))
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Answer, Wrong> {
        let stream = std::os::unix::net::UnixStream::connect(self.engine.socket())
            .map_err(|error| format!("cannot connect: {error}"))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [("Content-Type", "application/json")];
        let mut client = crate::support::http::Client::over(stream);
        client
            .send(method, path, &headers, body.as_bytes())
            .map_err(|error| format!("{path}: {error}"))
    }

    /// Starts a clean engine when the last one was killed; else its silence is wrong.
    pub fn after_a_crash(&mut self, said: &str) -> Result<String, Wrong> {
        let killed = self.variant == Variant::Kill
            && self.injector.hit().is_some_and(|point| point.role == "engine");
        let start = Instant::now();
        while !self.engine.has_ended() {
            if !killed || start.elapsed() > slowed(PATIENCE) {
                let containers = self.containers();
                return Err(format!("the engine lives and did not answer: {said}: {containers}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if !killed {
            return Err(format!("the engine ended by itself: {said}"));
        }
        self.engine.launch();
        Ok(said.to_owned())
    }

    fn until(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&mut Self) -> Option<()>,
    ) -> Result<(), Wrong> {
        let start = Instant::now();
        while holds(self).is_none() {
            if start.elapsed() > slowed(PATIENCE) {
                return Err(format!("it never comes that {what}: {}", self.containers()));
            }
            if self.injector.hit().is_some() && self.engine.has_ended() {
                self.after_a_crash("it ended")?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Names and states, for messages.
    fn containers(&self) -> String {
        let answer = match self.ask("GET", "/containers/json?all=1", &Value::Null) {
            Ok(answer) => answer.json(),
            Err(wrong) => return wrong,
        };
        let state = |one: &Value| format!("{} {} {}", one["Names"][0], one["Id"], one["Status"]);
        let all: Vec<String> = answer.as_array().into_iter().flatten().map(state).collect();
        all.join(", ")
    }

    /// Nothing of the scenario is left: no object, and by the check nothing behind them.
    pub fn nothing_is_left(&mut self) -> Result<(), Wrong> {
        let lists = [
            ("/containers/json?all=1", "", 0),
            ("/networks", "", 3),
            ("/volumes", "Volumes", 0),
            ("/bargee/v1/stacks", "", 0),
        ];
        for (path, key, expected) in lists {
            let answer = self.ask("GET", path, &Value::Null)?.json();
            let list = if key.is_empty() { &answer } else { &answer[key] };
            if list.as_array().map_or(0, Vec::len) != expected {
                return Err(format!("{path} is {answer}"));
            }
        }
        self.is_clean()
    }

    /// What a failed teardown left goes by itself, a moment later.
    pub fn is_clean(&mut self) -> Result<(), Wrong> {
        let start = Instant::now();
        loop {
            let answer = self.ask("GET", "/bargee/v1/check", &Value::Null)?;
            match answer.json()["findings"].as_array() {
                Some(list) if list.is_empty() => return Ok(()),
                _ if start.elapsed() < slowed(PATIENCE) => {}
                _ => return Err(format!("the check found {}", answer.text())),
            }
        }
    }
}

/// How a stream of progress ended, if it did.
fn outcome(answer: &Answer) -> Option<(bool, String)> {
    let mut messages = String::new();
    for line in answer.text().lines() {
        match serde_json::from_str(line).ok()? {
            Progress::Failed { message, .. } => messages.push_str(&message),
            Progress::Finished { ok, message, .. } => {
                messages.push_str(&message.unwrap_or_default());
                return Some((ok, messages));
            }
            _ => {}
        }
    }
    None
}

fn serves(port: u16) -> Option<()> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(slowed(Duration::from_secs(2)))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.contains("well").then_some(())
}

fn stack_file(port: u16) -> String {
    format!(
        "
name: faulty
services:
  db:
    image: busybox
    command: [sh, -c, 'touch /ready; exec sleep 1000']
    init: true
    restart: always
    stop_grace_period: 0s
    volumes: ['data:/data']
    healthcheck: {{test: [CMD, test, -e, /ready], interval: 100ms, start_period: 5s, start_interval: 50ms}}
  job:
    image: busybox
    command: ['true']
    depends_on: {{db: {{condition: service_healthy}}}}
  web:
    image: busybox
    command: [sh, -c, 'echo well > /tmp/index.html; exec httpd -f -p 80 -h /tmp']
    init: true
    restart: always
    stop_grace_period: 0s
    ports: ['127.0.0.1:{port}:80']
    depends_on: {{job: {{condition: service_completed_successfully}}}}
volumes: {{data: {{}}}}
"
    )
}

/// Waits until nobody listens on a port that the last round used.
pub fn until_free(port: u16) -> Result<(), Wrong> {
    wait_for(PATIENCE, || std::net::TcpListener::bind(("127.0.0.1", port)).ok())
        .map(drop)
        .ok_or_else(|| format!("port {port} stays in use"))
}
