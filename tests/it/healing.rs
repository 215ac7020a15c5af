//! What goes wrong by itself or by hand in a stack, and what its loop makes of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bargee::engine::paths::Paths;
use bargee::protocol::ApplyOptions;

use super::support::engine::{PATIENCE, possible, wait_for};
use super::support::pace::slowed;
use super::support::stack::Host;

const WEB: &str = "
name: shop
services:
  web: {image: busybox, command: [sleep, '1000'], init: true, restart: always, stop_grace_period: 1s, mem_limit: 64m}
";

/// Events of before now, oldest first.
fn events(host: &Host) -> Vec<serde_json::Value> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let answer = host.0.client().get(&format!("/events?since=1&until={until}")).expect("an answer");
    let lines = answer.text();
    lines.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
}

/// Actions about a container so far, with when they happened in nanoseconds.
fn actions(host: &Host, name: &str) -> Vec<(String, i64)> {
    let of_it = |event: &serde_json::Value| event["Actor"]["Attributes"]["name"] == name;
    let told = |event: serde_json::Value| {
        let action = event["Action"].as_str().expect("an action").to_owned();
        (action, event["timeNano"].as_i64().expect("a time"))
    };
    events(host).into_iter().filter(of_it).map(told).collect()
}

fn post(host: &Host, path: &str) -> u16 {
    host.0.client().send("POST", path, &[], b"").expect("an answer").status
}

fn status(host: &Host, service: &str) -> String {
    let view = host.view();
    let service = view.services.into_iter().find(|view| view.name == service);
    service.and_then(|view| view.replicas.into_iter().next()).map(|r| r.status).unwrap_or_default()
}

/// Returns the file that holds the memory limit, on version 1, 2 or both.
fn memory_limit(host: &Host, id: &str) -> PathBuf {
    let paths = Paths::new(host.0.root(), host.0.run());
    let cgroup = format!("{}/{id}", paths.cgroup_parent().trim_start_matches('/'));
    let files = [
        Path::new("/sys/fs/cgroup/memory").join(&cgroup).join("memory.limit_in_bytes"),
        Path::new("/sys/fs/cgroup").join(&cgroup).join("memory.max"),
    ];
    files.into_iter().find(|file| file.exists()).expect("the container has a memory limit")
}

#[test]
fn a_limit_that_somebody_changes_in_the_cgroup_is_put_back_at_once() {
    if !possible() {
        return;
    }
    let host = Host::start();
    host.up(WEB);
    let file = memory_limit(&host, &host.id("web"));
    let read = || std::fs::read_to_string(&file).expect("it is there").trim().to_owned();
    assert_eq!(read(), "67108864");
    let swap = file.with_file_name("memory.memsw.limit_in_bytes");
    for (written, after_restart) in [("50331648", false), ("33554432", true)] {
        if after_restart {
            // The new run's cgroup is watched like the first one's.
            assert!(host.services("restart", &["web"]).ok);
            assert_eq!(read(), "67108864");
            wait_for(PATIENCE, || (host.plan(WEB).is_empty()).then_some(())).expect("settled");
        }
        assert!(swap.exists() || file.ends_with("memory.max"));
        std::fs::write(&file, written).expect("root writes it");
        let start = Instant::now();
        wait_for(PATIENCE, || (read() == "67108864").then_some(()))
            .unwrap_or_else(|| panic!("it stays at {}\n{}", read(), host.0.log()));
        // Far less than until the check that looks without a reason.
        assert!(start.elapsed() < slowed(Duration::from_secs(10)), "{:?}", start.elapsed());
    }
    let healed = wait_for(PATIENCE, || {
        events(&host).into_iter().find(|event| {
            event["Action"] == "healed"
                && event["Actor"]["Attributes"]["cause"]
                    .as_str()
                    .is_some_and(|cause| cause.contains("drifted"))
        })
    });
    assert!(healed.is_some(), "{:?}", events(&host));
    host.down("shop");
}

#[test]
fn an_unhealthy_service_is_restarted_with_a_growing_pause() {
    if !possible() {
        return;
    }
    let host = Host::start();
    let text = "
name: shop
services:
  web:
    image: busybox
    command: [sleep, '1000']
    init: true
    stop_grace_period: 1s
    healthcheck: {test: [CMD, 'false'], interval: 50ms, retries: 1}
";
    assert!(host.apply(text, ApplyOptions::default()).ok);
    let starts = wait_for(PATIENCE, || {
        let starts: Vec<i64> = actions(&host, "shop-web-1")
            .into_iter()
            .filter(|(action, _)| action == "start")
            .map(|(_, at)| at)
            .collect();
        (starts.len() >= 6).then_some(starts)
    })
    .unwrap_or_else(|| panic!("{:?}\n{}", actions(&host, "shop-web-1"), host.0.log()));
    let pause = |n: usize| Duration::from_nanos((starts[n + 1] - starts[n]).unsigned_abs());
    // 100 ms doubled each time, less a quarter at most.
    assert!(pause(4) > Duration::from_millis(600), "{starts:?}");
    assert!(pause(4) > pause(0), "{starts:?}");
    host.down("shop");
}

#[test]
fn a_crash_loop_shows_its_pause_and_why() {
    if !possible() {
        return;
    }
    let host = Host::start();
    let text = WEB.replace("[sleep, '1000']", "[sh, -c, exit 3]").replace("init: true, ", "");
    assert!(host.apply(&text, ApplyOptions::default()).ok);
    let told = wait_for(PATIENCE, || {
        let told = status(&host, "web");
        (told.starts_with("Restarting in") && told.contains("exit 3")).then_some(told)
    });
    assert!(told.is_some(), "{}\n{}", status(&host, "web"), host.0.log());
    // `ps` has the same words.
    let shown = wait_for(PATIENCE, || {
        let output = host.0.bargee(&["ps", "-a"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("Restarting").then_some(text)
    });
    assert!(shown.is_some());
    host.down("shop");
}

#[test]
fn a_kill_by_the_user_is_a_wish_and_one_from_outside_is_not() {
    if !possible() {
        return;
    }
    let host = Host::start();
    host.up(WEB);
    let web = host.id("web");
    assert_eq!(post(&host, &format!("/containers/{web}/kill")), 204);
    wait_for(PATIENCE, || host.replica("web").filter(|(_, state)| state == "exited"))
        .expect("it ends");
    // Something else that makes the loop look: a limit of another service, here a new one.
    let more = format!(
        "{WEB}  other: {{image: busybox, command: [sleep, '1000'], init: true, stop_grace_period: 1s}}\n"
    );
    let services = vec!["other".to_owned()];
    assert!(host.apply(&more, ApplyOptions { services, ..ApplyOptions::default() }).ok);
    let other = host.id("other");
    host.remove_container(&other);
    host.until_replaced("other", &other);
    assert_eq!(host.replica("web"), Some((web, "exited".to_owned())));
    host.up(&more);
    host.until_running("web");
    host.down("shop");
}

#[test]
fn what_has_to_be_healed_all_the_time_is_frozen_until_the_next_up() {
    if !possible() {
        return;
    }
    let host = Host::start();
    host.up(WEB);
    let mut frozen = None;
    for _ in 0..12 {
        let web = host.id("web");
        host.remove_container(&web);
        let next = wait_for(PATIENCE, || {
            frozen = host.view().frozen;
            let running =
                host.replica("web").filter(|(id, state)| *id != web && state == "running");
            (frozen.is_some() || running.is_some()).then_some(())
        });
        assert!(next.is_some(), "{}", host.0.log());
        if frozen.is_some() {
            break;
        }
    }
    let reason = frozen.expect("it freezes");
    assert!(reason.contains("web.1 had to be healed 11 times"), "{reason}");
    assert_eq!(host.view().status, "frozen");
    host.up(WEB);
    assert_eq!(host.view().frozen, None);
    host.down("shop");
}

#[test]
fn a_memory_hog_is_restarted_and_everybody_says_oom() {
    if !possible() {
        return;
    }
    let host = Host::start();
    let text = "
name: shop
services:
  hog:
    image: busybox
    command: [dd, if=/dev/zero, of=/dev/null, bs=200M, count=1]
    restart: always
    mem_limit: 16m
    memswap_limit: 16m
";
    assert!(host.apply(text, ApplyOptions::default()).ok);
    let told = wait_for(PATIENCE, || {
        let told = status(&host, "hog");
        (told.starts_with("Restarting in") && told.contains("OOM")).then_some(told)
    });
    assert!(told.is_some(), "{}\n{}", status(&host, "hog"), host.0.log());
    let told: Vec<String> =
        actions(&host, "shop-hog-1").into_iter().map(|(action, _)| action).collect();
    let first = told.iter().position(|action| action == "oom");
    let die = told.iter().position(|action| action == "die");
    assert!(first.is_some() && first < die, "{told:?}");
    let path = format!("/containers/{}/json", host.id("hog"));
    // Between two runs; a slow machine may be in the next one already.
    let killed = wait_for(PATIENCE, || {
        let state = host.0.client().get(&path).ok()?.json();
        (state["State"]["OOMKilled"] == true).then_some(())
    });
    assert!(killed.is_some(), "{}", host.0.log());
    host.down("shop");
}

#[test]
fn a_finished_job_does_not_run_again_when_its_container_is_pruned() {
    if !possible() {
        return;
    }
    let host = Host::start();
    let text = "
name: shop
services:
  migrate: {image: busybox, command: [sh, -c, 'echo x >> /data/runs'], volumes: ['data:/data']}
  web:
    image: busybox
    command: [sleep, '1000']
    init: true
    stop_grace_period: 1s
    volumes: ['data:/data']
    depends_on: {migrate: {condition: service_completed_successfully}}
volumes: {data: {}}
";
    host.up(text);
    let runs = || {
        let output = host.0.bargee(&["exec", "shop-web-1", "cat", "/data/runs"]);
        String::from_utf8_lossy(&output.stdout).lines().count()
    };
    assert_eq!(runs(), 1);
    let (migrate, web) = (host.id("migrate"), host.id("web"));
    host.remove_container(&migrate);
    assert_eq!(host.plan(text), "");
    host.up(text);
    assert_eq!(host.view().status, "running(1)");
    // Its dependent is made anew without it.
    host.remove_container(&web);
    host.until_replaced("web", &web);
    assert_eq!(runs(), 1);
    assert_eq!(host.replica("migrate"), None);
    // Another job runs.
    host.up(&text.replace("echo x", "echo  x"));
    assert_eq!(runs(), 2);
    // Asked for by name it runs as well.
    host.remove_container(&host.id("migrate"));
    let services = vec!["migrate".to_owned()];
    let options = ApplyOptions {
        services,
        recreate: bargee::protocol::RecreatePolicy::Always,
        wait: true,
        ..ApplyOptions::default()
    };
    let change = host.apply(&text.replace("echo x", "echo  x"), options);
    assert!(change.ok, "{change:?}");
    assert_eq!(runs(), 3);
    // Taken down means from the beginning.
    host.down("shop");
    host.up(&text.replace("echo x", "echo  x"));
    assert_eq!(runs(), 4);
    host.down("shop");
}

#[test]
fn another_clients_rename_or_create_freezes_the_stack_until_the_next_up() {
    if !possible() {
        return;
    }
    let host = Host::start();
    host.up(WEB);
    let web = host.id("web");
    assert_eq!(post(&host, &format!("/containers/{web}/rename?name=mine")), 204);
    let view = host.view();
    assert_eq!(view.status, "frozen");
    let reason = view.frozen.expect("a reason");
    assert_eq!(reason, "another client renamed container shop-web-1 to mine");
    host.up(WEB);
    assert_eq!(host.id("web"), web);
    assert_eq!(host.view().services[0].replicas[0].container, "shop-web-1");

    // A name that is refused freezes nothing.
    assert_eq!(post(&host, &format!("/containers/{web}/rename?name=a%20b")), 400);
    assert_eq!(host.view().frozen, None);

    let labels = BTreeMap::from([
        ("com.docker.compose.project", "shop"),
        ("com.docker.compose.service", "web"),
    ]);
    let body = serde_json::json!({ "Image": "busybox", "Labels": labels });
    let made = host.0.client().post("/containers/create?name=theirs", &body).expect("an answer");
    assert_eq!(made.status, 201, "{}", made.text());
    let reason = host.view().frozen.expect("it is frozen");
    assert_eq!(reason, "another client created container theirs in it");
    host.remove_container("theirs");
    host.down("shop");
}

#[test]
fn a_stack_that_another_client_takes_down_stays_down() {
    if !possible() {
        return;
    }
    let host = Host::start();
    host.up(WEB);
    let web = host.id("web");
    // As `docker compose down` does it.
    assert_eq!(post(&host, &format!("/containers/{web}/stop")), 204);
    host.remove_container(&web);
    let removed = host.0.client().send("DELETE", "/networks/shop_default", &[], b"");
    assert_eq!(removed.expect("an answer").status, 204);
    // The loop has looked when it has seen another event.
    let other = WEB.replace("shop", "other");
    host.up(&other);
    host.0.bargee(&["rm", "-f", "other-web-1"]);
    let healed = wait_for(PATIENCE, || {
        let rows = host.0.client().get("/containers/json").ok()?.json();
        rows.as_array()?.iter().any(|row| row["Names"][0] == "/other-web-1").then_some(())
    });
    assert!(healed.is_some(), "{}", host.0.log());
    assert_eq!(host.view().status, "stopped");
    let networks = host.0.client().get("/networks").expect("an answer").text();
    assert!(!networks.contains("shop_default"), "{networks}");
    host.up(WEB);
    host.until_running("web");
    host.down("shop");
    host.down("other");
}

#[test]
fn a_forced_removal_does_not_wait_for_a_stop_that_is_under_way() {
    if !possible() {
        return;
    }
    let host = Host::start();
    let deaf = "trap '' TERM; while true; do sleep 0.1; done";
    let run = host.0.bargee(&["run", "-d", "--name", "deaf", "busybox", "sh", "-c", deaf]);
    assert!(run.status.success());
    let mut stopping = host.0.client();
    stopping.write("POST", "/containers/deaf/stop?t=60", &[], b"").expect("it is sent");
    wait_for(PATIENCE, || {
        actions(&host, "deaf").iter().any(|(action, _)| action == "kill").then_some(())
    })
    .expect("the stop is under way");
    let start = Instant::now();
    host.remove_container("deaf");
    assert!(start.elapsed() < slowed(Duration::from_secs(10)), "{:?}", start.elapsed());
    assert_eq!(stopping.head().expect("the stop is answered").status, 204);
}
