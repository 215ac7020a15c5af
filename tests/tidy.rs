//! The layer table of the source tree, the home of each package, and the size caps, checked on the text.

use std::fs;
use std::path::{Path, PathBuf};

/// A layer and the layers it may import from.
const LAYERS: &[(&str, &[&str])] = &[
    ("diagnostic", &[]),
    ("spec", &["diagnostic"]),
    ("reconcile", &["spec"]),
    ("runtime", &["spec"]),
    ("net", &["spec"]),
    // Tar, for both ends of a copy.
    ("archive", &[]),
    ("images", &["spec", "diagnostic", "archive"]),
    // The words of `/bargee/v1`, which both of its ends know.
    ("protocol", &["spec"]),
    (
        "engine",
        &["spec", "reconcile", "runtime", "net", "images", "archive", "diagnostic", "protocol"],
    ),
    ("api", &["engine", "spec", "reconcile", "diagnostic", "protocol"]),
    ("sources", &["engine", "spec", "reconcile", "diagnostic", "protocol"]),
    // The engine's own process, which the composition root runs.
    ("process", &["engine", "api", "runtime"]),
    // The command line reads the stack files; the engine it reaches only through its API.
    ("cli", &["spec", "diagnostic", "protocol", "archive"]),
];

/// What a driver may see of `spec`: value types.
const VALUE_TYPES: &[&str] = &["name", "digest", "reference", "value", "container"];
const DRIVERS: &[&str] = &["runtime", "net", "images"];

/// A package and the only folders that may name it.
const HOMES: &[(&str, &[&str])] = &[
    ("saphyr_parser", &["spec"]),
    ("toml", &["spec", "engine"]),
    ("annotate_snippets", &["diagnostic"]),
    ("petgraph", &["reconcile", "images/build"]),
    ("notify", &["sources"]),
    ("rtnetlink", &["net"]),
    ("tar", &["archive", "images"]),
    ("rusqlite", &["engine/state"]),
    ("axum", &["api"]),
    ("tokio_tungstenite", &["api"]),
    ("hyper", &["api", "cli"]),
    ("clap", &["cli"]),
];

const MAX_FILE_LINES: usize = 600;

struct Source {
    /// Below `src/`, e.g. `spec/stack.rs`.
    path: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src is readable") {
            let path: PathBuf = entry.expect("src is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file is text");
                let path = path.strip_prefix(&root).expect("it was found below src");
                found.push(Source { path: path.to_string_lossy().into_owned(), text });
            }
        }
    }
    assert!(found.len() > 10, "the walk over src found only {} files", found.len());
    found
}

/// The part of a file before its unit tests, without comments.
fn code(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source
        .text
        .lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or("")))
}

fn layer(path: &str) -> &str {
    path.split('/').next().unwrap_or("")
}

/// Every word that follows `prefix` in `line`.
fn words_after<'a>(line: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(prefix).map(move |(at, _)| {
        let rest = &line[at + prefix.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn layers_import_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for source in sources() {
        let here = layer(&source.path);
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == here) else {
            continue;
        };
        for (number, line) in code(&source) {
            for target in words_after(line, "crate::") {
                let known = LAYERS.iter().any(|(name, _)| *name == target);
                if known && target != here && !allowed.contains(&target) {
                    wrong.push(format!("src/{}:{number}: {here} imports {target}", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "move the code, don't widen the table:\n{}", wrong.join("\n"));
}

#[test]
fn every_folder_of_src_has_a_row_in_the_layer_table() {
    for source in sources().iter().filter(|source| source.path.contains('/')) {
        let here = layer(&source.path);
        assert!(LAYERS.iter().any(|(name, _)| *name == here), "src/{here}/ has no row in LAYERS");
    }
}

#[test]
fn drivers_see_only_value_types_of_spec() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| DRIVERS.contains(&layer(&source.path))) {
        for (number, line) in code(source) {
            for module in words_after(line, "crate::spec::") {
                if !VALUE_TYPES.contains(&module) {
                    wrong.push(format!(
                        "src/{}:{number}: a driver imports spec::{module}",
                        source.path
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_runtime_is_synchronous() {
    for source in sources().iter().filter(|source| layer(&source.path) == "runtime") {
        for (number, line) in code(source) {
            assert!(!line.contains("tokio"), "src/{}:{number} names tokio", source.path);
        }
    }
}

#[test]
fn every_package_stays_in_its_home() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (number, line) in code(&source) {
            for (package, homes) in HOMES {
                let used = line.contains(&format!("use {package}::"))
                    || line.contains(&format!(" {package}::"))
                    || line.contains(&format!("({package}::"));
                if used && !homes.iter().any(|home| source.path.starts_with(&format!("{home}/"))) {
                    wrong.push(format!(
                        "src/{}:{number}: {package} lives in {homes:?}",
                        source.path
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stays_in_sys_files() {
    let mut wrong = Vec::new();
    for source in sources() {
        let name = source.path.rsplit('/').next().unwrap_or("");
        for (number, line) in code(&source) {
            if name != "sys.rs" && (line.contains("unsafe {") || line.contains("unsafe fn")) {
                wrong.push(format!("src/{}:{number}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "unsafe outside sys.rs:\n{}", wrong.join("\n"));
}

#[test]
fn files_are_small_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//!") {
            wrong.push(format!("src/{} has no //! header", source.path));
        }
        let lines = code(&source).count();
        if lines > MAX_FILE_LINES {
            wrong.push(format!("src/{}: {lines} lines before its tests", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
