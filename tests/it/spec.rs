//! Stack files in `tests/fixtures/spec`: good ones load, and what is said about wrong ones is golden text.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::support::pace::slowed;

fn fixtures(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spec").join(kind)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder).expect("the fixtures are there");
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.expect("is listed").path()).collect();
    paths.sort();
    paths
}

fn config(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bargee"))
        .arg("config")
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", "/root")
        .output()
        .expect("the binary starts")
}

#[test]
fn every_valid_stack_loads() {
    let folders = entries(&fixtures("valid"));
    assert!(folders.len() >= 8, "only {} fixtures", folders.len());
    for folder in folders {
        let output = config(&folder, &["-q"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {stderr}", folder.display());
    }
}

#[test]
fn what_is_printed_for_a_valid_stack_reads_back_to_the_same() {
    for folder in entries(&fixtures("valid")) {
        let first = config(&folder, &["--profile", "*"]);
        // Beside the first, so that relative paths mean the same.
        let copy = tempfile::Builder::new()
            .prefix(".printed")
            .suffix(".yaml")
            .tempfile_in(&folder)
            .expect("a temporary file");
        fs::write(copy.path(), &first.stdout).expect("the copy is written");
        let path = copy.path().to_str().expect("the path is text");
        let second = config(&folder, &["--profile", "*", "-f", path]);
        let stderr = String::from_utf8_lossy(&second.stderr);
        assert_eq!(second.status.code(), Some(0), "{}: {stderr}", folder.display());
        assert_eq!(
            String::from_utf8_lossy(&second.stdout),
            String::from_utf8_lossy(&first.stdout),
            "{}",
            folder.display()
        );
    }
}

/// `UPDATE_GOLDEN=1 cargo test --test it spec` writes the messages anew; read the difference.
#[test]
fn what_is_said_about_an_invalid_stack_is_as_written() {
    let folder = fixtures("invalid");
    let (mut stale, mut judged) = (Vec::new(), 0);
    for path in entries(&folder) {
        if path.extension().is_some_and(|extension| extension == "txt") {
            continue;
        }
        judged += 1;
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name is text");
        let start = Instant::now();
        let output = config(&folder, &["-f", name]);
        assert!(
            start.elapsed() < slowed(Duration::from_secs(2)),
            "{name} took {:?}",
            start.elapsed()
        );
        let stderr = String::from_utf8(output.stderr).expect("messages are UTF-8");
        assert_eq!(output.status.code(), Some(1), "{name}: {stderr}");
        assert!(output.stdout.is_empty(), "something was printed for {name}");
        assert!(!stderr.contains('\x1b'), "{name} writes control characters to the terminal");
        let said = stderr.replace(&format!("{}/", folder.display()), "");
        let golden = path.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &said).expect("the golden text is written");
        }
        if fs::read_to_string(&golden).unwrap_or_default() != said {
            stale.push(format!("{name}:\n{said}"));
        }
    }
    assert!(judged >= 20, "only {judged} fixtures");
    assert!(stale.is_empty(), "other words than in the golden files:\n{}", stale.join("\n"));
}
