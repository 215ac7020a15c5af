//! `system check`: it finds every kind of leak that is made on purpose, and the next engine's start removes it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bargee::engine::paths::Paths;
use bargee::protocol::{CheckReport, Fault};
use rustix::mount::{UnmountFlags, mount, unmount};

use super::support::engine::{Engine, PATIENCE, possible, wait_for};

const ID: &str = "00000000000000000000000000000000000000000000000000000000000000aa";

pub(crate) fn report(engine: &Engine) -> CheckReport {
    let answer = engine.client().get("/bargee/v1/check").expect("the engine answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("a report")
}

/// What is wrong, a line each.
pub(crate) fn findings(engine: &Engine) -> Vec<String> {
    let line = |finding: bargee::protocol::Finding| {
        let fault = if finding.fault == Fault::Leak { "leak" } else { "missing" };
        format!("{fault} {} {}", finding.kind, finding.what)
    };
    report(engine).findings.into_iter().map(line).collect()
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect("it is installed");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
}

/// What a test leaves in the kernel goes with it, also when the engine was too dull to.
struct Strays {
    link: String,
    mounts: Vec<PathBuf>,
    cgroups: Vec<PathBuf>,
    shim: Child,
}

impl Drop for Strays {
    fn drop(&mut self) {
        drop(self.shim.kill());
        drop(self.shim.wait());
        drop(Command::new("ip").args(["link", "del", &self.link]).output());
        for path in &self.mounts {
            let _ = unmount(path, UnmountFlags::DETACH);
        }
        for path in &self.cgroups {
            drop(fs::remove_dir(path));
        }
    }
}

fn hierarchies() -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() {
        return vec![top.to_owned()];
    }
    let entries = fs::read_dir(top).expect("cgroups").flatten();
    let folders: BTreeSet<PathBuf> =
        entries.filter_map(|entry| entry.path().canonicalize().ok()).collect();
    folders.into_iter().filter(|folder| folder.join("cgroup.procs").exists()).collect()
}

/// Leaves one of each kind behind, and returns what a check should say of it.
fn leave_strays(engine: &Engine) -> (Strays, Vec<String>) {
    let paths = Paths::new(engine.root(), engine.run());
    let mut expected = Vec::new();
    let mut expect = |kind: &str, what: &str| expected.push(format!("leak {kind} {what}"));

    let link = format!("bb{}strays0", paths.id());
    run("ip", &["link", "add", &link, "type", "bridge"]);
    expect("link", &link);

    let folder = engine.root().join("volumes/a stray/_data");
    fs::create_dir_all(&folder).unwrap();
    mount("tmpfs", &folder, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    expect("mount", folder.to_str().unwrap());
    expect("file", folder.parent().unwrap().to_str().unwrap());

    let pin = engine.run().join("netns").join(ID);
    fs::create_dir_all(pin.parent().unwrap()).unwrap();
    fs::write(&pin, "").unwrap();
    run("unshare", &[&format!("--net={}", pin.display()), "true"]);
    expect("namespace", &format!("netns of container {ID}"));

    let mut cgroups = Vec::new();
    for hierarchy in hierarchies() {
        let parent = hierarchy.join(paths.cgroup_parent().trim_start_matches('/'));
        let name = format!("{}-{ID}", hierarchy.file_name().unwrap().to_str().unwrap());
        fs::create_dir_all(parent.join(&name)).unwrap();
        expect("cgroup", &format!("{}/{name}", paths.cgroup_parent()));
        cgroups.extend([parent.join(&name), parent]);
    }
    expect("cgroup", &paths.cgroup_parent());

    for folder in ["containers", "trash", "tmp"] {
        let path = engine.root().join(folder).join("stray");
        fs::create_dir_all(&path).unwrap();
        expect(if folder == "tmp" { "image" } else { "file" }, path.to_str().unwrap());
    }
    let blob = engine.root().join("blobs/sha256").join(ID);
    fs::write(&blob, "").unwrap();
    expect("image", blob.to_str().unwrap());
    let note = engine.run().join("at-work/nostack");
    fs::create_dir_all(note.parent().unwrap()).unwrap();
    fs::write(&note, "0").unwrap();
    expect("file", note.to_str().unwrap());

    let run = engine.run().join("containers").join(ID);
    fs::create_dir_all(&run).unwrap();
    expect("file", run.to_str().unwrap());
    let shim = Command::new(env!("CARGO_BIN_EXE_bargee"))
        .args(["__shim", "--bundle", "/nowhere", "--run"])
        .arg(&run)
        .stdin(OwnedFd::from(UnixListener::bind(engine.folder().join("stray.sock")).unwrap()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    expect("process", &format!("pid {}, shim of container {ID}", shim.id()));

    (Strays { link, mounts: vec![folder, pin], cgroups, shim }, expected)
}

#[test]
fn a_check_finds_leaks_of_every_kind_and_the_next_start_removes_them() {
    if !possible() {
        return;
    }
    let mut engine = Engine::start();
    assert_eq!(findings(&engine), Vec::<String>::new());
    let output = engine.bargee(&["system", "check"]);
    assert!(output.status.success(), "{output:?}");
    let (mut strays, mut expected) = leave_strays(&engine);
    expected.sort();
    let mut found = findings(&engine);
    found.sort();
    assert_eq!(found, expected, "{}", engine.log());
    let output = engine.bargee(&["system", "check"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&strays.link) && text.contains("bargee engine restart"), "{text}");
    let output = engine.bargee(&["system", "check", "--json"]);
    let told: CheckReport = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), told.findings.len()), (Some(1), expected.len()));

    engine.kill();
    engine.launch();
    let ended = wait_for(PATIENCE, || strays.shim.try_wait().unwrap());
    assert!(ended.is_some(), "the stray shim lives");
    assert_eq!(findings(&engine), Vec::<String>::new(), "{}", engine.log());
}

/// Has netd hold what the engine knows nothing of.
fn mislead_netd(engine: &Engine, port: u16) {
    let file = engine.run().join("netd/state.json");
    let mut state: serde_json::Value =
        serde_json::from_slice(&fs::read(&file).expect("netd has a state")).expect("JSON");
    let publication = serde_json::json!({
        "host_ip": "127.0.0.1", "host_port": port, "protocol": "tcp", "backends": [],
    });
    state["state"]["publications"].as_array_mut().expect("a list").push(publication);
    fs::write(&file, state.to_string()).expect("it is writable");
    let mut netd = UnixStream::connect(engine.run().join("netd/state.sock")).expect("netd listens");
    netd.write_all(b"\"obey\"\n").expect("netd reads");
    let mut answer = String::new();
    netd.read_to_string(&mut answer).expect("netd answers");
    assert!(answer.contains("generation"), "{answer}");
}

#[test]
fn a_running_container_is_clean_and_what_it_lost_is_missing() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    engine.load_busybox("busybox");
    let free = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.local_addr().expect("it is bound").port()
    };
    let (port, stray) = (free(), free());
    let publish = format!("127.0.0.1:{port}:80");
    let output = engine.bargee(&[
        "run",
        "-d",
        "--init",
        "--name",
        "one",
        "-v",
        "data:/data",
        "-p",
        &publish,
        "busybox",
        "sleep",
        "1000",
    ]);
    assert!(output.status.success(), "{output:?}");
    let id = String::from_utf8(output.stdout).expect("text").trim().to_owned();
    assert_eq!(findings(&engine), Vec::<String>::new(), "{}", engine.log());

    mislead_netd(&engine, stray);
    assert_eq!(findings(&engine), [format!("leak port 127.0.0.1:{stray}/tcp")]);
    let image = fs::read_dir(engine.root().join("images")).unwrap().next().unwrap().unwrap();
    let hex = image.file_name().into_string().unwrap();
    fs::rename(image.path(), engine.folder().join("image")).unwrap();
    let bundle = engine.root().join("containers").join(&id);
    fs::rename(&bundle, engine.folder().join("bundle")).unwrap();
    let found = findings(&engine);
    assert!(found.contains(&format!("missing image sha256:{hex}")), "{found:?}");
    assert!(found.contains(&format!("missing file {}", bundle.display())), "{found:?}");
    fs::rename(engine.folder().join("image"), image.path()).unwrap();
    fs::rename(engine.folder().join("bundle"), &bundle).unwrap();
    let output = engine.bargee(&["rm", "-f", "one"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(findings(&engine), Vec::<String>::new(), "{}", engine.log());
}

#[test]
fn a_cgroup_that_a_user_placed_is_a_leak_once_its_container_is_gone() {
    if !possible() {
        return;
    }
    let mut engine = Engine::start();
    engine.load_busybox("busybox");
    let paths = Paths::new(engine.root(), engine.run());
    let place = format!("/placed-{}", paths.id());
    let body = serde_json::json!({
        "Image": "busybox", "Cmd": ["sleep", "1000"],
        "HostConfig": { "Init": true, "CgroupParent": place },
    });
    let answer = engine.client().post("/containers/create?name=one", &body).expect("an answer");
    let id = answer.json()["Id"].as_str().expect("it is created").to_owned();
    let note = engine.run().join("cgroups").join(&id);
    let ask = |method: &str, path: &str| {
        let answer = engine.client().send(method, path, &[], b"").expect("an answer");
        assert_eq!(answer.status, 204, "{path}: {}", answer.text());
    };
    ask("POST", "/containers/one/start");
    assert!(note.exists());
    let folders: Vec<PathBuf> = hierarchies()
        .into_iter()
        .map(|top| top.join(place.trim_start_matches('/')).join(&id))
        .filter(|folder| folder.exists())
        .collect();
    assert!(!folders.is_empty(), "it is not placed");
    assert_eq!(findings(&engine), Vec::<String>::new());
    ask("POST", "/containers/one/stop?t=0");
    assert!(wait_for(PATIENCE, || findings(&engine).is_empty().then_some(())).is_some());

    // As a crash between two steps leaves it.
    let kept = fs::read(&note).expect("a note");
    ask("DELETE", "/containers/one");
    assert!(!note.exists());
    fs::write(&note, kept).expect("the folder is there");
    folders.iter().for_each(|folder| fs::create_dir_all(folder).expect("root may"));
    let leak = format!("leak cgroup {place}/{id}");
    assert_eq!(findings(&engine), [leak]);
    engine.kill();
    engine.launch();
    assert_eq!(findings(&engine), Vec::<String>::new(), "{}", engine.log());
    assert!(!note.exists() && !folders.iter().any(|folder| folder.exists()));
    for folder in folders {
        fs::remove_dir(folder.parent().expect("a parent")).expect("nothing else is in it");
    }
}
