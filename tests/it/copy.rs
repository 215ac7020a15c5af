//! `bargee cp`, `diff`, `export`, `commit` and `system df -v`, beside docker's where it is there.

use std::fs;
use std::process::{Output, Stdio};

use crate::support::clients;
use crate::support::engine::{self, Engine};

/// An engine with a container `box` that is created and has never run.
fn engine() -> Option<Engine> {
    if !engine::possible() {
        return None;
    }
    let engine = Engine::start();
    engine.load_busybox("bb");
    fs::create_dir_all(engine.folder().join("tree/sub")).unwrap();
    fs::write(engine.folder().join("tree/sub/file"), "content\n").unwrap();
    std::os::unix::fs::symlink("sub/file", engine.folder().join("tree/link")).unwrap();
    let words =
        ["create", "--name", "box", "--network", "none", "bb", "cat", "/home/copy/sub/file"];
    said(&engine.bargee(&words), 0);
    Some(engine)
}

/// Returns what was printed, when the exit code is the right one.
fn said(output: &Output, code: i32) -> String {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    out + &err
}

/// What lies below a folder, with links and contents.
fn tree(root: &std::path::Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let kind = path.symlink_metadata().unwrap().file_type();
            all.push(if kind.is_dir() {
                folders.push(path);
                format!("{name}/")
            } else if kind.is_symlink() {
                format!("{name} -> {}", fs::read_link(&path).unwrap().display())
            } else {
                format!("{name}: {}", fs::read_to_string(&path).unwrap())
            });
        }
    }
    all.sort();
    all
}

#[test]
fn cp_names_copies_as_docker_does() {
    let Some(engine) = engine() else { return };
    let at = |name: &str| engine.folder().join(name).display().to_string();
    let cp = |from: &str, to: &str, code| said(&engine.bargee(&["cp", from, to]), code);
    // What is not there gets the name, what is a folder is copied into.
    cp(&at("tree"), "box:/home/copy", 0);
    cp(&at("tree"), "box:/home/copy", 0);
    cp(&at("tree/."), "box:/home", 0);
    cp(&at("tree/sub/file"), "box:/home/named", 0);
    assert_eq!(said(&engine.bargee(&["start", "-a", "box"]), 0), "content\n");
    cp("box:/home", &at("out"), 0);
    let copied = ["", "copy/", "copy/tree/"].map(|prefix| {
        [
            format!("{prefix}link -> sub/file"),
            format!("{prefix}sub/"),
            format!("{prefix}sub/file: content\n"),
        ]
    });
    let mut expected = copied.concat();
    expected.extend(["copy/", "copy/tree/", "named: content\n"].map(str::to_owned));
    expected.sort();
    assert_eq!(tree(&engine.folder().join("out")), expected);
    fs::create_dir(at("into")).unwrap();
    cp("box:/home/copy/sub", &at("into"), 0);
    cp("box:/home/copy/sub/.", &at("dot"), 0);
    cp("box:/home/copy/link", &at("into"), 0);
    said(&engine.bargee(&["cp", "-L", "box:/home/copy/link", &at("into/followed")]), 0);
    let into = ["followed: content\n", "link -> sub/file", "sub/", "sub/file: content\n"];
    assert_eq!(tree(&engine.folder().join("into")), into);
    assert_eq!(tree(&engine.folder().join("dot")), ["file: content\n"]);
    for (from, to, message) in [
        (at("tree"), "box:/home/named".to_owned(), "cannot copy directory"),
        (at("tree/sub/file"), "box:/nowhere/".to_owned(), "no such directory"),
        (at("nosuch"), "box:/home".to_owned(), "no such file or directory"),
        (
            "box:/home/nosuch".to_owned(),
            at("x"),
            "Could not find the file /home/nosuch in container box",
        ),
        ("box:/home/copy".to_owned(), at("tree/sub/file"), "cannot copy directory"),
        ("nosuch:/x".to_owned(), at("x"), "No such container: nosuch"),
        (at("tree"), "nosuch:/x".to_owned(), "No such container: nosuch"),
        ("box:/a".to_owned(), "box:/b".to_owned(), "copying between containers is not supported"),
        (at("a"), at("b"), "must specify at least one container source"),
    ] {
        let told = cp(&from, &to, 1).to_lowercase();
        assert!(told.contains(&message.to_lowercase()), "{from} {to}: {told}");
    }
    assert!(!fs::exists(at("x")).unwrap());
}

#[test]
fn cp_takes_and_gives_archives() {
    let Some(engine) = engine() else { return };
    let at = |name: &str| engine.folder().join(name).display().to_string();
    said(&engine.bargee(&["cp", &at("tree"), "box:/home"]), 0);
    let given = engine.bargee(&["cp", "box:/home/tree", "-"]);
    assert_eq!(given.status.code(), Some(0));
    fs::write(at("tree.tar"), &given.stdout).unwrap();
    let mut taken = engine.command(&["cp", "-", "box:/tmp"]);
    taken.stdin(Stdio::from(fs::File::open(at("tree.tar")).unwrap()));
    said(&taken.output().unwrap(), 0);
    said(&engine.bargee(&["cp", "box:/tmp/tree", &at("back")]), 0);
    assert_eq!(tree(&engine.folder().join("back")), tree(&engine.folder().join("tree")));
}

#[test]
fn a_copy_never_follows_a_link_out_of_its_folder() {
    let Some(engine) = engine() else { return };
    let at = |name: &str| engine.folder().join(name).display().to_string();
    said(&engine.bargee(&["cp", &at("tree"), "box:/home"]), 0);
    fs::create_dir(at("secret")).unwrap();
    fs::create_dir_all(at("into/tree")).unwrap();
    // Where the container has a folder, somebody here has a link.
    std::os::unix::fs::symlink(at("secret"), at("into/tree/sub")).unwrap();
    let told = said(&engine.bargee(&["cp", "box:/home/tree", &at("into")]), 1);
    assert!(told.contains("cannot overwrite non-directory"), "{told}");
    assert_eq!(fs::read_dir(at("secret")).unwrap().count(), 0);
}

#[test]
fn diff_export_commit_and_df_print_what_docker_prints() {
    let Some(engine) = engine() else { return };
    let at = |name: &str| engine.folder().join(name).display().to_string();
    said(&engine.bargee(&["cp", &at("tree"), "box:/home/copy"]), 0);
    let diff = said(&engine.bargee(&["diff", "box"]), 0);
    let expected =
        "C /home\nA /home/copy\nA /home/copy/link\nA /home/copy/sub\nA /home/copy/sub/file\n";
    assert_eq!(diff, expected);
    said(&engine.bargee(&["export", "-o", &at("a.tar"), "box"]), 0);
    let piped = engine.bargee(&["export", "box"]);
    assert_eq!(piped.stdout, fs::read(at("a.tar")).unwrap());
    let change = "CMD [\"cat\", \"/home/copy/sub/file\"]";
    let commit = ["commit", "-a", "me", "-m", "why", "-c", change, "--pause=false", "box", "app:1"];
    let id = said(&engine.bargee(&commit), 0);
    assert!(id.starts_with("sha256:") && id.len() == 72, "{id}");
    assert_eq!(
        said(&engine.bargee(&["run", "--rm", "--network", "none", "app:1"]), 0),
        "content\n"
    );
    let usage = said(&engine.bargee(&["system", "df", "-v"]), 0);
    let shared = usage.lines().find(|line| line.starts_with("app")).unwrap();
    assert!(shared.ends_with(" 0") && !shared.contains(" 0B "), "{usage}");
    for words in [["diff", "nosuch"], ["export", "nosuch"], ["commit", "nosuch"]] {
        let told = said(&engine.bargee(&words), 1);
        assert!(told.contains("No such container: nosuch"), "{told}");
    }
    if clients::docker().is_none() {
        return;
    }
    // The same engine, asked by docker's own command line.
    assert_eq!(diff.trim_end(), engine.docker(&["diff", "box"]));
    let squeezed = |text: &str| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let ages = |line: &str| !line.contains(" ago ") && !line.contains("Less than");
        text.lines().map(words).filter(|line| ages(line)).collect::<Vec<_>>()
    };
    let theirs = engine.docker(&["system", "df", "-v"]);
    assert_eq!(squeezed(&usage), squeezed(&theirs));
}

#[test]
fn a_prune_is_an_event() {
    let Some(engine) = engine() else { return };
    said(&engine.bargee(&["rm", "box"]), 0);
    for family in ["container", "image", "volume", "network"] {
        said(&engine.bargee(&[family, "prune", "-f"]), 0);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let until = now.as_secs() + 1;
    let path =
        format!("/events?since=1&until={until}&filters=%7B%22event%22%3A%5B%22prune%22%5D%7D");
    let told = engine.client().get(&path).unwrap().text();
    let kinds: Vec<String> = told
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|event| format!("{} {}", event["Type"], event["Actor"]["Attributes"]["reclaimed"]))
        .collect();
    let expected =
        ["container", "image", "volume", "network"].map(|kind| format!("\"{kind}\" \"0\""));
    assert_eq!(kinds, expected);
}
