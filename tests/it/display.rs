//! How progress is shown: drawn on a terminal, in lines elsewhere, as JSON for programs.

use serde_json::Value;

use crate::support::engine::{Engine, possible};
use crate::support::folder::{Folder, text};
use crate::support::screen::{Screen, colours};
use crate::support::terminal::Shown;

const SERVICES: usize = 60;

/// A stack of sixty services that all wait for the first.
fn sixty() -> String {
    let mut stack = "name: many\nservices:\n".to_owned();
    for number in 1..=SERVICES {
        let needs = if number == 1 { "" } else { ", depends_on: [service-number-01]" };
        stack.push_str(&format!(
            "  service-number-{number:02}: {{image: busybox, command: [sleep, '1000'], init: true, network_mode: none, stop_grace_period: 1s{needs}}}\n"
        ));
    }
    stack
}

/// What a terminal of forty columns and ten rows shows of a command in the end.
fn drawn(engine: &Engine, folder: &Folder, words: &[&str]) -> Vec<String> {
    let shown = Shown::sized(folder.command(engine, words), 10, 40);
    Screen::of(10, 40, &shown.ends_with(0)).text()
}

#[test]
fn sixty_services_are_drawn_within_a_small_terminal() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    engine.load_busybox("busybox");
    let folder = Folder::new(&sixty());
    for (words, title) in [(&["up", "-d"][..], "up many"), (&["down"][..], "down many")] {
        let lines = drawn(&engine, &folder, words);
        // Nothing scrolled: what was drawn first is gone, and a frame stands once.
        assert!(lines.len() < 10, "{words:?} takes {} lines:\n{}", lines.len(), lines.join("\n"));
        let titles = lines.iter().filter(|line| line.contains(title)).count();
        assert_eq!(titles, 1, "{words:?}:\n{}", lines.join("\n"));
        assert!(lines[0].contains("60/60"), "{words:?}:\n{}", lines.join("\n"));
    }
}

#[test]
fn a_dumb_terminal_gets_lines_and_no_color_no_colours() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    let folder = Folder::new("name: one\nservices:\n  web: {image: bargee/hello}\n");
    let mut command = folder.command(&engine, &["up", "-d"]);
    command.env("TERM", "dumb");
    let seen = Shown::run(command).ends_with(0);
    assert!(seen.contains("web.1 start … done"), "{seen:?}");
    assert!(!seen.contains('\u{1b}'), "{seen:?}");
    let mut command = folder.command(&engine, &["down"]);
    command.env("NO_COLOR", "1");
    let seen = Shown::run(command).ends_with(0);
    assert!(seen.contains("✔ web.1"), "{seen:?}");
    // The cursor moves, colours don't come.
    assert!(seen.contains("\u{1b}[J") && !colours(&seen), "{seen:?}");
}

/// The events of a command's JSON lines; standard error must say nothing.
#[track_caller]
fn events(engine: &Engine, folder: &Folder, words: &[&str], code: i32) -> Vec<Value> {
    let output = folder.run(engine, words);
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    lines.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

#[test]
fn json_events_tell_the_plan_each_step_and_the_end() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    let folder = Folder::new("name: one\nservices:\n  web: {image: bargee/hello}\n");
    for words in [&["up", "--json"][..], &["down", "--json"][..]] {
        let all = events(&engine, &folder, words, 0);
        assert_eq!(all[0]["event"], "planned", "{all:?}");
        let steps = all[0]["plan"]["steps"].as_array().expect("steps");
        assert_eq!(named(&all, "started").len(), steps.len(), "{all:?}");
        let done: Vec<&Value> = named(&all, "done");
        assert_eq!(done.len(), steps.len());
        assert!(done.iter().all(|step| step["milliseconds"].is_u64()), "{done:?}");
        assert_eq!(all.last().expect("an end")["event"], "finished");
        assert_eq!(all.last().expect("an end")["ok"], true);
    }
    // What fails is told in the same words.
    let folder = Folder::new(
        "name: two\nservices:\n  web: {image: bargee/hello, command: --nope, entrypoint: /nope}\n",
    );
    let all = events(&engine, &folder, &["up", "--json"], 1);
    let failed = named(&all, "failed");
    assert!(failed[0]["message"].as_str().is_some_and(|text| text.contains("/nope")), "{all:?}");
    assert_eq!(all.last().expect("an end")["ok"], false);
    folder.ok(&engine, &["down"]);
}
