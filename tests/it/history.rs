//! `bargee stack history`, `diff`, `at` and `rollback`.

use crate::support::engine::{Engine, possible};
use crate::support::folder::{Folder, text};

const STACK: &str = "
name: shop
services:
  web:
    image: app
    command: [sh, -c, 'echo $$GREETING; cat /app.conf; exec sleep 1000']
    init: true
    stop_grace_period: 1s
    environment: {GREETING: one}
    configs: [{source: app, target: /app.conf}]
configs:
  app: {content: 'colour=red'}
";

fn shop() -> Option<(Engine, Folder)> {
    if !possible() {
        return None;
    }
    let engine = Engine::start();
    engine.load_busybox("app");
    Some((engine, Folder::new(STACK)))
}

fn history(engine: &Engine, folder: &Folder) -> Vec<serde_json::Value> {
    let lines = folder.ok(engine, &["stack", "history", "--json"]);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The whole log of the replica that runs.
fn said(engine: &Engine, folder: &Folder) -> String {
    folder.ok(engine, &["exec", "shop-web-1", "sh", "-c", "echo $GREETING; cat /app.conf"])
}

#[test]
fn a_rollback_brings_back_image_configuration_and_files_and_is_a_revision_itself() {
    let Some((engine, folder)) = shop() else { return };
    folder.ok(&engine, &["up", "-d", "-m", "the first one"]);
    let image = |engine: &Engine| {
        folder.ok(engine, &["inspect", "-f", "{{.Image}}", "shop-web-1"]).trim().to_owned()
    };
    let first_image = image(&engine);
    let red = said(&engine, &folder);
    assert_eq!(red, "one\ncolour=red");

    // Another image under the same name, another variable, another content of a config.
    folder.ok(&engine, &["tag", "app", "app:kept"]);
    folder.ok(&engine, &["run", "--name", "change", "app", "touch", "/changed"]);
    folder.ok(&engine, &["commit", "change", "app"]);
    folder.ok(&engine, &["rm", "change"]);
    folder.write("stack.yaml", &STACK.replace("one", "two").replace("red", "blue"));
    folder.ok(&engine, &["up", "-d"]);
    assert_ne!(image(&engine), first_image);
    assert_eq!(said(&engine, &folder), "two\ncolour=blue");

    // Nothing new is no revision.
    folder.ok(&engine, &["up", "-d", "-m", "again"]);
    let revisions = history(&engine, &folder);
    let told: Vec<_> = revisions
        .iter()
        .map(|it| (it["number"].as_u64(), it["outcome"].as_str(), it["message"].as_str()))
        .collect();
    let expected = [(Some(2), Some("good"), None), (Some(1), Some("good"), Some("the first one"))];
    assert_eq!(told, expected);
    assert_eq!(revisions[0]["current"], true);

    // What changed, as a plan tells it.
    let difference = folder.ends(&engine, &["stack", "diff", "1"], 2);
    assert!(difference.contains("environment.GREETING: one → two  # "), "{difference}");
    assert!(difference.contains("files./app.conf.content: "), "{difference}");
    assert!(difference.contains("shop: 1 to replace;"), "{difference}");
    let same = folder.ok(&engine, &["stack", "diff", "2", "2"]);
    assert_eq!(same, "shop: revisions 2 and 2 want the same\n");

    folder.ok(&engine, &["stack", "rollback", "-m", "blue is ugly"]);
    assert_eq!(image(&engine), first_image);
    assert_eq!(said(&engine, &folder), red);
    let revisions = history(&engine, &folder);
    assert_eq!(revisions[0]["number"], 3);
    assert_eq!(revisions[0]["message"], "rollback to 1: blue is ugly");
    assert_eq!(folder.ok(&engine, &["stack", "diff", "1", "3"]).lines().count(), 1);

    // The files of then, whatever lies on the disk now.
    let then = folder.ok(&engine, &["stack", "at", "--revision", "2"]);
    assert!(then.contains("content: 'colour=blue'"), "{then}");
    let second = &history(&engine, &folder)[1];
    let at = second["created_at"].as_i64().unwrap();
    let moment = format!("{}.{:09}", at / 1_000_000_000, at % 1_000_000_000);
    assert_eq!(folder.ok(&engine, &["stack", "at", &moment]), then);

    // The file still says blue: that is what a plan shows.
    let plan = folder.ends(&engine, &["plan"], 2);
    assert!(plan.contains("environment.GREETING: one → two"), "{plan}");

    let none = folder.run(&engine, &["stack", "rollback", "9"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("stack shop has no revision 9; it has 1-3"), "{none:?}");
    let early = folder.run(&engine, &["stack", "at", "1970-01-02"]);
    assert!(text(&early.stderr).contains("stack shop had no revision yet"), "{early:?}");
    folder.ok(&engine, &["down", "-t", "1"]);
}

#[test]
fn a_rollback_stops_before_lost_images_and_before_jobs_whose_work_stays() {
    let Some((engine, folder)) = shop() else { return };
    let stack = |job: &str, image: &str| {
        format!(
            "
name: shop
services:
  migrate: {{image: {image}, command: [echo, '{job}'], restart: 'no'}}
  web:
    image: {image}
    command: [sleep, '1000']
    init: true
    stop_grace_period: 1s
    depends_on: {{migrate: {{condition: service_completed_successfully}}}}
"
        )
    };
    folder.write("stack.yaml", &stack("v1", "app"));
    folder.ok(&engine, &["up", "-d", "--wait"]);
    folder.write("stack.yaml", &stack("v2", "app"));
    folder.ok(&engine, &["up", "-d", "--wait"]);
    let web = folder.ok(&engine, &["ps", "-q", "--no-trunc", "-f", "name=shop-web-1"]);
    let refused = folder.run(&engine, &["stack", "rollback"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(said.contains("migrate ran since revision 1, and what it did is not undone"), "{said}");
    assert!(said.contains("--past-jobs"), "{said}");
    assert_eq!(history(&engine, &folder).len(), 2, "nothing was stored");
    assert_eq!(folder.ok(&engine, &["ps", "-q", "--no-trunc", "-f", "name=shop-web-1"]), web);
    folder.ok(&engine, &["stack", "rollback", "--past-jobs"]);
    assert_eq!(history(&engine, &folder)[0]["message"], "rollback to 1");

    // Another image from here on; the one of before is removed.
    folder.ok(&engine, &["run", "--name", "change", "app", "touch", "/changed"]);
    folder.ok(&engine, &["commit", "change", "app:2"]);
    folder.ok(&engine, &["rm", "change"]);
    folder.write("stack.yaml", &stack("v1", "app:2"));
    folder.ok(&engine, &["up", "-d", "--wait"]);
    folder.ok(&engine, &["rmi", "app"]);
    let gone = folder.run(&engine, &["stack", "rollback", "3", "--past-jobs"]);
    assert_eq!(gone.status.code(), Some(1));
    let said = text(&gone.stderr);
    assert!(
        said.contains("revision 3 of stack shop needs images that are gone: app (sha256:"),
        "{said}"
    );
    folder.ok(&engine, &["down", "-t", "1"]);
}

#[test]
fn a_rollback_that_waits_returns_once_what_was_not_stopped_is_healthy() {
    let Some((engine, folder)) = shop() else { return };
    let stack = |colour: &str| {
        format!(
            "
name: shop
services:
  web:
    image: app
    command: [sh, -c, 'sleep 1; touch /ready; exec sleep 1000']
    init: true
    stop_grace_period: 1s
    environment: {{COLOUR: {colour}}}
    healthcheck: {{test: [CMD, test, -e, /ready], interval: 100ms, retries: 100}}
  idle: {{image: app, command: [sleep, '1000'], init: true, stop_grace_period: 1s}}
"
        )
    };
    folder.write("stack.yaml", &stack("red"));
    folder.ok(&engine, &["up", "-d"]);
    folder.write("stack.yaml", &stack("blue"));
    folder.ok(&engine, &["up", "-d"]);
    folder.ok(&engine, &["stop", "shop-idle-1"]);
    folder.ok(&engine, &["stack", "rollback", "--wait"]);
    let health = ["inspect", "-f", "{{.State.Health.Status}}", "shop-web-1"];
    assert_eq!(folder.ok(&engine, &health), "healthy\n");
    let state = ["inspect", "-f", "{{.State.Running}}", "shop-idle-1"];
    assert_eq!(folder.ok(&engine, &state), "false\n");
    folder.ok(&engine, &["down", "-t", "1"]);
}
