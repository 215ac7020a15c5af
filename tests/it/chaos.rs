//! Rounds of random faults against stacks that run or are on their way. Each round must end as it was asked for, by
//! itself and soon, and nothing may be left over.
//!
//! `BARGEE_CHAOS_SEED` repeats a run, `BARGEE_CHAOS_ROUNDS` sets its length.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bargee::engine::paths::Paths;
use rustix::process::{Pid, Signal, kill_process};

use super::recovery::keeper_of;
use super::support::engine::{possible, wait_for};
use super::support::folder::free_port;
use super::support::http::Client;
use super::support::kept::Kept;
use super::support::pace::slowed;

/// The bar for the slowest round.
const WORST: Duration = Duration::from_secs(15);
/// The bar for the round in the middle.
const MEDIAN: Duration = Duration::from_secs(3);
/// A keeper whose engine crashes a third time within a minute freezes the stacks, as it should.
const CRASHES: usize = 2;
const WITHIN: Duration = Duration::from_secs(61);

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("it is below a usize")
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        (!all.is_empty()).then(|| &all[self.below(all.len())])
    }

    fn pause(&mut self, most: u64) {
        let pause = self.next() % (most + 1);
        std::thread::sleep(Duration::from_millis(pause));
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Engine,
    Keeper,
    EngineAndKeeper,
    Netd,
    Shim,
    Init,
    ClientInUp,
    FourUps,
    DownAgainstUp,
    Bridge,
    Link,
    Rules,
    Pin,
    Mounts,
    PauseEngine,
    PauseShim,
    PauseNetd,
    RestartStorm,
    Remove,
}

const FAULTS: [Fault; 19] = [
    Fault::Engine,
    Fault::Keeper,
    Fault::EngineAndKeeper,
    Fault::Netd,
    Fault::Shim,
    Fault::Init,
    Fault::ClientInUp,
    Fault::FourUps,
    Fault::DownAgainstUp,
    Fault::Bridge,
    Fault::Link,
    Fault::Rules,
    Fault::Pin,
    Fault::Mounts,
    Fault::PauseEngine,
    Fault::PauseShim,
    Fault::PauseNetd,
    Fault::RestartStorm,
    Fault::Remove,
];

/// A stack file and what was asked of it.
struct Stack {
    name: &'static str,
    port: u16,
    file: PathBuf,
    /// What may be wanted: what was asked for last, and what was before if nobody said that it was heard.
    texts: Vec<String>,
    may_be_down: bool,
    /// An `up` succeeded.
    heard: bool,
}

impl Stack {
    fn text(&self, round: u64) -> String {
        let Self { name, port, .. } = self;
        format!(
            "
name: {name}
services:
  db:
    image: busybox
    command: [sh, -c, 'touch /data/ready; exec sleep 100000']
    init: true
    restart: always
    stop_grace_period: 1s
    volumes: ['data:/data']
    healthcheck: {{test: [CMD, test, -e, /data/ready], interval: 100ms}}
  web:
    image: busybox
    command: [sh, -c, 'echo well > /tmp/index.html; exec httpd -f -p 80 -h /tmp']
    init: true
    restart: always
    stop_grace_period: 1s
    environment: {{ROUND: '{round}'}}
    deploy: {{replicas: 2}}
    ports: ['{port}:80']
    networks: [front, default]
    depends_on: {{db: {{condition: service_healthy}}}}
networks: {{front: {{}}}}
volumes: {{data: {{}}}}
"
        )
    }
}

struct Chaos {
    kept: Kept,
    random: Random,
    stacks: Vec<Stack>,
    /// Running commands, with the stack that is up when they succeed.
    clients: Vec<(Child, Option<usize>)>,
    crashes: VecDeque<Instant>,
    keeper: Option<i64>,
}

impl Drop for Chaos {
    fn drop(&mut self) {
        for (client, _) in &mut self.clients {
            drop(client.kill());
            drop(client.wait());
        }
        for stack in &self.stacks {
            drop(self.kept.host.0.bargee(&["down", "-v", "--stack", stack.name]));
        }
    }
}

fn signal(pid: i64, signal: Signal) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}

fn number_in(path: PathBuf) -> Option<i64> {
    std::fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

fn quiet(program: &str, words: &[&str]) {
    drop(Command::new(program).args(words).output());
}

impl Chaos {
    fn start(seed: u64) -> Self {
        let kept = Kept::start();
        let folder = kept.host.0.folder().to_owned();
        let stacks = ["one", "two"].map(|name| Stack {
            name,
            port: free_port(),
            file: folder.join(format!("{name}.yaml")),
            texts: Vec::new(),
            may_be_down: false,
            heard: false,
        });
        Self {
            kept,
            random: Random(seed),
            stacks: stacks.into(),
            clients: Vec::new(),
            crashes: VecDeque::new(),
            keeper: None,
        }
    }

    fn paths(&self) -> Paths {
        Paths::new(self.kept.host.0.root(), self.kept.host.0.run())
    }

    /// Starts our command line and lets it run.
    fn spawn(&mut self, words: &[&str], up: Option<usize>) {
        let command = &mut self.kept.host.0.command(words);
        let log = File::options().append(true).create(true).open(self.client_log());
        let log = log.expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.clients.push((command.spawn().expect("the binary starts"), up));
    }

    fn up(&mut self, number: usize) {
        let file = self.stacks[number].file.display().to_string();
        self.spawn(&["up", "-d", "-f", &file], Some(number));
    }

    /// Writes the file that is wanted from now on, which may be the same as before.
    fn want(&mut self, number: usize, round: u64) {
        let stack = &mut self.stacks[number];
        let text = stack.text(round);
        std::fs::write(&stack.file, &text).expect("a file is written");
        if stack.texts.last() != Some(&text) {
            stack.texts.push(text);
        }
    }

    /// Containers that have a run folder, which needs no engine to be told.
    fn containers(&self) -> Vec<String> {
        let folder = self.kept.host.0.run().join("containers");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    fn shim(&self, container: &str) -> Option<i64> {
        let folder = self.kept.host.0.run().join("containers").join(container);
        let pid = number_in(folder.join("shim.pid"))?;
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        line.contains(container).then_some(pid)
    }

    fn init(&self, container: &str) -> Option<i64> {
        let shim = self.shim(container)?;
        number_in(format!("/proc/{shim}/task/{shim}/children").into())
    }

    fn some_container(&mut self) -> Option<String> {
        let all = self.containers();
        self.random.pick(&all).cloned()
    }

    fn netd(&self) -> Option<i64> {
        number_in(self.kept.host.0.run().join("netd/netd.pid"))
            .filter(|pid| parent_is_known(*pid, "__netd"))
    }

    /// Returns the engine's pid, once there is one. It may be stopped.
    fn engine(&self) -> i64 {
        let pid = wait_for(WORST, || self.running_engine());
        pid.unwrap_or_else(|| panic!("no engine runs\n{}", self.last_words()))
    }

    /// One that opens its root has not written its pid yet.
    fn running_engine(&self) -> Option<i64> {
        let pid = number_in(self.kept.host.0.run().join("engine.pid"))?;
        parent_is_known(pid, "--socket-on-stdin").then_some(pid)
    }

    /// Networks' and endpoints' devices of this root.
    fn links(&self, kind: char) -> Vec<String> {
        let prefix = format!("b{kind}{}", self.paths().id());
        let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| name.starts_with(&prefix));
        names.sort();
        names
    }

    /// Kills the engine, which its keeper brings back. A keeper that would begin to be careful is made a new one of
    /// before.
    fn kill_engine(&mut self) {
        let engine = self.engine();
        let mut keeper = self.kept_by(None);
        if keeper.is_none() || keeper != self.keeper {
            self.crashes.clear();
        }
        self.crashes.retain(|at| at.elapsed() < WITHIN);
        if self.crashes.len() >= CRASHES {
            let _killed = keeper.map(|pid| signal(pid, Signal::KILL));
            keeper = self.kept_by(keeper);
            self.crashes.clear();
        }
        self.keeper = keeper;
        self.crashes.push_back(Instant::now());
        self.end_engine(engine);
        self.random.pause(200);
        if keeper.is_none() {
            self.start_engine();
        }
    }

    /// Returns once it is gone: what happens next must not take the dying one for an engine.
    fn end_engine(&self, engine: i64) {
        signal(engine, Signal::KILL);
        let ended = wait_for(WORST, || (self.running_engine() != Some(engine)).then_some(()));
        assert!(ended.is_some(), "the killed engine {engine} does not end");
    }

    /// Returns once it is gone, as above.
    fn end_keeper(&self) {
        let Some(keeper) = keeper_of(&self.kept.host.0) else { return };
        signal(keeper, Signal::KILL);
        let ended =
            wait_for(WORST, || (keeper_of(&self.kept.host.0) != Some(keeper)).then_some(()));
        assert!(ended.is_some(), "the killed keeper {keeper} does not end");
    }

    fn kill_keeper(&mut self) {
        self.end_keeper();
        if self.running_engine().is_none() {
            // Its engine had been killed just before: nobody is left.
            self.start_engine();
        }
    }

    /// Returns the keeper, once there is one that is not `old`. A stopped engine makes none.
    fn kept_by(&self, old: Option<i64>) -> Option<i64> {
        wait_for(MEDIAN, || keeper_of(&self.kept.host.0).filter(|keeper| Some(*keeper) != old))
    }

    /// As the next command of a user does.
    fn start_engine(&mut self) {
        self.spawn(&["engine", "start"], None);
    }

    /// Stops a process, which the end of the fault lets go on.
    fn stop_process(&mut self, pid: Option<i64>) -> Option<i64> {
        pid.filter(|pid| signal(*pid, Signal::STOP))
    }

    /// What happens at once.
    fn commit_all(&mut self, faults: &[Fault], round: u64) {
        let mut stopped = Vec::new();
        for fault in faults {
            stopped.extend(self.commit(*fault, round));
        }
        if !stopped.is_empty() {
            self.random.pause(600);
        }
        for pid in stopped {
            signal(pid, Signal::CONT);
        }
    }

    /// Returns a process that is stopped by it.
    fn commit(&mut self, fault: Fault, round: u64) -> Option<i64> {
        let number = self.random.below(self.stacks.len());
        match fault {
            Fault::Engine => self.kill_engine(),
            Fault::Keeper => self.kill_keeper(),
            Fault::EngineAndKeeper => {
                let engine = self.engine();
                self.end_keeper();
                self.end_engine(engine);
                self.random.pause(100);
                self.start_engine();
            }
            Fault::Netd => drop(self.netd().map(|pid| signal(pid, Signal::KILL))),
            Fault::Shim => {
                let shim = self.some_container().and_then(|id| self.shim(&id));
                let _ended = shim.map(|pid| signal(pid, Signal::KILL));
            }
            Fault::Init => {
                let init = self.some_container().and_then(|id| self.init(&id));
                let _ended = init.map(|pid| signal(pid, Signal::KILL));
            }
            Fault::ClientInUp => {
                self.want(number, round);
                self.up(number);
                self.random.pause(100);
                let (client, _) = self.clients.last_mut().expect("it was started just now");
                drop(client.kill());
            }
            Fault::FourUps => {
                self.want(number, round);
                (0..4).for_each(|_| self.up(number));
            }
            Fault::DownAgainstUp => {
                let name = self.stacks[number].name;
                self.stacks[number].may_be_down = true;
                self.spawn(&["down", "--stack", name], None);
                self.random.pause(50);
                self.up(number);
            }
            Fault::Bridge => self.remove_link('b'),
            Fault::Link => self.remove_link('v'),
            Fault::Rules => {
                quiet("nft", &["delete", "table", "inet", &self.paths().nft_table()]);
            }
            Fault::Pin => {
                let pin = self.some_container();
                let pin = pin.map(|id| self.kept.host.0.run().join("netns").join(id));
                if let Some(pin) = pin {
                    quiet("umount", &["-l", &pin.display().to_string()]);
                }
            }
            Fault::Mounts => {
                if let Some(init) = self.some_container().and_then(|id| self.init(&id)) {
                    let target = format!("--target={init}");
                    quiet("nsenter", &[&target, "--mount", "umount", "-l", "/data"]);
                    quiet("nsenter", &[&target, "--mount", "umount", "-l", "/"]);
                }
            }
            Fault::PauseEngine => {
                let engine = self.engine();
                return self.stop_process(Some(engine));
            }
            Fault::PauseShim => {
                let shim = self.some_container().and_then(|id| self.shim(&id));
                return self.stop_process(shim);
            }
            Fault::PauseNetd => {
                let netd = self.netd();
                return self.stop_process(netd);
            }
            Fault::RestartStorm => {
                let name = self.stacks[number].name;
                for service in ["db", "web", "web"] {
                    self.spawn(&["restart", &format!("{name}/{service}")], None);
                }
            }
            Fault::Remove => {
                let name = self.stacks[number].name;
                self.spawn(&["rm", "-f", &format!("{name}-web-1")], None);
            }
        }
        None
    }

    fn remove_link(&mut self, kind: char) {
        let links = self.links(kind);
        if let Some(link) = self.random.pick(&links) {
            quiet("ip", &["link", "del", link]);
        }
    }

    /// Returns what was done and how long it took from the last of it until all was well.
    fn round(&mut self, round: u64) -> (Vec<Fault>, Duration) {
        for number in 0..self.stacks.len() {
            // Every other round has something to do, and finds another version's containers.
            let version = if self.random.below(2) == 0 { round } else { round.saturating_sub(1) };
            self.want(number, version);
            self.up(number);
        }
        let count = 1 + self.random.below(3);
        let mut done = Vec::new();
        for _ in 0..count {
            self.random.pause(300);
            // Every third time two at once.
            let at_once = 1 + usize::from(self.random.below(3) == 0);
            let pick = |_| *self.random.pick(&FAULTS).expect("there are some");
            let faults: Vec<Fault> = (0..at_once).map(pick).collect();
            eprintln!("    {faults:?}");
            self.commit_all(&faults, round);
            done.extend(faults);
        }
        let start = Instant::now();
        let mut unwell = String::new();
        while let Some(fault) = self.unwell() {
            unwell = fault;
            assert!(
                start.elapsed() < slowed(WORST),
                "round {round}, {done:?}: {unwell}\n{}",
                self.last_words()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        let took = start.elapsed();
        eprintln!("round {round}: {took:.2?} after {done:?} (last: {unwell})");
        (done, took)
    }

    /// Returns what is not as it should be.
    fn unwell(&mut self) -> Option<String> {
        // A client that was told an error has asked for nothing; all have to be heard first.
        let stacks = &mut self.stacks;
        self.clients.retain_mut(|(client, up)| match client.try_wait() {
            Ok(Some(status)) => {
                if let Some(number) = up.filter(|_| status.success()) {
                    stacks[number].heard = true;
                }
                false
            }
            _ => true,
        });
        if !self.clients.is_empty() {
            return Some(format!("{} clients wait", self.clients.len()));
        }
        for number in 0..self.stacks.len() {
            if let Some(fault) = self.stack_unwell(number) {
                return Some(format!("stack {}: {fault}", self.stacks[number].name));
            }
        }
        let client = UnixStream::connect(self.kept.host.0.socket()).ok()?;
        let answer = Client::over(client).get("/bargee/v1/check");
        let Ok(answer) = answer else { return Some("no engine answers".to_owned()) };
        let report: bargee::protocol::CheckReport =
            serde_json::from_slice(&answer.body).expect("a report");
        if !report.busy.is_empty() || !report.findings.is_empty() {
            return Some(format!("{report:?}"));
        }
        for stack in &mut self.stacks {
            if stack.may_be_down {
                (stack.may_be_down, stack.heard) = (false, false);
            }
        }
        None
    }

    fn ask(&self, path: &str) -> Option<super::support::http::Answer> {
        let stream = UnixStream::connect(self.kept.host.0.socket()).ok()?;
        Client::over(stream).get(path).ok()
    }

    fn stack_unwell(&mut self, number: usize) -> Option<String> {
        let Stack { name, port, file, texts, may_be_down, heard } = &self.stacks[number];
        let Some(answer) = self.ask(&format!("/bargee/v1/stacks/{name}")) else {
            return Some("no engine answers".to_owned());
        };
        if answer.status == 404 {
            return (*heard && !may_be_down).then(|| "it is gone".to_owned());
        }
        let view = answer.json();
        if !view["frozen"].is_null() {
            return Some(format!("frozen: {}", view["frozen"]));
        }
        let mut plans = String::new();
        let mut held = None;
        for text in texts.iter().rev() {
            let plan = self.plan(file, text);
            if plan.is_empty() {
                held = Some(text.clone());
                break;
            }
            let _ = write!(plans, "{plan}");
        }
        let Some(held) = held else {
            if *may_be_down && view["status"] == "stopped" {
                return None;
            }
            return Some(format!("plan: {plans}"));
        };
        for address in ["127.0.0.1", "::1"] {
            let target = SocketAddr::new(address.parse().expect("an address"), *port);
            if !is_well(target) {
                return Some(format!("{target} does not answer"));
            }
        }
        for container in self.containers_of(name)? {
            if !self.finds_its_stack(&container) {
                return Some(format!("{container} finds no db"));
            }
        }
        self.stacks[number].texts = vec![held];
        None
    }

    /// Returns what is still to do for `text`.
    fn plan(&self, file: &Path, text: &str) -> String {
        std::fs::write(file, text).expect("a file is written");
        let output = self.kept.host.0.bargee(&["plan", "-f", &file.display().to_string()]);
        match output.status.code() {
            Some(0) => String::new(),
            _ => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        }
    }

    fn containers_of(&self, name: &str) -> Option<Vec<String>> {
        let rows = self.ask("/containers/json")?.json();
        let rows = rows.as_array()?.iter();
        let ours = rows.filter(|row| row["Labels"]["com.docker.compose.project"] == name);
        Some(ours.filter_map(|row| row["Id"].as_str().map(str::to_owned)).collect())
    }

    fn finds_its_stack(&self, container: &str) -> bool {
        let Some(init) = self.init(container) else { return false };
        let Ok(namespace) = std::fs::File::open(format!("/proc/{init}/ns/net")) else {
            return false;
        };
        let asked = std::thread::spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).is_ok()
                && resolves("db")
        });
        asked.join().is_ok_and(|found| found)
    }

    fn client_log(&self) -> PathBuf {
        self.kept.host.0.folder().join("clients.log")
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.kept.host.0.run().join("engine.log"));
        let log = log.unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let clients = std::fs::read_to_string(self.client_log()).unwrap_or_default();
        let clients: Vec<&str> = clients.lines().collect();
        let clients = clients[clients.len().saturating_sub(20)..].join("\n");
        let lines = lines[lines.len().saturating_sub(80)..].join("\n");
        format!("clients:\n{clients}\nengine:\n{lines}")
    }
}

fn parent_is_known(pid: i64, word: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(word))
}

fn is_well(target: SocketAddr) -> bool {
    let talk = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&target, slowed(Duration::from_secs(1)))?;
        stream.set_read_timeout(Some(slowed(Duration::from_secs(1))))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    talk().is_ok_and(|answer| answer.contains("well"))
}

/// Asks the resolver of the thread's namespace (RFC 1035).
fn resolves(name: &str) -> bool {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.push(u8::try_from(name.len()).expect("a short name"));
    query.extend(name.bytes());
    query.extend([0, 0, 1, 0, 1]);
    let exchange = || -> std::io::Result<bool> {
        let socket = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0))?;
        socket.set_read_timeout(Some(slowed(Duration::from_millis(300))))?;
        socket.send_to(&query, "127.0.0.11:53")?;
        let mut answer = [0; 512];
        socket.recv(&mut answer)?;
        Ok(answer[7] > 0)
    };
    exchange().unwrap_or(false)
}

fn run(rounds: u64) {
    if !possible() {
        return;
    }
    let from_clock = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::from(now.expect("a clock").subsec_nanos())
    };
    let set = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = set("BARGEE_CHAOS_SEED").unwrap_or_else(from_clock);
    let rounds = set("BARGEE_CHAOS_ROUNDS").unwrap_or(rounds);
    eprintln!("chaos: BARGEE_CHAOS_SEED={seed} repeats this");
    let mut chaos = Chaos::start(seed);
    let mut times = Vec::new();
    for round in 1..=rounds {
        let (_, took) = chaos.round(round);
        times.push(took);
    }
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!("chaos: {rounds} rounds of seed {seed}: median {median:.2?}, worst {worst:.2?}");
    assert!(median < MEDIAN, "seed {seed}: the median is {median:?}");
}

#[test]
fn twenty_rounds_of_random_faults_end_as_they_were_asked_for() {
    run(20);
}

#[test]
#[ignore = "takes minutes: make test-long"]
fn two_hundred_rounds_of_random_faults_end_as_they_were_asked_for() {
    run(200);
}
