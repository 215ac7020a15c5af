//! Engines and netd that are killed again and again, and what goes on meanwhile: logs, sixty containers, backoffs,
//! names and ports.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bargee::protocol::ApplyOptions;
use nix::sys::ptrace;
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::process::Signal;

use super::support::engine::{Engine, PATIENCE, possible, wait_for};
use super::support::folder::free_port;
use super::support::http::{Client, demultiplex};
use super::support::kept::Kept;
use super::support::pace::slowed;
use super::support::process::signal;
use super::support::stack::Host;

/// Numbers from 0, a line each, about one a millisecond.
const COUNT: &str = "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); busybox usleep 500; done";

#[test]
fn a_log_has_every_line_once_however_often_the_engine_is_killed() {
    if !possible() {
        return;
    }
    let mut engine = Engine::start();
    engine.load_busybox("busybox");
    let run = engine.bargee(&["run", "-d", "--name", "counter", "busybox", "sh", "-c", COUNT]);
    assert!(run.status.success(), "{run:?}");
    let state = |engine: &Engine| {
        let answer = engine.client().get("/containers/counter/json").expect("an answer").json();
        answer["State"]["Status"].as_str().expect("a status").to_owned()
    };
    let mut kills = 0;
    while state(&engine) == "running" {
        engine.kill();
        kills += 1;
        engine.launch();
    }
    assert!(kills > 5, "it was killed {kills} times only");
    let answer = engine.client().get("/containers/counter/logs?stdout=1&tail=all");
    let (text, _) = demultiplex(&answer.expect("an answer").body);
    let lines: Vec<u32> = text.lines().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(lines, (0..3000).collect::<Vec<u32>>(), "after {kills} kills");
    eprintln!("3000 lines over {kills} kills of the engine");
}

/// Pid and start time of every shim and init, the inode of every namespace, and the index of every link of this root.
fn facts(host: &Host) -> BTreeMap<String, String> {
    let run = host.0.run();
    let mut facts = BTreeMap::new();
    for entry in fs::read_dir(run.join("containers")).expect("containers run").flatten() {
        let id = entry.file_name().into_string().expect("an id");
        let shim = fs::read_to_string(entry.path().join("shim.pid")).expect("a shim");
        let children = fs::read_to_string(format!("/proc/{shim}/task/{shim}/children"));
        let init = children.expect("it lives").trim().to_owned();
        let started = |pid: &str| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
            let (_, fields) = stat.rsplit_once(") ").expect("a name");
            fields.split(' ').nth(19).expect("a start time").to_owned()
        };
        let namespace = fs::read_link(format!("/proc/{init}/ns/net")).expect("a namespace");
        let fact =
            format!("{shim} {} {init} {} {}", started(&shim), started(&init), namespace.display());
        facts.insert(id, fact);
    }
    let root = bargee::engine::paths::Paths::new(host.0.root(), run);
    for link in fs::read_dir("/sys/class/net").expect("links").flatten() {
        let name = link.file_name().into_string().expect("a name");
        if name.contains(root.id()) {
            let index = fs::read_to_string(link.path().join("ifindex")).unwrap_or_default();
            facts.insert(name, index);
        }
    }
    facts
}

#[test]
fn sixty_containers_are_not_touched_when_the_engine_is_killed_and_back_within_a_second() {
    if !possible() {
        return;
    }
    let kept = Kept::start();
    let text = "
name: shop
services:
  many:
    image: busybox
    command: [sleep, '100000']
    init: true
    restart: always
    stop_grace_period: 1s
    deploy: {replicas: 60}
    ports: ['8000']
";
    kept.host.up(text);
    let before = facts(&kept.host);
    // 60 containers, a link each, their bridge and the default one.
    assert_eq!(before.len(), 122, "{before:#?}");
    for _ in 0..2 {
        let engine = kept.engine();
        let killed = Instant::now();
        signal(engine, Signal::KILL);
        let next = kept.engine();
        let back = killed.elapsed();
        assert_ne!(next, engine);
        eprintln!("60 containers: an engine answers {back:?} after the kill");
        assert!(back < slowed(Duration::from_secs(1)), "{back:?}");
        assert_eq!(kept.host.plan(text), "");
        assert_eq!(facts(&kept.host), before);
    }
    kept.host.down("shop");
}

#[test]
fn a_backoff_goes_on_where_the_killed_engine_was() {
    if !possible() {
        return;
    }
    let mut host = Host::start();
    let text = "
name: shop
services:
  web: {image: busybox, command: [sh, -c, exit 3], restart: always}
";
    assert!(host.apply(text, ApplyOptions::default()).ok);
    let starts = |host: &Host| -> Vec<i64> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.expect("a clock");
        let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
        let path =
            format!("/events?since=1&until={until}&filters=%7B%22event%22:%5B%22start%22%5D%7D");
        let answer = host.0.client().get(&path).expect("an answer").text();
        let events = answer.lines().map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).expect("an event");
            event["timeNano"].as_i64().expect("a time")
        });
        events.collect()
    };
    // The pause after the sixth run is 1.6 s, less a quarter at most.
    let told = wait_for(PATIENCE, || Some(starts(&host)).filter(|all| all.len() >= 6));
    let sixth = *told.expect("it is restarted").last().expect("some");
    host.0.kill();
    host.0.launch();
    let all = wait_for(PATIENCE, || {
        Some(starts(&host)).filter(|all| all.last().is_some_and(|last| *last > sixth))
    })
    .unwrap_or_else(|| panic!("it starts no more\n{}", host.0.log()));
    let next = all.into_iter().find(|at| *at > sixth).expect("one was there");
    let pause = Duration::from_nanos((next - sixth).unsigned_abs());
    assert!(pause > Duration::from_secs(1) && pause < slowed(Duration::from_secs(5)), "{pause:?}");
    host.down("shop");
}

/// Asks the resolver in a process's network namespace.
fn finds(pid: i64, name: &'static str) -> bool {
    let Ok(namespace) = fs::File::open(format!("/proc/{pid}/ns/net")) else { return false };
    let asked = std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may");
        let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.push(u8::try_from(name.len()).expect("a short name"));
        query.extend(name.bytes());
        query.extend([0, 0, 1, 0, 1]);
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.set_read_timeout(Some(slowed(Duration::from_millis(50)))).expect("a timeout");
        let mut answer = [0; 512];
        let exchange =
            socket.send_to(&query, "127.0.0.11:53").and_then(|_| socket.recv(&mut answer));
        exchange.is_ok() && answer[7] > 0
    });
    asked.join().expect("the thread ends")
}

fn connects(address: &str, port: u16) -> bool {
    let target = SocketAddr::new(address.parse().expect("an address"), port);
    std::net::TcpStream::connect_timeout(&target, slowed(Duration::from_millis(200))).is_ok()
}

#[test]
fn netd_comes_back_with_all_of_its_state_whether_an_engine_is_there_or_not() {
    if !possible() {
        return;
    }
    let mut host = Host::start();
    let port = free_port();
    let text = format!(
        "
name: shop
services:
  web:
    image: busybox
    command: [httpd, -f, -p, '80']
    init: true
    restart: always
    stop_grace_period: 1s
    deploy: {{replicas: 10}}
    ports: ['{port}:80']
"
    );
    host.up(&text);
    let view = host.view();
    let ids = view.services[0].replicas.iter().map(|replica| replica.id.clone());
    let pids: Vec<i64> = ids
        .map(|id| {
            let state = host.0.client().get(&format!("/containers/{id}/json")).expect("an answer");
            state.json()["State"]["Pid"].as_i64().expect("it runs")
        })
        .collect();
    let record = host.0.run().join("netd/netd.pid");
    let netd = || -> i64 {
        let text = fs::read_to_string(&record).expect("netd runs");
        text.split(' ').next().expect("a pid").parse().expect("a number")
    };
    let all_is_there = || {
        let refused = std::net::TcpListener::bind(("127.0.0.1", port)).is_err();
        refused && connects("::1", port) && pids.iter().all(|pid| finds(*pid, "web"))
    };
    assert!(all_is_there(), "{}", host.0.log());

    for _ in 0..3 {
        let old = netd();
        let killed = Instant::now();
        signal(old, Signal::KILL);
        wait_for(PATIENCE, || (netd() != old && all_is_there()).then_some(()))
            .unwrap_or_else(|| panic!("netd does not come back\n{}", host.0.log()));
        let gap = killed.elapsed();
        eprintln!("names, proxies and ports of 10 containers are back {gap:?} after netd's death");
        assert!(gap < slowed(Duration::from_secs(2)), "{gap:?}");
        assert!(connects("127.0.0.1", port));
    }

    host.0.kill();
    assert!(all_is_there(), "they outlive the engine");
    let old = netd();
    signal(old, Signal::KILL);
    wait_for(PATIENCE, || (!connects("::1", port)).then_some(())).expect("nobody proxies");
    assert!(connects("127.0.0.1", port), "the kernel's own ports need nobody");
    let launched = Instant::now();
    host.0.launch();
    wait_for(PATIENCE, || all_is_there().then_some(()))
        .unwrap_or_else(|| panic!("netd does not come back\n{}", host.0.log()));
    eprintln!("all is back {:?} after the next engine's start", launched.elapsed());
    host.down("shop");
}

#[test]
fn a_socket_that_somebody_unlinks_is_bound_again_by_this_engine_and_by_the_next_one() {
    if !possible() {
        return;
    }
    let kept = Kept::start();
    let socket = kept.host.0.socket();
    let engine = kept.engine();
    fs::remove_file(&socket).expect("it is there");
    let answers = || {
        let stream = UnixStream::connect(&socket).ok()?;
        let answer = Client::over(stream).get("/bargee/v1/version").ok()?;
        answer.json()["pid"].as_i64()
    };
    assert_eq!(wait_for(PATIENCE, answers), Some(engine));
    // The keeper passes its own socket on, which has no name any more.
    fs::remove_file(&socket).expect("it is there again");
    signal(engine, Signal::KILL);
    let next = wait_for(PATIENCE, answers).expect("the next engine");
    assert_ne!(next, engine);
    kept.command(&["ps"]);
}

/// Holds a process in the middle of whatever it does until somebody kills it: nothing in it runs, and SIGCONT is no use.
fn hang(pid: i64) {
    let (hung, hangs) = std::sync::mpsc::channel();
    // Only the thread that holds it may let it go, and it must take its end.
    std::thread::spawn(move || {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
        ptrace::seize(pid, ptrace::Options::empty()).expect("root may");
        ptrace::interrupt(pid).expect("it runs");
        let mut status = waitpid(pid, None);
        hung.send(()).expect("the test waits");
        while matches!(status, Ok(WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..))) {
            status = waitpid(pid, None);
        }
    });
    hangs.recv().expect("it hangs");
}

const ALONE: &str = "
name: shop
services:
  web: {image: busybox, command: [sleep, '100000'], init: true, restart: always, stop_grace_period: 1s}
";

fn shim_of(host: &Host, id: &str) -> i64 {
    let file = host.0.run().join("containers").join(id).join("shim.pid");
    fs::read_to_string(file).expect("it runs").trim().parse().expect("a number")
}

#[test]
fn a_shim_that_hangs_keeps_neither_a_removal_nor_the_next_engine_from_their_end() {
    if !possible() {
        return;
    }
    let mut host = Host::start();
    host.up(ALONE);
    let web = host.id("web");
    let hung = shim_of(&host, &web);
    hang(hung);
    host.0.kill();
    host.0.launch();
    wait_for(PATIENCE, || (shim_of(&host, &web) != hung).then_some(()))
        .unwrap_or_else(|| panic!("the container is not started again\n{}", host.0.log()));
    host.until_running("web");
    assert_eq!(host.id("web"), web);

    hang(shim_of(&host, &web));
    let start = Instant::now();
    host.remove_container(&web);
    eprintln!("removed {:?} after its shim hung", start.elapsed());
    host.until_replaced("web", &web);
    host.down("shop");
}

#[test]
fn a_shim_or_netd_that_somebody_stopped_is_woken_as_soon_as_it_is_needed() {
    if !possible() {
        return;
    }
    let mut host = Host::start();
    host.up(ALONE);
    let web = host.id("web");
    let shim = shim_of(&host, &web);
    let bar = Duration::from_secs(5);
    // By the next engine, which leaves the container as it is.
    signal(shim, Signal::STOP);
    let start = Instant::now();
    host.0.kill();
    host.0.launch();
    eprintln!("the next engine serves after {:?} though a shim was stopped", start.elapsed());
    host.until_running("web");
    assert_eq!(shim_of(&host, &web), shim);

    let restart = |stopped: i64| {
        signal(stopped, Signal::STOP);
        let start = Instant::now();
        let output = host.0.bargee(&["restart", "-t", "0", "shop-web-1"]);
        let took = start.elapsed();
        assert!(output.status.success(), "{output:?}");
        eprintln!("restarted in {took:?}");
        assert!(took < bar, "it took {took:?}");
    };
    restart(shim);
    let record = fs::read_to_string(host.0.run().join("netd/netd.pid")).expect("netd runs");
    let netd = record.split(' ').next().expect("a pid").parse().expect("a number");
    restart(netd);
    assert_eq!(fs::read_to_string(host.0.run().join("netd/netd.pid")).expect("netd runs"), record);
    host.down("shop");
}
