//! A thousand restarts, a thousand containers made and removed: nothing of ours grows, nothing becomes slow.
//! `make test` does a hundred of each, `make test-long` a thousand.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::engine::{Engine, PATIENCE, possible, wait_for};
use super::support::neighbour::on_a_host;
use super::support::process::processes;

/// Bytes that memory may grow by.
const GROWTH: i64 = 1 << 20;
/// Bytes of one of the last 4096 events, which the engine keeps in memory, and the most that a round makes.
const EVENT: i64 = 768;
const EVENTS: i64 = 8;

/// How much is done.
struct Extent {
    /// Before the first measurement: caches and pools fill, pages of the heap are touched.
    warm_up: usize,
    rounds: usize,
    growth: i64,
}

const SHORT: Extent = Extent { warm_up: 30, rounds: 100, growth: GROWTH + 100 * EVENTS * EVENT };
/// After its warm-up no more events are kept than before.
const LONG: Extent = Extent { warm_up: 1000, rounds: 1000, growth: GROWTH };

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    descriptors: usize,
    threads: usize,
    /// Bytes of its own: RssAnon of proc_pid_status(5).
    memory: i64,
}

impl Process {
    fn of(pid: i64) -> Self {
        let folder = format!("/proc/{pid}");
        let count =
            |name: &str| std::fs::read_dir(format!("{folder}/{name}")).expect("it lives").count();
        let status = std::fs::read_to_string(format!("{folder}/status")).expect("it lives");
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = anonymous.and_then(|text| text.split_whitespace().next()).expect("a size");
        let memory = kilobytes.parse::<i64>().expect("a number") << 10;
        Self { descriptors: count("fd"), threads: count("task"), memory }
    }
}

/// What all of an engine's processes hold, and its kernel objects.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    engine: Process,
    netd: Process,
    shim: Option<Process>,
    cgroups: usize,
    links: usize,
    mounts: usize,
    files: usize,
}

fn entries(folder: &Path) -> usize {
    let Ok(found) = std::fs::read_dir(folder) else { return 0 };
    found
        .flatten()
        .map(|entry| {
            1 + entry.file_type().map_or(
                0,
                |kind| {
                    if kind.is_dir() { entries(&entry.path()) } else { 0 }
                },
            )
        })
        .sum()
}

/// Folders of our cgroups, in every hierarchy.
fn cgroups(word: &str) -> usize {
    fn below(folder: &Path, word: &str, depth: usize) -> usize {
        let Ok(found) = std::fs::read_dir(folder) else { return 0 };
        let folders = found.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
        folders
            .map(|entry| {
                let ours = entry.path().to_string_lossy().contains(word);
                let deeper = if depth > 0 { below(&entry.path(), word, depth - 1) } else { 0 };
                usize::from(ours) + deeper
            })
            .sum()
    }
    below(Path::new("/sys/fs/cgroup"), word, 4)
}

/// The process of this run folder with this word behind the program.
fn pid_of(engine: &Engine, role: &str) -> Option<i64> {
    let all = processes(&engine.run().to_string_lossy());
    all.into_iter().find(|(_, line)| line.contains(role)).map(|(pid, _)| pid)
}

fn held(engine: &Engine) -> Held {
    let id = bargee::engine::paths::Paths::new(engine.root(), engine.run()).id().to_owned();
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("proc is mounted");
    let folder = engine.folder().to_string_lossy().into_owned();
    // Of this thread's namespace, as no other file system tells them.
    let links = std::fs::read_to_string("/proc/thread-self/net/dev").expect("proc is mounted");
    Held {
        engine: Process::of(i64::from(engine.pid())),
        netd: Process::of(pid_of(engine, "__netd").expect("netd runs")),
        shim: pid_of(engine, "__shim").map(Process::of),
        cgroups: cgroups(&format!("bargee-{id}")),
        links: links.lines().filter(|line| line.contains(&id)).count(),
        mounts: mounts.lines().filter(|line| line.contains(&folder)).count(),
        files: entries(&engine.run()) + entries(&engine.root().join("containers")),
    }
}

/// Returns the rows of each table, of an engine that is stopped: it shares its database with nobody.
fn rows(engine: &Engine) -> BTreeMap<String, i64> {
    let database = rusqlite::Connection::open(engine.root().join("state.db")).expect("a database");
    let mut tables = database
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        .expect("a query");
    let names = tables.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    names
        .flatten()
        .map(|name| {
            let count = format!("SELECT count(*) FROM \"{name}\"");
            let count = database.query_row(&count, [], |row| row.get(0)).expect("a number");
            (name, count)
        })
        .collect()
}

/// Waits until nothing that runs behind an answer is left to do: nothing changes any more.
fn at_rest(engine: &Engine) -> Held {
    // Freed memory goes back a second after the last work.
    const QUIET: Duration = Duration::from_millis(1500);
    let (mut last, mut since) = (held(engine), Instant::now());
    wait_for(PATIENCE, || {
        let now = held(engine);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > QUIET).then(|| last.clone())
    })
    .unwrap_or_else(|| panic!("it does not come to rest: {:?}", held(engine)))
}

/// Returns the time that one in `part` is below.
fn middle(times: &[Duration], part: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / part]
}

/// Does `round` again and again, and compares what is held before and after.
fn nothing_grows(engine: &mut Engine, name: &str, extent: &Extent, mut round: impl FnMut(&Engine)) {
    (0..30).for_each(|_| round(engine));
    // An address is given back once the connections over it are forgotten.
    at_rest(engine);
    assert!(engine.stop().success());
    let rows_before = rows(engine);
    engine.launch();
    (0..extent.warm_up).for_each(|_| round(engine));
    let before = at_rest(engine);
    let times: Vec<Duration> = (0..extent.rounds)
        .map(|_| {
            let start = Instant::now();
            round(engine);
            start.elapsed()
        })
        .collect();
    let after = at_rest(engine);
    let part = (extent.rounds / 10).max(25);
    let (first, last) = (&times[..part], &times[times.len() - part..]);
    let medians = (middle(first, 2), middle(last, 2));
    eprintln!("{name}, {} rounds: medians at first and at last {medians:?}", times.len());
    eprintln!("before {before:?}\nafter  {after:?}");

    let fixed = |held: &Held| (held.cgroups, held.links, held.mounts, held.files);
    assert_eq!(fixed(&before), fixed(&after));
    let pairs = [(before.engine, after.engine), (before.netd, after.netd)]
        .into_iter()
        .chain(before.shim.zip(after.shim));
    for (before, after) in pairs {
        assert_eq!(before.descriptors, after.descriptors, "descriptors");
        // Idle threads of the pool end after 10 s, so there may be fewer.
        assert!(after.threads <= before.threads + 2, "threads: {before:?} {after:?}");
        assert!(after.memory - before.memory < extent.growth, "memory: {before:?} {after:?}");
    }
    // Others work on this machine too, so the fastest tenth is what tells.
    assert!(middle(last, 10) < middle(first, 10) * 2, "slower at last: {times:?}");
    assert!(engine.stop().success());
    let mut rows_after = rows(engine);
    // Events are kept up to a number.
    let events = rows_after.remove("events").expect("a table");
    assert!(events <= 4096, "{events} events");
    let without = |mut rows: BTreeMap<String, i64>| {
        rows.remove("events");
        rows
    };
    assert_eq!(without(rows_before), rows_after);
    engine.launch();
}

fn body() -> serde_json::Value {
    json!({
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "HostConfig": { "PortBindings": {}, "Init": true },
    })
}

fn post(engine: &Engine, path: &str, body: &serde_json::Value) -> serde_json::Value {
    let answer = engine.client().post(path, body).expect("an answer");
    assert!(answer.status < 300, "{path}: {}\n{}", answer.text(), engine.log());
    answer.json()
}

/// Others' packet rules and links are elsewhere: the engine looks after each change of them.
fn apart(test: fn(&Extent), extent: &'static Extent) {
    if possible() {
        on_a_host(move || test(extent));
    }
}

fn restart(extent: &Extent) {
    let mut engine = Engine::start();
    engine.load_busybox("busybox");
    post(&engine, "/containers/create?name=one", &body());
    post(&engine, "/containers/one/start", &json!({}));
    nothing_grows(&mut engine, "restart", extent, |engine| {
        post(engine, "/containers/one/restart?t=0", &json!({}));
    });
}

fn make_and_remove(extent: &Extent) {
    let mut engine = Engine::start();
    engine.load_busybox("busybox");
    // One that stays: netd and the network are there all the time.
    post(&engine, "/containers/create?name=stays", &body());
    post(&engine, "/containers/stays/start", &json!({}));
    nothing_grows(&mut engine, "create, start and remove", extent, |engine| {
        let made = post(engine, "/containers/create", &body());
        let id = made["Id"].as_str().expect("an id").to_owned();
        post(engine, &format!("/containers/{id}/start"), &json!({}));
        let path = format!("/containers/{id}?force=1");
        let removed = engine.client().send("DELETE", &path, &[], b"");
        let removed = removed.unwrap_or_else(|error| panic!("{error}\n{}", engine.log()));
        assert_eq!(removed.status, 204, "{}", removed.text());
    });
}

#[test]
fn restarts_leave_nothing_behind_and_stay_as_fast_as_the_first() {
    apart(restart, &SHORT);
}

#[test]
fn containers_made_and_removed_leave_nothing_behind_and_stay_as_fast_as_the_first() {
    apart(make_and_remove, &SHORT);
}

#[test]
#[ignore = "minutes; make test-long"]
fn a_thousand_restarts_leave_nothing_behind_and_stay_as_fast_as_the_first() {
    apart(restart, &LONG);
}

#[test]
#[ignore = "minutes; make test-long"]
fn a_thousand_containers_made_and_removed_leave_nothing_behind() {
    apart(make_and_remove, &LONG);
}
