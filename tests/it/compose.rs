//! Stock docker compose against the engine: on stacks of its own, and on those that `bargee up` made.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::clients;
use crate::support::engine::{self, Engine};

/// All that compose's hash has to know: files, references to other containers, paths, limits.
const KNOWN_AGAIN: &str = r#"
name: again
services:
  db:
    image: bb
    command: sleep 1000
    init: true
    environment: {A: "1", B: "<two>"}
    env_file: [db.env]
    label_file: [db.labels]
    volumes: [data:/data, ./conf:/conf:ro]
    configs: [{source: one, target: /etc/one}]
    secrets: [two]
    stop_grace_period: 1s
  web:
    image: bb
    command: ["sleep", "1000"]
    init: true
    depends_on: {db: {condition: service_started, restart: true}}
    deploy: {replicas: 2, resources: {limits: {cpus: "0.5", memory: 64m}}}
    networks: {back: {aliases: [www]}}
    stop_grace_period: 1s
  beside:
    image: bb
    command: sleep 1000
    init: true
    network_mode: "service:db"
    volumes_from: ["db:ro"]
    ipc: "service:shared"
    stop_grace_period: 1s
  shared: {image: bb, command: sleep 1000, init: true, ipc: shareable, stop_grace_period: 1s}
configs: {one: {content: one}}
secrets: {two: {file: ./two}}
networks: {back: {}}
volumes: {data: {}}
"#;

const STACK: &str = r#"
name: shop
services:
  db:
    image: bb
    command: ["sh", "-c", "touch /tmp/ready; exec sleep 1000"]
    init: true
    healthcheck: {test: ["CMD", "test", "-f", "/tmp/ready"], interval: 1s, retries: 20}
    volumes: [data:/data]
    networks: [back]
  cache: {image: bb, init: true, command: ["sleep", "1000"], networks: [back]}
  web:
    image: bb
    init: true
    command: ["sh", "-c", "echo web up; exec httpd -f -p 80"]
    depends_on: {db: {condition: service_healthy}, cache: {condition: service_started}}
    networks: [back, front]
networks: {back: {internal: true}, front: {}}
volumes: {data: {}}
"#;

/// An engine with the image `bb`, the plugin beside docker's command line, and a file of a stack.
struct Shop {
    engine: Engine,
    file: PathBuf,
}

impl Shop {
    fn open() -> Option<Self> {
        let (Some(_), Some(plugin)) = (clients::docker(), clients::compose()) else { return None };
        if !engine::possible() {
            return None;
        }
        let engine = Engine::start();
        engine.load_busybox("bb");
        let plugins = engine.folder().join("docker/cli-plugins");
        std::fs::create_dir_all(&plugins).expect("a folder");
        std::os::unix::fs::symlink(plugin, plugins.join("docker-compose")).expect("a link");
        let file = engine.folder().join("compose.yaml");
        std::fs::write(&file, STACK).expect("a file");
        Some(Self { engine, file })
    }

    fn file(&self) -> &str {
        self.file.to_str().expect("the path is text")
    }

    fn compose(&self, words: &[&str]) -> String {
        self.engine.docker(&[&["compose", "-f", self.file()], words].concat())
    }

    /// Compose without the file: it knows the project by its containers' labels.
    fn project(&self, words: &[&str]) -> String {
        self.engine.docker(&[&["compose", "-p", "shop"], words].concat())
    }

    fn bargee(&self, words: &[&str]) -> String {
        let output = self.engine.bargee(words);
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "bargee {words:?}: {out}{err}\n{}", self.engine.log());
        out.into_owned()
    }

    fn up(&self) {
        self.bargee(&["up", "-d", "--wait", "-f", self.file()]);
    }

    fn get(&self, path: &str) -> Value {
        self.engine.client().get(path).expect("the engine answers").json()
    }

    /// Compose's labels of one object, without the prefix.
    fn labels(&self, labels: &Value) -> Vec<(String, String)> {
        let all = labels.as_object().expect("labels are an object");
        let mut named: Vec<_> = all
            .iter()
            .filter_map(|(key, value)| {
                let key = key.strip_prefix("com.docker.compose.")?;
                Some((key.to_owned(), value.as_str().expect("a label is text").to_owned()))
            })
            .collect();
        named.sort();
        named
    }
}

#[test]
fn compose_runs_a_stack_and_a_second_up_changes_nothing() {
    let Some(shop) = Shop::open() else { return };
    let compose = |words: &[&str]| shop.compose(words);
    let ids = || compose(&["ps", "-aq"]).lines().map(str::to_owned).collect::<Vec<_>>();
    compose(&["up", "-d"]);
    let first = ids();
    assert_eq!(first.len(), 3);
    compose(&["up", "-d"]);
    assert_eq!(ids(), first);
    assert!(compose(&["logs", "--no-color", "web"]).contains("web up"));
    assert_eq!(compose(&["exec", "-T", "web", "sh", "-c", "ping -c1 -w5 db >&2; echo $?"]), "0");
    compose(&["up", "-d", "--scale", "web=3"]);
    assert_eq!(ids().len(), 5);
    let listed = shop.bargee(&["ps", "--format", "{{.Names}}"]);
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, ["shop-cache-1", "shop-db-1", "shop-web-1", "shop-web-2", "shop-web-3"]);
    compose(&["stop", "-t", "1", "web"]);
    compose(&["start", "web"]);
    compose(&["restart", "-t", "1", "cache"]);
    compose(&["up", "-d", "--force-recreate", "--no-deps", "cache"]);
    assert_eq!(compose(&["run", "--rm", "-T", "--no-deps", "cache", "echo", "once"]), "once");
    compose(&["down", "-v", "-t", "1"]);
    assert_eq!(shop.engine.docker(&["ps", "-aq"]), "");
    assert_eq!(shop.engine.docker(&["volume", "ls", "-q"]), "");
}

#[test]
fn compose_sees_and_ends_a_stack_that_bargee_made() {
    let Some(shop) = Shop::open() else { return };
    shop.up();
    for compose in [Shop::compose, Shop::project] {
        let mut services: Vec<String> =
            compose(&shop, &["ps", "--services"]).lines().map(str::to_owned).collect();
        services.sort();
        assert_eq!(services, ["cache", "db", "web"]);
        assert!(compose(&shop, &["logs", "--no-color", "web"]).contains("web-1  | web up"));
        assert!(compose(&shop, &["top", "cache"]).contains("sleep 1000"));
    }
    assert!(shop.engine.docker(&["compose", "ls"]).contains("shop"));
    assert!(shop.engine.docker(&["compose", "ls"]).contains(shop.file()));
    shop.project(&["stop", "-t", "1", "web"]);
    assert_eq!(shop.project(&["ps", "--services", "--status", "exited"]), "web");
    shop.project(&["start", "web"]);
    shop.project(&["restart", "-t", "1", "cache"]);
    let running = shop.project(&["ps", "-q", "--status", "running"]);
    assert_eq!(running.lines().count(), 3);
    shop.compose(&["down", "-t", "1"]);
    assert_eq!(shop.engine.docker(&["ps", "-aq"]), "");
    assert_eq!(shop.engine.docker(&["network", "ls", "-q", "--filter", "name=shop"]), "");
    assert_eq!(shop.engine.docker(&["volume", "ls", "-q"]), "shop_data", "data stays");
    shop.up();
    shop.project(&["down", "-v", "-t", "1"]);
    assert_eq!(shop.engine.docker(&["ps", "-aq"]), "");
    assert_eq!(shop.engine.docker(&["volume", "ls", "-q"]), "");
}

#[test]
fn a_stack_has_composes_labels_with_composes_values() {
    let Some(shop) = Shop::open() else { return };
    let observe = || {
        let containers = shop.get("/containers/json?all=1");
        let mut objects: Vec<(String, Vec<(String, String)>)> = containers
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| (one["Names"][0].to_string(), shop.labels(&one["Labels"])))
            .collect();
        for path in ["/networks", "/volumes"] {
            let answer = shop.get(path);
            let list = if path == "/volumes" { &answer["Volumes"] } else { &answer };
            let named =
                list.as_array().expect("a list").iter().filter(|one| {
                    one["Name"].as_str().is_some_and(|name| name.starts_with("shop_"))
                });
            objects.extend(named.map(|one| (one["Name"].to_string(), shop.labels(&one["Labels"]))));
        }
        // Each tells its own version. Compose has a hash of networks and volumes too since 2.30, and takes none for
        // unchanged.
        for (name, labels) in &mut objects {
            labels.retain(|(key, _)| key != "config-hash" || name.starts_with("\"/"));
            let own = |key: &str| key == "version" || key == "config-hash";
            for (_, value) in labels.iter_mut().filter(|(key, _)| own(key)) {
                assert!(!value.is_empty());
                value.clear();
            }
        }
        // Compose's order of these is that of a Go map: any.
        let labels = objects.iter_mut().flat_map(|(_, labels)| labels);
        for (_, value) in labels.filter(|(key, _)| key == "depends_on") {
            let mut words: Vec<&str> = value.split(',').collect();
            words.sort_unstable();
            *value = words.join(",");
        }
        objects.sort();
        objects
    };
    shop.compose(&["up", "-d"]);
    let theirs = observe();
    shop.compose(&["down", "-v", "-t", "1"]);
    shop.up();
    assert_eq!(observe(), theirs);
    assert_eq!(theirs.len(), 6, "three containers, two networks, a volume");
}

/// Whether this compose hashes a service as ours do: earlier ones count dependencies, later ones omit a default.
fn hashes_as_we_do(shop: &Shop) -> bool {
    let version = shop.engine.docker(&["compose", "version", "--short"]);
    let mut numbers = version.trim_start_matches('v').split(['.', '-', '+']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        panic!("no version: {version}");
    };
    major == 2 && minor >= 30
}

/// What docker says on both its streams: compose tells its progress on standard error.
fn told(shop: &Shop, words: &[&str]) -> String {
    let output = shop.engine.docker_command(words).output().expect("docker starts");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "docker {words:?}: {text}\n{}", shop.engine.log());
    text
}

/// The containers of a project by their names.
fn containers(shop: &Shop, project: &str) -> Vec<String> {
    let filter = format!("label=com.docker.compose.project={project}");
    let listed = shop.engine.docker(&[
        "ps",
        "-a",
        "--no-trunc",
        "--filter",
        &filter,
        "--format",
        "{{.Names}} {{.ID}}",
    ]);
    let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn compose_up_takes_what_bargee_up_made_for_its_own() {
    let Some(shop) = Shop::open() else { return };
    if !hashes_as_we_do(&shop) {
        return;
    }
    let folder = shop.engine.folder();
    for (name, text) in [
        ("again.yaml", KNOWN_AGAIN),
        ("db.env", "C=of the file\nA=0\n"),
        ("db.labels", "com.example.a=1\n"),
        ("two", "secret"),
    ] {
        std::fs::write(folder.join(name), text).expect("a file");
    }
    std::fs::create_dir_all(folder.join("conf")).expect("a folder");
    let file = folder.join("again.yaml").to_str().expect("the path is text").to_owned();
    shop.bargee(&["up", "-d", "-f", &file]);
    let before = containers(&shop, "again");
    assert_eq!(before.len(), 5);
    let progress = told(&shop, &["compose", "-f", &file, "up", "-d"]);
    assert_eq!(containers(&shop, "again"), before, "{progress}");
    let is_running = progress.contains("again-web-2  Running");
    assert!(is_running && !progress.contains("Recreate"), "{progress}");
    shop.bargee(&["plan", "-f", &file]);
    // What the file changes is another container.
    std::fs::write(&file, KNOWN_AGAIN.replace("www", "w3")).expect("a file");
    let progress = told(&shop, &["compose", "-f", &file, "up", "-d"]);
    assert!(progress.contains("again-web-2  Recreated"), "{progress}");
    assert!(progress.contains("again-shared-1  Running"), "{progress}");
    shop.engine.docker(&["compose", "-f", &file, "down", "-v", "-t", "1"]);
}

#[test]
fn what_compose_made_is_observed_and_left_alone() {
    let Some(shop) = Shop::open() else { return };
    shop.compose(&["up", "-d", "--wait"]);
    let before = containers(&shop, "shop");
    let plan = shop.engine.bargee(&["plan", "-f", shop.file()]);
    let told = String::from_utf8_lossy(&plan.stderr).into_owned();
    assert_eq!(plan.status.code(), Some(1), "{told}");
    assert!(told.contains("shop-web-1 belongs to docker compose's project shop"), "{told}");
    assert!(told.contains("`docker compose -p shop down` removes it"), "{told}");
    assert_eq!(shop.engine.bargee(&["up", "-d", "-f", shop.file()]).status.code(), Some(1));
    assert_eq!(containers(&shop, "shop"), before);
    shop.compose(&["down", "-v", "-t", "1"]);
}
