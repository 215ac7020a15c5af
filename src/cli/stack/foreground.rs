//! `up` in the foreground: the logs of all services on one output, until they end or the user ends them.
//!
//! The events of the stack are listened to before anything is changed, so no container is missed. What a
//! container writes is read from its log since `up` began; one that starts again is followed again.

mod again;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep_until, timeout};

use again::LastRun;

use super::ansi::Paint;
use super::convergence::Convergence;
use super::log::{Message, Printer, Selection, Style, follow};
use super::requests;
use super::show::{Display, show};
use super::tell;
use super::wanted::Wanted;
use crate::cli::client::{Client, Lines, Method};
use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::output::printer;
use crate::protocol::{ServiceSelection, StackView};

/// How long a container's last lines may come behind the event of its end.
const LAST_LINES: Duration = Duration::from_millis(200);
/// How long nothing may come of logs that are about to end.
const DRAIN: Duration = Duration::from_secs(2);

/// What the options say about following and ending.
#[derive(Debug)]
pub(crate) struct Foreground {
    pub(crate) followed: Vec<String>,
    /// Empty: the whole stack.
    pub(crate) stopped: Vec<String>,
    pub(crate) no_color: bool,
    pub(crate) prefix: bool,
    pub(crate) timestamps: bool,
    pub(crate) abort_on_exit: bool,
    pub(crate) abort_on_failure: bool,
    pub(crate) exit_code_from: Option<String>,
    pub(crate) timeout: Option<u64>,
}

/// Converges, follows, and stops when told to. Returns the exit code.
///
/// # Errors
/// The change failed, or the connection broke.
pub(crate) async fn run(
    client: &Client,
    wanted: &Wanted,
    convergence: &Convergence,
    options: &Foreground,
) -> Result<u8, CliError> {
    let mut signals = Signals::listen()?;
    let began = now();
    let events = events(client, wanted.name()).await?;
    let lines = requests::apply(client, &convergence.request(wanted, false, None)).await?;
    let title = format!("up {}", wanted.name());
    // `show` is dropped with its stream when the user interrupts.
    let interrupted = tokio::select! {
        shown = show(lines, &title, Display::choose(false), Some(wanted)) => {
            shown?;
            None
        }
        code = signals.next() => Some(code),
    };
    if let Some(code) = interrupted {
        return stop(client, wanted.name(), options, &mut signals, code).await;
    }
    let (sender, receiver) = mpsc::channel(64);
    let mut follower = Follower {
        client,
        stack: wanted.name(),
        options,
        since: format!("{}.{:09}", began.as_secs(), began.subsec_nanos()),
        up_ended: i64::try_from(now().as_nanos()).unwrap_or(i64::MAX),
        printer: Printer::new(style(options)),
        containers: BTreeMap::new(),
        removed: BTreeSet::new(),
        sender,
    };
    let end = follower.follow(events, receiver, &mut signals).await?;
    match end {
        End::AllExited => Ok(exit::OK),
        End::Signalled { code } => stop(client, wanted.name(), options, &mut signals, code).await,
        End::Aborted { code } => {
            tell::note("Aborting on container exit...");
            stop(client, wanted.name(), options, &mut signals, code).await
        }
    }
}

/// Returns the time since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn style(options: &Foreground) -> Style {
    let paint = if options.no_color { Paint::PLAIN } else { Paint::stdout() };
    Style {
        paint,
        prefix: options.prefix,
        timestamps: options.timestamps,
        terminal: printer::is_terminal(),
    }
}

/// Opens the events of the stack's containers.
async fn events(client: &Client, stack: &str) -> Result<Lines, CliError> {
    let label = format!("com.docker.compose.project={stack}");
    let filters = serde_json::json!({ "type": ["container"], "label": [label] }).to_string();
    Ok(client.lines(Method::GET, "/events", &[("filters", filters.as_str())], None).await?)
}

/// Stops what `up` brought up; a second signal kills it. Returns `code`.
async fn stop(
    client: &Client,
    stack: &str,
    options: &Foreground,
    signals: &mut Signals,
    code: u8,
) -> Result<u8, CliError> {
    if code == exit::INTERRUPTED {
        tell::note("Gracefully stopping… (press Ctrl+C again to force)");
    }
    let selection = ServiceSelection {
        services: options.stopped.clone(),
        timeout: options.timeout,
        ..ServiceSelection::default()
    };
    let stopping = async {
        let lines = requests::services(client, stack, "stop", &selection).await?;
        show(lines, &format!("stop {stack}"), Display::choose(false), None).await
    };
    let mut stopping = std::pin::pin!(stopping);
    tokio::select! {
        stopped = &mut stopping => return stopped.map(|()| code),
        _ = signals.next() => {}
    }
    kill(client, stack, &selection).await?;
    // Nothing holds it up any more, and what it stops is gone when it ends.
    stopping.await?;
    Ok(code)
}

/// Kills what is being stopped; the display of the stop tells of its end.
async fn kill(client: &Client, stack: &str, selection: &ServiceSelection) -> Result<(), CliError> {
    let mut lines = requests::services(client, stack, "kill", selection).await?;
    while let Some(line) = lines.next().await? {
        if line["event"] == "finished" && line["ok"] == false {
            let message = line["message"].as_str().unwrap_or("the containers can't be killed");
            return Err(tell::refuse(message, line["hint"].as_str()));
        }
    }
    Ok(())
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(CliError::io("listen to signals"));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Returns the exit code that the next signal stands for. Cancel-safe.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => exit::INTERRUPTED,
            _ = self.terminate.recv() => exit::TERMINATED,
        }
    }
}

/// Why following ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    AllExited,
    Signalled { code: u8 },
    Aborted { code: u8 },
}

/// What is known of a container while it is followed.
#[derive(Debug, Default)]
struct Container {
    service: String,
    /// `web-1`.
    name: String,
    /// Its log is being read.
    reading: bool,
    /// It started again while its log was still being read.
    again: bool,
    /// When it last ended, in Unix seconds with a fraction.
    since: Option<String>,
    /// It ended with this code, which was not told yet.
    ended: Option<Ended>,
    /// Its last end was told.
    told: bool,
    last: LastRun,
    /// Why it runs again, which was not told yet.
    because: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Ended {
    code: i32,
    tell_at: Instant,
}

/// An event of a container, as far as it is used.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "Actor")]
    actor: Actor,
    #[serde(rename = "timeNano", default)]
    time: i64,
}

#[derive(Debug, Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: BTreeMap<String, String>,
}

struct Follower<'a> {
    client: &'a Client,
    stack: &'a str,
    options: &'a Foreground,
    /// When `up` began, in Unix seconds with a fraction.
    since: String,
    /// When it had done its work, in Unix nanoseconds.
    up_ended: i64,
    printer: Printer,
    containers: BTreeMap<String, Container>,
    /// Names of containers that were removed and not made anew.
    removed: BTreeSet<String>,
    sender: Sender<Message>,
}

impl Follower<'_> {
    async fn follow(
        &mut self,
        mut events: Lines,
        mut messages: Receiver<Message>,
        signals: &mut Signals,
    ) -> Result<End, CliError> {
        let view = requests::view(self.client, self.stack).await?;
        self.join_present(&view).await?;
        if let Some(end) = self.end_of(&view) {
            self.drain(&view, &mut messages).await?;
            return Ok(end);
        }
        loop {
            let due = self.containers.values().filter_map(|container| container.ended);
            let due = due.map(|ended| ended.tell_at).min();
            // Cancel-safe: channel, signals and `Lines` keep what was not taken; the time is computed anew.
            let over = tokio::select! {
                message = messages.recv() => self.message(message).await?,
                event = events.next() => match event? {
                    Some(event) => self.event(event).await?,
                    None => return Err(tell::refuse(
                        "the engine ended while its events were followed; containers run on",
                        Some("`bargee logs -f` follows them again"),
                    )),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.tell_ended(Instant::now())?
                }
                code = signals.next() => return Ok(End::Signalled { code }),
            };
            if over {
                let view = requests::view(self.client, self.stack).await?;
                if let Some(end) = self.end_of(&view) {
                    if end == End::AllExited {
                        self.drain(&view, &mut messages).await?;
                    }
                    return Ok(end);
                }
            }
        }
    }

    /// Follows what runs, and reads what ended meanwhile.
    async fn join_present(&mut self, view: &StackView) -> Result<(), CliError> {
        let mut present = Vec::new();
        for service in &view.services {
            if !self.is_followed(&service.name) {
                continue;
            }
            for replica in service.replicas.iter().filter(|replica| !replica.oneoff) {
                let name = format!("{}-{}", service.name, replica.number);
                self.printer.introduce(&name);
                present.push((replica.id.clone(), service.name.clone(), name));
            }
        }
        for (id, service, name) in present {
            self.join(id, service, name).await?;
        }
        Ok(())
    }

    fn is_followed(&self, service: &str) -> bool {
        self.options.followed.iter().any(|followed| followed == service)
    }

    async fn join(&mut self, id: String, service: String, name: String) -> Result<(), CliError> {
        let since = self.containers.get(&id).and_then(|known| known.since.clone());
        let since = since.unwrap_or_else(|| self.since.clone());
        let selection = Selection { since: Some(since), ..Selection::default() };
        match follow(self.client, &id, &selection, self.sender.clone()).await {
            Ok(()) => {
                let known = self.containers.entry(id).or_default();
                (known.service, known.name) = (service, name);
                (known.reading, known.again, known.told) = (true, false, false);
                if let Some(because) = known.because.take() {
                    printer::print(&self.printer.remark(&known.name, &because))?;
                }
                Ok(())
            }
            // Removed between the event and the request.
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Prints lines; returns whether a container is over.
    async fn message(&mut self, message: Option<Message>) -> Result<bool, CliError> {
        match message {
            // The sender lives in `self`.
            None => Ok(false),
            Some(Message::Lines { container, lines }) => {
                self.print(&container, &lines)?;
                Ok(false)
            }
            Some(Message::Ended { container, error }) => {
                if let Some(error) = error {
                    tell::note(&format!("warning: a log broke off: {error}"));
                }
                self.log_ended(&container).await
            }
        }
    }

    fn print(&mut self, id: &str, lines: &[super::log::Line]) -> Result<(), CliError> {
        let Some(container) = self.containers.get(id) else { return Ok(()) };
        let mut bytes = Vec::new();
        for line in lines {
            bytes.extend(self.printer.line(&container.name, line));
        }
        printer::print_bytes(&bytes)
    }

    async fn log_ended(&mut self, id: &str) -> Result<bool, CliError> {
        let Some(container) = self.containers.get_mut(id) else { return Ok(false) };
        container.reading = false;
        if container.again {
            if let Some(ended) = &mut container.ended {
                ended.tell_at = Instant::now();
                self.tell_ended(Instant::now())?;
            }
            let Some(container) = self.containers.get(id) else { return Ok(false) };
            let (service, name) = (container.service.clone(), container.name.clone());
            self.join(id.to_owned(), service, name).await?;
            return Ok(false);
        }
        match &mut container.ended {
            Some(ended) => {
                ended.tell_at = Instant::now();
                self.tell_ended(Instant::now())
            }
            // The event follows.
            None => Ok(true),
        }
    }

    /// Tells of the ends whose last lines were waited for; returns whether there was one.
    fn tell_ended(&mut self, now: Instant) -> Result<bool, CliError> {
        let mut told = false;
        for container in self.containers.values_mut() {
            let Some(ended) = container.ended.filter(|ended| ended.tell_at <= now) else {
                continue;
            };
            container.ended = None;
            (container.told, told) = (true, true);
            let text = format!("exited with code {}", ended.code);
            printer::print(&self.printer.remark(&container.name, &text))?;
        }
        Ok(told)
    }

    async fn event(&mut self, event: Value) -> Result<bool, CliError> {
        let Ok(event) = serde_json::from_value::<Event>(event) else { return Ok(false) };
        let attribute = |name: &str| event.actor.attributes.get(name).map_or("", String::as_str);
        let service = attribute("com.docker.compose.service").to_owned();
        if !self.is_followed(&service) || attribute("com.docker.compose.oneoff") == "True" {
            return Ok(false);
        }
        let name = format!("{service}-{}", attribute("com.docker.compose.container-number"));
        let code = attribute("exitCode").parse().unwrap_or(0);
        // What `up` itself replaced or waited for was told by its progress.
        let of_up = event.time < self.up_ended;
        let known = self.containers.entry(event.actor.id.clone()).or_default();
        (known.service, known.name) = (service.clone(), name.clone());
        known.last.note(&event.action, code);
        match event.action.as_str() {
            // Its log has been read since before.
            "start" if of_up && known.reading => Ok(false),
            "start" => {
                known.because = match self.removed.remove(&name) {
                    true => Some("made anew: the container before it was removed".to_owned()),
                    false => known.last.again().filter(|_| !of_up),
                };
                if let Some(ended) = &mut known.ended {
                    ended.tell_at = Instant::now();
                }
                if known.reading {
                    known.again = true;
                    return Ok(false);
                }
                self.tell_ended(Instant::now())?;
                self.join(event.actor.id, service, name).await?;
                Ok(false)
            }
            "destroy" if !of_up => {
                self.removed.insert(name);
                Ok(false)
            }
            "die" => {
                // The next start is read from here on: what came before was shown.
                let (seconds, rest) = (event.time / 1_000_000_000, event.time % 1_000_000_000);
                known.since = Some(format!("{seconds}.{rest:09}"));
                let wait = if known.reading { LAST_LINES } else { Duration::ZERO };
                known.ended = Some(Ended { code, tell_at: Instant::now() + wait });
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Whether `view` is a state in which there is nothing more to follow.
    fn end_of(&self, view: &StackView) -> Option<End> {
        let replicas: Vec<_> = view
            .services
            .iter()
            .filter(|service| self.is_followed(&service.name))
            .flat_map(|service| service.replicas.iter().map(|replica| (&service.name, replica)))
            .filter(|(_, replica)| !replica.oneoff)
            .collect();
        let exited: Vec<_> = replicas
            .iter()
            .filter(|(_, replica)| replica.state == "exited")
            .map(|(service, replica)| (service.as_str(), replica.exit_code.unwrap_or(0)))
            .collect();
        if let Some(code) = aborts(self.options, &exited) {
            return Some(End::Aborted { code });
        }
        let live = replicas.len() - exited.len();
        (live == 0).then_some(End::AllExited)
    }

    /// Prints what is left of the logs, and with which codes the containers ended.
    async fn drain(
        &mut self,
        view: &StackView,
        messages: &mut Receiver<Message>,
    ) -> Result<(), CliError> {
        while self.containers.values().any(|container| container.reading) {
            // A container that starts again just now has a log without end.
            let Ok(message) = timeout(DRAIN, messages.recv()).await else { break };
            self.message(message).await?;
        }
        for replica in view.services.iter().flat_map(|service| &service.replicas) {
            let Some(container) = self.containers.get_mut(&replica.id) else { continue };
            if let Some(code) = replica.exit_code.filter(|_| !container.told) {
                container.told = true;
                let remark =
                    self.printer.remark(&container.name, &format!("exited with code {code}"));
                printer::print(&remark)?;
            }
        }
        Ok(())
    }
}

/// The exit code with which containers that ended (service and code) end `up`, if they do.
fn aborts(options: &Foreground, exited: &[(&str, i32)]) -> Option<u8> {
    let first = match (options.abort_on_exit, options.abort_on_failure) {
        (true, _) => exited.first(),
        (false, true) => exited.iter().find(|(_, code)| *code != 0),
        (false, false) => None,
    }?;
    let code = match &options.exit_code_from {
        None => first.1,
        // Another one ended: the named one is stopped, which is no failure of its own.
        Some(named) => {
            exited.iter().find(|(service, _)| service == named).map_or(0, |(_, code)| *code)
        }
    };
    Some(u8::try_from(code).unwrap_or(exit::FAILURE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(abort_on_exit: bool, abort_on_failure: bool, from: Option<&str>) -> Foreground {
        Foreground {
            followed: Vec::new(),
            stopped: Vec::new(),
            no_color: false,
            prefix: true,
            timestamps: false,
            abort_on_exit,
            abort_on_failure,
            exit_code_from: from.map(str::to_owned),
            timeout: None,
        }
    }

    #[test]
    fn the_end_of_one_ends_all_only_where_it_was_asked_for() {
        let exited = [("job", 0), ("web", 3)];
        assert_eq!(aborts(&options(false, false, None), &exited), None);
        assert_eq!(aborts(&options(true, false, None), &exited), Some(0));
        assert_eq!(aborts(&options(false, true, None), &exited), Some(3));
        assert_eq!(aborts(&options(false, true, None), &exited[..1]), None);
        assert_eq!(aborts(&options(true, false, Some("web")), &exited), Some(3));
        assert_eq!(aborts(&options(true, false, Some("db")), &exited), Some(0));
        assert_eq!(aborts(&options(true, false, None), &[]), None);
    }
}
