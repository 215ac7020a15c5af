//! Against `tests/fixtures/compose-hash`, whose hashes docker compose 2.40.3 made, in the folder `/srv/app`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{ComposeHash, add};
use crate::spec::load::{self, Input};
use crate::spec::name::StackName;
use crate::spec::stack::Stack;
use crate::spec::validate::{self, Context};

/// A folder of this project that stands for `/srv/app`.
#[derive(Debug)]
struct Moved(PathBuf);

impl Moved {
    fn bytes(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(path.trim_start_matches("/srv/app/")))
    }
}

impl load::Files for Moved {
    fn read(&self, path: &str) -> io::Result<String> {
        self.bytes(path).map(|bytes| String::from_utf8(bytes).unwrap())
    }
}

impl validate::Files for Moved {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.bytes(path).map_err(|error| error.to_string())
    }
}

fn stack(folder: &Path, text: &str) -> Stack {
    let files = Moved(folder.to_owned());
    let environment = BTreeMap::from([("HOME".to_owned(), "/root".to_owned())]);
    let inputs = [Input { path: "/srv/app/stack.yaml".to_owned(), text: text.to_owned() }];
    let loaded = load::load(&inputs, &environment, &files);
    let context = Context {
        name: StackName::try_from("golden".to_owned()).unwrap(),
        working_dir: "/srv/app",
        home: Some("/root"),
        config_files: &["/srv/app/stack.yaml".to_owned()],
        environment: &environment,
        files: &files,
        profiles: &["*".to_owned()],
        selected: &[],
        sources: &loaded.sources,
    };
    let (mut stack, _) = validate::validate(&loaded.root, &context).unwrap();
    add(&loaded.root, &mut stack, Some("/root"));
    stack
}

fn hashes(stack: &Stack) -> BTreeMap<String, String> {
    let known = |hash: &Option<ComposeHash>| match hash {
        Some(ComposeHash::Known(hash)) => hash.clone(),
        other => format!("{other:?}"),
    };
    stack
        .services
        .iter()
        .map(|(name, service)| (name.to_string(), known(&service.compose_hash)))
        .collect()
}

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn every_key_is_hashed_as_compose_does() {
    let folder = folder("tests/fixtures/compose-hash");
    let stack = stack(&folder, &fs::read_to_string(folder.join("keys.yaml")).unwrap());
    let golden = fs::read_to_string(folder.join("hashes.txt")).unwrap();
    let golden: BTreeMap<String, String> = golden
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, hash)| (name.to_owned(), hash.to_owned()))
        .collect();
    assert!(golden.len() > 80);
    assert_eq!(hashes(&stack), golden);
}

#[test]
fn every_example_is_hashed_as_compose_does() {
    let golden = fs::read_to_string(folder("tests/fixtures/compose-hash/examples.txt")).unwrap();
    let mut examples: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    for line in golden.lines() {
        let [example, service, hash] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        examples.entry(example).or_default().insert(service.to_owned(), hash.to_owned());
    }
    for entry in fs::read_dir(folder("examples/stacks")).unwrap() {
        let path = entry.unwrap().path();
        // Compose reads no TOML.
        let Ok(text) = fs::read_to_string(path.join("stack.yaml")) else { continue };
        let name = path.file_name().unwrap().to_str().unwrap();
        let golden =
            examples.get(name).unwrap_or_else(|| panic!("no hashes for the example {name}"));
        assert_eq!(&hashes(&stack(&path, &text)), golden, "{name}");
    }
}

fn only(service: &str) -> Option<ComposeHash> {
    let text = format!("services:\n  base: {{image: a}}\n  it: {{image: a, {service}}}\n");
    let stack = stack(Path::new("/"), &text);
    stack.services.into_iter().find(|(name, _)| name.as_str() == "it").unwrap().1.compose_hash
}

#[test]
fn what_compose_would_write_anew_has_no_hash() {
    for service in [
        "environment: {VERSION: 3.10}",
        "environment: {MODE: 0644}",
        "labels: {since: 2024-01-01}",
        "labels: {big: 1_000}",
        "user: 007",
        "blkio_config: {weight: 10, weight_device: []}",
        "develop: {watch: []}",
        "ports: [\"localhost:80:80\"]",
    ] {
        assert_eq!(only(service), None, "{service}");
    }
    assert!(only("environment: {VERSION: \"3.10\"}").is_some());
}

#[test]
fn a_container_that_another_is_named_by_is_awaited() {
    let hash = only("network_mode: \"service:base\", volumes_from: [\"base:ro\"]").unwrap();
    let ComposeHash::Awaits(json) = &hash else { panic!("{hash:?}") };
    assert!(json.contains("\"network_mode\":\"container:\0base\0\""), "{json}");
    assert!(json.contains("\"volumes_from\":[\"\0base\0\"]"), "{json}");
    assert_eq!(hash.resolve(|_| None), None);
    let renamed = hash.renamed(|name| format!("golden-{name}-1"));
    let id = |name: &str| (name == "golden-base-1").then(|| "1f".repeat(32));
    let json = json.replace("\0base\0", &"1f".repeat(32));
    assert_eq!(renamed.resolve(id), Some(super::of_text(&json)));
}
