//! What a crash, a kill, a boot and an end leave: engines, keepers, shims and netd that die, and roots that are shut.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bargee::engine::paths::Paths;
use bargee::protocol::{ApplyOptions, DownRequest};
use rustix::process::{Pid, Signal, kill_process};

use super::support::engine::{Engine, PATIENCE, possible, wait_for};
use super::support::folder::free_port;
use super::support::kept::Kept;
use super::support::pace::slowed;
use super::support::process::{lives, parent_of, processes, signal};
use super::support::stack::{Host, request};

/// A web server and a client, which want to run for ever.
fn site(port: u16) -> String {
    format!(
        "
name: shop
services:
  web:
    image: busybox
    command: [sh, -c, 'echo well > /tmp/index.html; exec httpd -f -p 80 -h /tmp']
    init: true
    restart: always
    stop_grace_period: 1s
    ports: ['127.0.0.1:{port}:80']
    healthcheck: {{test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1/'], interval: 100ms}}
  client:
    image: busybox
    command: [sleep, '1000']
    init: true
    restart: unless-stopped
    stop_grace_period: 1s
    depends_on: {{web: {{condition: service_healthy}}}}
"
    )
}

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(slowed(Duration::from_secs(5)))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.contains("well").then_some(answer)
}

fn state(engine: &Engine, id: &str) -> serde_json::Value {
    let answer = engine.client().get(&format!("/containers/{id}/json")).expect("an answer");
    answer.json()["State"].clone()
}

/// Returns the pid of a container's init, once it runs.
fn init_of(engine: &Engine, id: &str) -> i64 {
    wait_for(PATIENCE, || state(engine, id)["Pid"].as_i64().filter(|pid| *pid > 0))
        .unwrap_or_else(|| panic!("{id} does not run\n{}", engine.log()))
}

/// Everything of the kernel's that belongs to this root: nothing, once it is shut.
fn left_of(folder: &Path) -> BTreeSet<String> {
    let paths = Paths::new(folder.join("root"), folder.join("run"));
    let word = folder.to_str().expect("a plain path");
    let mut left: BTreeSet<String> =
        processes(word).into_iter().map(|(pid, line)| format!("process {pid} {line}")).collect();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    left.extend(
        mounts.lines().filter(|line| line.contains(word)).map(|line| format!("mount {line}")),
    );
    let tables = Command::new("nft").args(["list", "tables"]).output().expect("nft is installed");
    let tables = String::from_utf8_lossy(&tables.stdout).into_owned();
    left.extend(tables.lines().filter(|line| line.contains(&paths.nft_table())).map(str::to_owned));
    let parent = paths.cgroup_parent();
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
        let cgroup = hierarchy.path().join(parent.trim_start_matches('/'));
        if cgroup.exists() {
            left.insert(format!("cgroup {}", cgroup.display()));
        }
    }
    let links = Command::new("ip").args(["-o", "link"]).output().expect("ip is installed");
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    let root_id = paths.id();
    left.extend(links.lines().filter(|line| line.contains(root_id)).map(|l| format!("link {l}")));
    left
}

fn until_nothing_is_left(folder: &Path) {
    let clean = wait_for(PATIENCE, || left_of(folder).is_empty().then_some(()));
    assert!(clean.is_some(), "{:#?}", left_of(folder));
}

#[test]
fn a_keeper_brings_a_killed_engine_back_while_containers_run_on() {
    if !possible() {
        return;
    }
    let kept = Kept::start();
    let port = free_port();
    kept.host.up(&site(port));
    let (web, client) = (kept.host.id("web"), kept.host.id("client"));
    let (web_init, client_init) = (init_of(&kept.host.0, &web), init_of(&kept.host.0, &client));
    let engine = kept.engine();
    let keeper = parent_of(engine);

    let killed = Instant::now();
    signal(engine, Signal::KILL);
    assert!(get(port).is_some(), "ports flow without an engine");
    let next = kept.engine();
    let back_after = killed.elapsed();
    assert_ne!(next, engine);
    assert!(back_after < slowed(Duration::from_secs(1)), "it took {back_after:?}");
    assert_eq!(init_of(&kept.host.0, &web), web_init, "the container was touched");
    assert!(get(port).is_some());

    // An exit while nobody looks.
    signal(keeper, Signal::STOP);
    signal(next, Signal::KILL);
    signal(client_init, Signal::KILL);
    signal(keeper, Signal::CONT);
    kept.engine();
    let again = wait_for(PATIENCE, || {
        let state = state(&kept.host.0, &client);
        state["Pid"].as_i64().filter(|pid| *pid > 0 && *pid != client_init)
    });
    assert!(again.is_some(), "{}\n{}", state(&kept.host.0, &client), kept.host.0.log());

    // Health goes on from where it was.
    let probes = |id: &str| state(&kept.host.0, id)["Health"].clone();
    assert_eq!(probes(&web)["Status"], "healthy");
    let last = probes(&web)["Log"].as_array().and_then(|log| log.last().cloned());
    wait_for(PATIENCE, || {
        let now = probes(&web)["Log"].as_array().and_then(|log| log.last().cloned());
        (now != last).then_some(())
    })
    .expect("it is probed");
    kept.host.down("shop");
    kept.command(&["system", "shutdown"]);
    until_nothing_is_left(kept.host.0.folder());
}

/// The keeper whose name is in the socket's lock, if it lives.
pub(crate) fn keeper_of(engine: &Engine) -> Option<i64> {
    let holder = std::fs::read_to_string(engine.run().join("bargee.sock.lock")).ok()?;
    let pid = holder.strip_prefix("pid ")?.trim().parse().ok()?;
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    line.contains(engine.folder().to_str()?).then_some(pid)
}

#[test]
fn an_engine_whose_keeper_is_killed_has_another_one_before_its_next_crash() {
    if !possible() {
        return;
    }
    let kept = Kept::start();
    let port = free_port();
    kept.host.up(&site(port));
    let web_init = init_of(&kept.host.0, &kept.host.id("web"));
    let first = parent_of(kept.engine());
    assert_eq!(keeper_of(&kept.host.0), Some(first));
    let mut keeper = first;
    for _ in 0..3 {
        let engine = kept.engine();
        signal(keeper, Signal::KILL);
        let next = wait_for(PATIENCE, || keeper_of(&kept.host.0).filter(|pid| *pid != keeper));
        keeper = next.unwrap_or_else(|| panic!("nobody keeps it\n{}", kept.host.0.log()));
        assert_eq!(kept.engine(), engine, "the engine was touched");
        signal(engine, Signal::KILL);
        // No command asks for it.
        let next = kept.engine();
        assert_ne!(next, engine);
        assert_eq!(parent_of(next), keeper);
    }
    assert_eq!(init_of(&kept.host.0, &kept.host.id("web")), web_init, "the container was touched");
    // What ends cleanly is not brought back, by whichever keeper.
    signal(keeper, Signal::KILL);
    let last = wait_for(PATIENCE, || keeper_of(&kept.host.0).filter(|pid| *pid != keeper));
    assert!(last.is_some());
    kept.command(&["engine", "restart"]);
    kept.host.down("shop");
    kept.command(&["system", "shutdown"]);
    until_nothing_is_left(kept.host.0.folder());
}

#[test]
fn an_engine_that_crashes_again_and_again_keeps_its_api_and_freezes_its_stacks() {
    if !possible() {
        return;
    }
    let kept = Kept::start();
    let port = free_port();
    kept.host.up(&site(port));
    for _ in 0..3 {
        let engine = kept.engine();
        signal(engine, Signal::KILL);
        wait_for(PATIENCE, || (kept.engine() != engine).then_some(())).expect("the next one");
    }
    let view = kept.host.view();
    assert_eq!(view.status, "frozen", "{view:?}");
    assert!(view.frozen.is_some_and(|reason| reason.contains("crashed")));
    assert!(get(port).is_some());
    kept.host.up(&site(port).replace("1000", "1001"));
    assert_eq!(kept.host.view().frozen, None);
    kept.host.down("shop");
}

#[test]
fn the_stack_that_crashing_engines_were_working_on_is_named() {
    if !possible() {
        return;
    }
    let kept = Kept::start();
    kept.host.up(&site(free_port()));
    // Work without an end: what it waits for never comes.
    let bad = "
name: bad
services:
  never:
    image: busybox
    command: [sleep, '1000']
    init: true
    stop_grace_period: 1s
    healthcheck: {test: [CMD, 'false'], interval: 10m}
  web: {image: busybox, command: [sleep, '1000'], init: true, depends_on: {never: {condition: service_healthy}}}
";
    let body = serde_json::to_value(request(bad, ApplyOptions::default())).expect("plain data");
    // The engine dies before it can answer.
    let mut asked = kept.host.0.client();
    let asking =
        std::thread::spawn(move || asked.post("/bargee/v1/stacks/bad/apply", &body).is_ok());
    let at_work = |stack: &str| kept.host.0.run().join("at-work").join(stack).exists();
    for _ in 0..3 {
        let engine = kept.engine();
        // It waits once the container runs whose health it waits for.
        let working = wait_for(PATIENCE, || {
            let running = kept.host.0.client().get("/containers/json").ok()?.text();
            let waits = running.contains("bad-never-1") && at_work("bad");
            (waits && !at_work("shop")).then_some(())
        });
        assert!(working.is_some(), "{}", kept.command(&["stack", "ls"]));
        signal(engine, Signal::KILL);
        wait_for(PATIENCE, || (kept.engine() != engine).then_some(())).expect("the next one");
    }
    drop(asking.join());
    let told = kept.command(&["stack", "ls", "--format", "{{.name}}: {{.frozen}}"]);
    assert!(
        told.contains("bad: the engine crashed 3 times while it worked on this stack"),
        "{told}"
    );
    assert!(
        told.contains("shop: the engine crashed 3 times while it worked on stack bad"),
        "{told}"
    );
    let ps = kept.host.0.bargee(&["ps", "--stack", "bad"]);
    let said = String::from_utf8_lossy(&ps.stderr).into_owned();
    assert!(said.contains("stack bad is frozen: the engine crashed"), "{said}");
    kept.host.down("bad");
    kept.host.down("shop");
}

#[test]
fn a_stopped_engine_leaves_containers_and_a_shutdown_leaves_nothing_until_the_next_start() {
    if !possible() {
        return;
    }
    let kept = Kept::start();
    let port = free_port();
    kept.host.up(&site(port));
    kept.command(&[
        "run",
        "-d",
        "--name",
        "alone",
        "--restart",
        "unless-stopped",
        "busybox",
        "sleep",
        "1000",
    ]);
    let init = init_of(&kept.host.0, &kept.host.id("web"));
    kept.command(&["engine", "stop"]);
    assert!(get(port).is_some(), "a stopped engine's containers go on");
    kept.command(&["engine", "restart"]);
    assert_eq!(init_of(&kept.host.0, &kept.host.id("web")), init);

    kept.command(&["system", "shutdown"]);
    until_nothing_is_left(kept.host.0.folder());
    assert!(get(port).is_none());

    kept.command(&["engine", "start"]);
    for name in ["shop-web-1", "shop-client-1", "alone"] {
        init_of(&kept.host.0, name);
    }
    wait_for(PATIENCE, || get(port)).expect("the port is back");
    kept.host.down("shop");
    kept.command(&["rm", "-f", "alone"]);
    kept.command(&["system", "shutdown"]);
    until_nothing_is_left(kept.host.0.folder());
}

#[test]
fn a_container_whose_shim_is_killed_is_dead_and_comes_back_by_its_policy() {
    if !possible() {
        return;
    }
    let host = Host::start();
    let port = free_port();
    host.up(&site(port));
    let web = host.id("web");
    let init = init_of(&host.0, &web);
    let shim = parent_of(init);
    assert!(processes("__shim").iter().any(|(pid, _)| *pid == shim), "{shim} is no shim");
    signal(shim, Signal::KILL);
    wait_for(PATIENCE, || {
        let state = state(&host.0, &web);
        (state["Pid"].as_i64().is_some_and(|pid| pid > 0 && pid != init)).then_some(())
    })
    .unwrap_or_else(|| panic!("{}\n{}", state(&host.0, &web), host.0.log()));
    // It has left its cgroup; the rest of its end is the kernel's.
    wait_for(PATIENCE, || (!lives(init)).then_some(())).expect("the old init ends");
    // Init keeps its shim's command line; only the shim itself is the engine's child.
    let engine = i64::from(host.0.pid());
    let shims = processes(&web).into_iter().filter(|(pid, _)| parent_of(*pid) == engine).count();
    assert_eq!(shims, 1);
    wait_for(PATIENCE, || get(port)).expect("its port leads to it");
    host.down("shop");
}

#[test]
fn a_down_that_a_crash_interrupts_is_ended_by_the_next_engine() {
    if !possible() {
        return;
    }
    let mut host = Host::start();
    // It does not obey, so that the stop takes its whole grace.
    let text = "
name: shop
services:
  deaf:
    image: busybox
    command: [sh, -c, \"trap '' TERM; while true; do sleep 0.1; done\"]
    stop_grace_period: 3s
";
    host.up(text);
    let deaf = host.id("deaf");
    let body = serde_json::to_vec(&DownRequest::default()).expect("plain data");
    let mut client = host.0.client();
    client.write("POST", "/bargee/v1/stacks/shop/down", &[], &body).expect("it is sent");
    wait_for(PATIENCE, || (host.view().status == "removing").then_some(())).expect("it goes");
    host.0.kill();
    host.0.launch();
    wait_for(PATIENCE, || {
        let answer = host.0.client().get("/bargee/v1/stacks/shop").ok()?;
        (answer.status == 404).then_some(())
    })
    .unwrap_or_else(|| panic!("the stack stays: {:?}\n{}", host.view(), host.0.log()));
    assert_eq!(host.count("/containers/json?all=1", ""), 0);
    assert!(processes(&deaf).is_empty());
}

#[test]
fn names_are_answered_again_after_netd_was_killed() {
    if !possible() {
        return;
    }
    let host = Host::start();
    let port = free_port();
    host.up(&site(port));
    let run = host.0.run();
    let netd = || {
        let mut all = processes(run.to_str().expect("a plain path")).into_iter();
        all.find(|(_, line)| line.contains("__netd")).map(|(pid, _)| pid)
    };
    let old = netd().expect("netd runs");
    signal(old, Signal::KILL);
    // Nothing asks for it: its end alone brings the next one.
    wait_for(PATIENCE, || netd().filter(|new| *new != old)).expect("another netd");
    wait_for(PATIENCE, || {
        let found = host.0.bargee(&["exec", "shop-client-1", "nslookup", "web"]);
        found.status.success().then_some(())
    })
    .unwrap_or_else(|| panic!("no name is answered\n{}", host.0.log()));
    host.down("shop");
}

#[test]
fn after_a_boot_what_must_run_runs_again() {
    if !possible() {
        return;
    }
    let mut host = Host::start();
    let port = free_port();
    let text =
        format!("{}  job:\n    image: busybox\n    command: [sh, -c, 'echo done']\n", site(port));
    host.up(&text);
    host.services("stop", &["client"]);
    let (web, client, job) = (host.id("web"), host.id("client"), host.id("job"));
    host.0.bargee(&[
        "run",
        "-d",
        "--name",
        "alone",
        "--restart",
        "always",
        "busybox",
        "sleep",
        "9",
    ]);
    host.0.bargee(&["run", "-d", "--name", "once", "busybox", "sleep", "1000"]);
    let once = init_of(&host.0, "once");
    host.0.kill();
    switch_off(host.0.folder(), &host.0.root());
    host.0.launch();

    wait_for(PATIENCE, || get(port)).unwrap_or_else(|| panic!("no port\n{}", host.0.log()));
    assert_eq!(host.id("web"), web, "the same container");
    init_of(&host.0, "alone");
    assert_eq!(host.replica("client"), Some((client, "exited".to_owned())), "the user's stop");
    assert_eq!(host.replica("job"), Some((job, "exited".to_owned())), "a job is done once");
    let once_state = state(&host.0, "once");
    assert_eq!(once_state["Status"], "exited", "{once_state}");
    wait_for(PATIENCE, || (!lives(once)).then_some(())).expect("it ended with the machine");
    let plan = host.plan(&text);
    assert!(!plan.contains("web.1"), "{plan}");
    let up = host.apply(&text, Default::default());
    assert!(up.ok, "{up:?}");
    host.down("shop");
}

/// Takes away what a boot takes away, and gives all records the mark of another boot.
fn switch_off(folder: &Path, root: &Path) {
    let word = folder.to_str().expect("a plain path");
    for (pid, _) in processes(word) {
        signal(pid, Signal::KILL);
    }
    wait_for(PATIENCE, || processes(word).is_empty().then_some(())).expect("all end");
    let paths = Paths::new(root.to_owned(), folder.join("run"));
    let parent = paths.cgroup_parent();
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
        let cgroup = hierarchy.path().join(parent.trim_start_matches('/'));
        for inner in std::fs::read_dir(&cgroup).into_iter().flatten().flatten() {
            if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
                let gone = wait_for(PATIENCE, || {
                    let procs = std::fs::read_to_string(inner.path().join("cgroup.procs"));
                    for pid in procs.unwrap_or_default().lines().filter_map(|p| p.parse().ok()) {
                        let _gone = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
                    }
                    let removed = std::fs::remove_dir(inner.path());
                    (removed.is_ok() || !inner.path().exists()).then_some(())
                });
                assert!(gone.is_some(), "{} stays", inner.path().display());
            }
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    for line in mounts.lines().rev().filter(|line| line.contains(word)) {
        let target = line.split(' ').nth(4).expect("a mount point");
        let _unmounted = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
    }
    drop(Command::new("nft").args(["delete", "table", "inet", &paths.nft_table()]).output());
    let database = rusqlite::Connection::open(paths.database()).expect("the database opens");
    let changed = database
        .execute(
            "UPDATE containers SET runtime = json_set(runtime, '$.boot_id', 'another-boot') \
             WHERE runtime IS NOT NULL",
            [],
        )
        .expect("the rows are there");
    assert!(changed > 0);
}

#[test]
fn a_half_made_stack_is_finished_after_a_crash_at_any_moment() {
    if !possible() {
        return;
    }
    let mut host = Host::start();
    let services: String = (0..6)
        .map(|n| {
            format!(
                "  s{n}: {{image: busybox, command: [sleep, '1000'], init: true, restart: always, \
                 stop_grace_period: 1s}}\n"
            )
        })
        .collect();
    let text = format!("name: shop\nservices:\n{services}");
    let body = serde_json::to_vec(&request(&text, Default::default())).expect("plain data");
    // The database has more and more of the stack when the engine dies.
    for created in [0, 2, 4] {
        let mut client = host.0.client();
        client.write("POST", "/bargee/v1/stacks/shop/apply", &[], &body).expect("it is sent");
        wait_for(PATIENCE, || {
            (host.count("/containers/json?all=1", "") >= created
                && host.0.client().get("/bargee/v1/stacks/shop").ok()?.status == 200)
                .then_some(())
        })
        .expect("it is under way");
        host.0.kill();
        host.0.launch();
        for n in 0..6 {
            host.until_running(&format!("s{n}"));
        }
        assert_eq!(host.plan(&text), "");
        assert_eq!(host.count("/containers/json?all=1", ""), 6);
        host.down("shop");
    }
}

#[test]
fn a_test_that_panics_leaves_nothing_of_its_engine() {
    if !possible() {
        return;
    }
    let mut folder = None;
    let test = std::panic::AssertUnwindSafe(|| {
        let mut host = Host::start();
        host.up(&site(free_port()));
        folder = Some(host.0.folder().to_owned());
        host.0.kill();
        panic!("as a failed assertion does");
    });
    assert!(std::panic::catch_unwind(test).is_err());
    until_nothing_is_left(&folder.expect("it came so far"));
}
