//! Stacks on a real kernel: brought up, kept, changed, and taken down, through the API that the command line uses.

use std::path::PathBuf;

use bargee::protocol::{ApplyOptions, StackView};

use super::support::engine::{PATIENCE, possible, wait_for};
use super::support::stack::{Host, SHOP, request};

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
    let path = format!("/containers/{web}/json");
    // A replica counts as running while it is still being started.
    let (pid, process) = wait_for(PATIENCE, || {
        let pid = host.0.client().get(&path).ok()?.json()["State"]["Pid"].as_i64()?;
        Some((pid, rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?))
    })
    .expect("it runs");
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

/// Begins to bring up [`SHOP`] with a database that becomes healthy when the file `ready` is in the folder that is
/// returned; `web` waits for it. Returns once the database runs, with the text and the client that still reads.
fn begin_behind_a_gate(host: &Host) -> (PathBuf, String, impl Sized + use<>) {
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
    (gate, text, client)
}

#[test]
fn an_engine_that_dies_half_way_goes_on_where_it_was() {
    if !possible() {
        return;
    }
    let mut host = Host::start();
    let (gate, text, _client) = begin_behind_a_gate(&host);
    host.0.kill();
    std::fs::write(gate.join("ready"), "").expect("the gate opens");
    host.0.launch();
    host.until_running("web");
    assert_eq!(host.plan(&text), "");
}

#[test]
fn a_stop_of_what_has_no_container_yet_is_remembered_too() {
    if !possible() {
        return;
    }
    let host = Host::start();
    let (gate, _, _client) = begin_behind_a_gate(&host);
    // Nothing makes it again before the database is healthy.
    wait_for(PATIENCE, || host.replica("web")).expect("it is made before it can start");
    host.remove_container(&host.id("web"));
    assert_eq!(host.replica("web"), None);
    let stopped = host.services("stop", &["web"]);
    assert!(stopped.ok, "{stopped:?}");
    std::fs::write(gate.join("ready"), "").expect("the gate opens");
    // The loop heals the database, and has looked at what waited for it by then.
    for _ in 0..2 {
        let db = host.id("db");
        host.remove_container(&db);
        host.until_replaced("db", &db);
    }
    assert_eq!(host.replica("web"), None);
    let started = host.services("start", &["web"]);
    assert!(started.ok, "{started:?}");
    host.until_running("web");
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
