//! `bargee config`: what is printed for good files, and where wrong ones are said to be wrong.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::support::pace::slowed;

fn bargee(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bargee"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", "/root")
        .output()
        .expect("the binary starts")
}

fn folder_with(text: &str) -> TempDir {
    let folder = TempDir::with_prefix("stack").expect("a temporary folder");
    fs::write(folder.path().join("stack.yaml"), text).expect("a file is written");
    folder
}

/// Runs `config` on a wrong file and returns what it says; a refusal is quick and exits with 1.
fn refusal_in(folder: &TempDir) -> String {
    let start = Instant::now();
    let output = bargee(folder.path(), &["config", "-f", "stack.yaml"]);
    assert!(start.elapsed() < slowed(Duration::from_secs(2)), "it took {:?}", start.elapsed());
    let stderr = String::from_utf8(output.stderr).expect("messages are UTF-8");
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty(), "something was printed for a wrong file");
    stderr
}

fn refusal(text: &str) -> String {
    refusal_in(&folder_with(text))
}

/// The message points at `place` (`line:column`), shows `excerpt`, and says each of `words`.
#[track_caller]
fn assert_says(message: &str, place: &str, excerpt: &str, words: &[&str]) {
    assert!(message.contains(&format!("stack.yaml:{place}")), "no {place} in:\n{message}");
    assert!(message.contains(excerpt), "the line is not shown:\n{message}");
    for word in words {
        assert!(message.contains(word), "no {word:?} in:\n{message}");
    }
}

#[test]
fn a_good_file_is_printed_with_its_variables_filled_in() {
    let folder =
        folder_with("services:\n  web:\n    image: nginx:${TAG:-alpine}\n    ports: ['8080:80']\n");
    fs::write(folder.path().join(".env"), "TAG=1.27\n").expect("a file is written");
    let output = bargee(folder.path(), &["config"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("image: nginx:1.27\n"), "{stdout}");
    let images = bargee(folder.path(), &["config", "--images"]);
    assert_eq!(String::from_utf8_lossy(&images.stdout), "nginx:1.27\n");
}

#[test]
fn what_is_printed_reads_back_to_the_same() {
    let folder = folder_with(
        "name: one\nservices:\n  web:\n    image: a\n    command: [echo, $$HOME, \"yes\", \"0644\"]\n    labels: {stack: $COMPOSE_PROJECT_NAME}\n",
    );
    let first = bargee(folder.path(), &["config", "-p", "two"]);
    assert_eq!(first.status.code(), Some(0), "{}", String::from_utf8_lossy(&first.stderr));
    let text = String::from_utf8_lossy(&first.stdout);
    assert!(text.contains("name: two\n") && text.contains("stack: two\n"), "{text}");
    fs::write(folder.path().join("stack.yaml"), &first.stdout).expect("a file is written");
    let second = bargee(folder.path(), &["config"]);
    assert_eq!(String::from_utf8_lossy(&second.stdout), text);
}

#[test]
fn an_override_file_beside_the_stack_is_merged() {
    let folder = folder_with("services:\n  web:\n    image: a\n    environment: [A=1, B=2]\n");
    let twin = "services:\n  web:\n    environment: {B: '3'}\n";
    fs::write(folder.path().join("stack.override.yaml"), twin).expect("a file is written");
    let output = bargee(folder.path(), &["config", "--format", "json"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("B=3") || stdout.contains("\"B\": \"3\""), "{stdout}");
    assert!(!stdout.contains("B=2"), "{stdout}");
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_likely_one() {
    let message = refusal("services:\n  web:\n    image: a\n    enviroment: [A=1]\n");
    assert_says(&message, "4:5", "enviroment: [A=1]", &["environment"]);
}

#[test]
fn a_cycle_of_dependencies_is_shown() {
    let message = refusal(
        "services:\n  a:\n    image: x\n    depends_on: [b]\n  b:\n    image: x\n    depends_on: [a]\n",
    );
    assert_says(&message, "4:", "depends_on: [b]", &["cycle"]);
}

#[test]
fn an_undefined_network_is_shown() {
    let message = refusal("services:\n  web:\n    image: a\n    networks: [front]\n");
    assert_says(&message, "4:", "networks: [front]", &["front"]);
}

#[test]
fn a_value_of_the_wrong_type_is_shown() {
    let message = refusal("services:\n  web:\n    image: a\n    mem_limit: lots\n");
    assert_says(&message, "4:16", "mem_limit: lots", &["lots"]);
}

#[test]
fn a_syntax_error_is_shown() {
    let message = refusal("services:\n  web:\n    image: 'a\n");
    assert!(message.contains("stack.yaml:"), "{message}");
}

#[test]
fn a_key_that_is_given_twice_is_shown() {
    let message = refusal("services:\n  web:\n    image: a\n    image: b\n");
    assert_says(&message, "4:5", "image: b", &["image"]);
}

#[test]
fn every_mistake_of_a_file_is_reported_at_once() {
    let message =
        refusal("services:\n  web:\n    imgae: a\n  db:\n    image: b\n    networks: [nowhere]\n");
    assert_says(&message, "3:5", "imgae: a", &[]);
    assert_says(&message, "6:", "networks: [nowhere]", &[]);
}

#[test]
fn ten_thousand_levels_are_refused_quickly() {
    let message = refusal(&format!("services: {}{}\n", "[".repeat(10_000), "]".repeat(10_000)));
    assert!(message.contains("stack.yaml:1:"), "{message}");
}

#[test]
fn a_billion_laughs_are_refused_quickly() {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", ")));
    }
    text.push_str("services: {}\n");
    let message = refusal(&text);
    assert!(message.contains("stack.yaml:"), "{message}");
}

#[test]
fn a_fifo_as_env_file_is_refused_and_does_not_hang() {
    let folder = folder_with("services:\n  web:\n    image: a\n    env_file: pipe\n");
    let made =
        Command::new("mkfifo").arg(folder.path().join("pipe")).status().expect("mkfifo starts");
    assert!(made.success());
    let message = refusal_in(&folder);
    assert_says(&message, "4:", "env_file: pipe", &["regular file"]);
}

#[test]
fn a_missing_file_is_named() {
    let folder = TempDir::with_prefix("stack").expect("a temporary folder");
    let output = bargee(folder.path(), &["config", "-f", "nowhere.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere.yaml"));
}

#[test]
fn a_usage_error_exits_with_1_not_2() {
    let folder = TempDir::with_prefix("stack").expect("a temporary folder");
    assert_eq!(bargee(folder.path(), &["config", "--nonsense"]).status.code(), Some(1));
}

#[test]
fn every_example_loads() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/stacks");
    let mut loaded = 0;
    for entry in fs::read_dir(examples).expect("there are examples") {
        let folder = entry.expect("a folder is listed").path();
        let output = bargee(&folder, &["config", "-q"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {stderr}", folder.display());
        loaded += 1;
    }
    assert!(loaded > 0);
}
