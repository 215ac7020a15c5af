//! `plan -o FILE` and `apply FILE`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::engine::{Engine, possible};
use crate::support::folder::{Folder, text};

const STACK: &str = "
name: shop
services:
  web:
    image: app
    command: [sleep, '1000']
    init: true
    stop_grace_period: 1s
    environment: {COLOUR: red}
";

#[test]
fn a_kept_plan_is_carried_out_as_it_is_or_not_at_all() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    engine.load_busybox("app");
    let folder = Folder::new(STACK);
    let plan = folder.path().join("plan.json");
    let shown = folder.ends(&engine, &["plan", "-o", "plan.json"], 2);
    assert!(shown.contains("+ web.1"), "{shown}");
    // It holds what the stack holds.
    assert_eq!(fs::metadata(&plan).unwrap().permissions().mode() & 0o777, 0o600);

    // The plan counts, not what the file says by now.
    folder.write("stack.yaml", &STACK.replace("red", "blue"));
    let words = ["apply", "plan.json", "--scale", "web=2"];
    let refused = folder.run(&engine, &words);
    assert!(text(&refused.stderr).contains("apply FILE takes no further options"), "{refused:?}");
    folder.ok(&engine, &["apply", "plan.json"]);
    let colour = ["exec", "shop-web-1", "sh", "-c", "echo -n $COLOUR"];
    assert_eq!(folder.ok(&engine, &colour), "red");

    // Once it is done, the machine is another one.
    let again = folder.run(&engine, &["apply", "plan.json"]);
    assert_eq!(again.status.code(), Some(1));
    let said = text(&again.stderr);
    assert!(said.contains("the stack shop has changed since the plan was made"), "{said}");
    assert!(said.contains("bargee plan -o FILE"), "{said}");

    // So it is when somebody was faster.
    folder.ends(&engine, &["plan", "-o", "plan.json"], 2);
    folder.ok(&engine, &["stop", "shop-web-1"]);
    let late = folder.run(&engine, &["apply", "plan.json"]);
    assert_eq!(late.status.code(), Some(1), "{late:?}");
    folder.ok(&engine, &["start", "shop-web-1"]);
    folder.ok(&engine, &["apply", "plan.json"]);
    assert_eq!(folder.ok(&engine, &colour), "blue");

    let stack = folder.run(&engine, &["apply", "stack.yaml"]);
    assert!(text(&stack.stderr).contains("stack.yaml is no plan"), "{stack:?}");
    let missing = folder.run(&engine, &["apply", "./nothing"]);
    assert!(text(&missing.stderr).contains("cannot read the plan ./nothing"), "{missing:?}");
    let unwritable = folder.run(&engine, &["plan", "-o", "no/such/folder"]);
    assert_eq!(unwritable.status.code(), Some(1), "{unwritable:?}");
    assert!(text(&unwritable.stderr).contains("cannot write the plan to no/such/folder"));
    folder.ok(&engine, &["down", "-t", "1"]);
}
