//! Updates that go wrong: paused, or rolled back.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::engine::{Engine, PATIENCE, possible, wait_for};
use crate::support::folder::{Folder, free_port, text};

/// Containers that are healthy when their configuration says so.
fn stack(replicas: u32, update: &str, content: &str) -> String {
    format!(
        "
name: shop
services:
  web:
    image: app
    command: [sh, -c, 'trap exit TERM; while :; do sleep 0.1; done']
    stop_grace_period: 1s
    deploy: {{replicas: {replicas}, update_config: {update}}}
    healthcheck:
      test: [CMD, grep, -q, good, /state]
      interval: 100ms
      retries: 2
      start_period: 0s
    configs: [{{source: state, target: /state}}]
configs: {{state: {{content: '{content}'}}}}
"
    )
}

fn shop(text: &str) -> Option<(Engine, Folder)> {
    if !possible() {
        return None;
    }
    let engine = Engine::start();
    engine.load_busybox("app");
    Some((engine, Folder::new(text)))
}

/// `NAME ID` of all containers, by name.
fn containers(engine: &Engine, folder: &Folder) -> Vec<String> {
    let words = ["ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.ID}}"];
    let mut lines: Vec<String> = folder.ok(engine, &words).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// `NUMBER OUTCOME` of all revisions, newest first.
fn outcomes(engine: &Engine, folder: &Folder) -> Vec<String> {
    let lines = folder.ok(engine, &["stack", "history", "--json"]);
    let parsed = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    parsed.map(|it| format!("{} {}", it["number"], it["outcome"].as_str().unwrap())).collect()
}

fn content(engine: &Engine, folder: &Folder, name: &str) -> String {
    folder.ok(engine, &["exec", name, "cat", "/state"])
}

#[test]
fn a_release_that_is_never_healthy_is_rolled_back_before_it_replaced_anything() {
    let update = "{order: start-first, failure_action: rollback, monitor: 200ms}";
    let Some((engine, folder)) = shop(&stack(2, update, "good one")) else { return };
    folder.ok(&engine, &["up", "-d", "--wait"]);
    let before = containers(&engine, &folder);

    folder.write("stack.yaml", &stack(2, update, "broken"));
    let failed = folder.run(&engine, &["up", "-d"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let said = text(&failed.stderr);
    assert!(said.contains("is unhealthy"), "{said}");
    assert!(said.contains("revision 2 failed, and revision 1 is restored"), "{said}");
    assert_eq!(containers(&engine, &folder), before);
    assert_eq!(content(&engine, &folder, "shop-web-1"), "good one");
    assert_eq!(outcomes(&engine, &folder), ["3 good", "2 paused", "1 good"]);
    let why = folder.ok(&engine, &["stack", "history"]);
    assert!(why.contains("rollback to 1: revision 2 failed: web.1: wait until healthy"), "{why}");

    // The next release is as any other.
    folder.write("stack.yaml", &stack(2, update, "good two"));
    folder.ok(&engine, &["up", "-d"]);
    assert_eq!(content(&engine, &folder, "shop-web-2"), "good two");
    folder.ends(&engine, &["plan"], 0);
    folder.ok(&engine, &["down", "-t", "1"]);
}

#[test]
fn an_update_is_paused_at_the_first_replica_that_is_not_good_and_the_others_are_kept() {
    let Some((engine, folder)) = shop(&stack(3, "{}", "good one")) else { return };
    folder.ok(&engine, &["up", "-d", "--wait"]);
    let before = containers(&engine, &folder);
    folder.write("stack.yaml", &stack(3, "{}", "broken"));
    let failed = folder.run(&engine, &["up", "-d"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let said = text(&failed.stderr);
    assert!(said.contains("the update to revision 2 is paused"), "{said}");
    let after = containers(&engine, &folder);
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1..], before[1..]);

    // The loop heals what is there, and goes on with nothing.
    folder.ok(&engine, &["rm", "-f", "shop-web-3"]);
    let healed = wait_for(PATIENCE, || {
        let now = containers(&engine, &folder);
        now.iter().any(|line| line.starts_with("shop-web-3 ")).then_some(now)
    });
    let healed = healed.unwrap();
    assert_eq!(healed[1], before[1]);
    assert_eq!(content(&engine, &folder, "shop-web-2"), "good one");
    assert_eq!(outcomes(&engine, &folder), ["2 paused", "1 good"]);

    folder.write("stack.yaml", &stack(3, "{}", "good three"));
    folder.ok(&engine, &["up", "-d", "--wait"]);
    for name in ["shop-web-1", "shop-web-2", "shop-web-3"] {
        assert_eq!(content(&engine, &folder, name), "good three");
    }
    folder.ok(&engine, &["down", "-t", "1"]);
}

/// The first `failing` containers that start end with 1; without a health check.
fn failing(replicas: u32, update: &str, failing: u32) -> String {
    let script = format!(
        "trap exit TERM; for n in $$(seq {failing}); do mkdir /data/{failing}.$$n 2>/dev/null && exit 1; done; \
         while :; do sleep 0.1; done"
    );
    format!(
        "
name: shop
services:
  web:
    image: app
    command: [sh, -c, '{script}']
    stop_grace_period: 1s
    restart: 'no'
    deploy: {{replicas: {replicas}, update_config: {update}}}
    volumes: [data:/data]
volumes: {{data: {{}}}}
"
    )
}

#[test]
fn a_program_that_ends_while_it_is_watched_is_a_failed_release() {
    let update = "{failure_action: rollback, monitor: 1s}";
    let Some((engine, folder)) = shop(&failing(1, update, 0)) else { return };
    folder.ok(&engine, &["up", "-d", "--wait"]);
    folder.write("stack.yaml", &failing(1, update, 9));
    let failed = folder.run(&engine, &["up", "-d"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let said = text(&failed.stderr);
    assert!(said.contains("container shop-web-1 exited with 1"), "{said}");
    assert!(said.contains("revision 2 failed, and revision 1 is restored"), "{said}");
    folder.write("stack.yaml", &failing(1, update, 0));
    folder.ends(&engine, &["plan"], 0);
    folder.ok(&engine, &["down", "-v", "-t", "1"]);
}

#[test]
fn as_many_replacements_may_fail_as_the_file_allows() {
    let update = "{monitor: 500ms, max_failure_ratio: 0.25, failure_action: rollback}";
    let Some((engine, folder)) = shop(&failing(4, update, 0)) else { return };
    folder.ok(&engine, &["up", "-d", "--wait"]);
    // One of four: the others are replaced all the same.
    folder.write("stack.yaml", &failing(4, update, 1));
    let one = folder.run(&engine, &["up", "-d"]);
    assert_eq!(one.status.code(), Some(1), "{one:?}");
    assert_eq!(outcomes(&engine, &folder), ["2 bad", "1 good"]);
    let states = |engine: &Engine, folder: &Folder| {
        folder.ok(engine, &["ps", "-a", "--format", "{{.State}}"]).matches("running").count()
    };
    assert_eq!(states(&engine, &folder), 3);
    // Two of four are too many.
    folder.write("stack.yaml", &failing(4, update, 2));
    let two = folder.run(&engine, &["up", "-d"]);
    let said = text(&two.stderr);
    assert!(said.contains("revision 3 failed, and revision 1 is restored"), "{said}");
    folder.ok(&engine, &["down", "-v", "-t", "1"]);
}

fn replicas_behind(port: u16, replicas: u32, release: &str) -> String {
    format!(
        "
name: busy
services:
  web:
    image: bargee/hello
    environment: {{RELEASE: {release}}}
    ports: ['127.0.0.1:{port}:80']
    deploy: {{replicas: {replicas}, update_config: {{order: start-first, monitor: 100ms}}}}
"
    )
}

/// Asks once on a connection of its own; `pause` lies between the first line and the end of the request.
fn ask(port: u16, pause: impl FnOnce()) -> Result<(), String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.write_all(b"GET /healthz HTTP/1.0\r\n"))
        .map(|()| pause())
        .and_then(|()| stream.write_all(b"\r\n"))
        .and_then(|()| stream.read_to_string(&mut answer))
        .map_err(|error| error.to_string())?;
    let good = answer.starts_with("HTTP/1.") && answer.contains(" 200 ");
    if good { Ok(()) } else { Err(format!("answered {answer:?}")) }
}

/// How many requests are wanted in a second, of all threads together.
const RATE: u32 = 2_000;
const THREADS: u32 = 8;

/// Asks at a steady rate while `change` goes on. Returns how many requests there were in how long.
fn under_load(port: u16, change: impl FnOnce()) -> (usize, Duration) {
    let (asked, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed = Vec::new();
                    let mut due = Instant::now();
                    while !stop.load(Ordering::Relaxed) {
                        asked.fetch_add(1, Ordering::Relaxed);
                        failed.extend(ask(port, || {}).err());
                        due += Duration::from_secs(1) * THREADS / RATE;
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    }
                    failed
                })
            })
            .collect();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(change));
        stop.store(true, Ordering::Relaxed);
        let failed: Vec<String> =
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
        let asked = asked.load(Ordering::Relaxed);
        assert!(failed.is_empty(), "{} of {asked} failed: {:?}", failed.len(), failed.first());
    });
    (asked.into_inner(), begin.elapsed())
}

#[test]
fn no_request_fails_while_replicas_are_replaced_or_taken_away() {
    let port = free_port();
    let Some((engine, folder)) = shop(&replicas_behind(port, 3, "one")) else { return };
    folder.ok(&engine, &["up", "-d"]);
    let before = containers(&engine, &folder);
    folder.write("stack.yaml", &replicas_behind(port, 3, "two"));
    let (asked, took) = under_load(port, || {
        // These are under way in the old ones when their replacement begins.
        std::thread::scope(|scope| {
            let slow = || ask(port, || std::thread::sleep(Duration::from_millis(1_500)));
            let slow: Vec<_> = (0..6).map(|_| scope.spawn(slow)).collect();
            folder.ok(&engine, &["up", "-d"]);
            for client in slow {
                assert_eq!(client.join().unwrap(), Ok(()), "a slow request was cut");
            }
        });
    });
    let after = containers(&engine, &folder);
    assert!(before.iter().all(|container| !after.contains(container)), "{after:?}");
    eprintln!("replaced: {asked} requests in {took:?}, none failed");

    folder.write("stack.yaml", &replicas_behind(port, 1, "two"));
    let (asked, took) = under_load(port, || drop(folder.ok(&engine, &["up", "-d"])));
    assert_eq!(containers(&engine, &folder).len(), 1);
    eprintln!("scaled down: {asked} requests in {took:?}, none failed");
    folder.ok(&engine, &["down", "-t", "1"]);
}
