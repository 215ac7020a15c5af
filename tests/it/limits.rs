//! What the kernel says of a container equals what its file says.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use bargee::engine::paths::Paths;
use tempfile::TempDir;

use super::support::engine::{Engine, possible};

const ALL: &str = "
name: strict
services:
  all:
    image: busybox
    command: [sleep, '1000']
    init: true
    user: '1000:1000'
    hostname: box
    working_dir: /data
    read_only: true
    stop_grace_period: 1s
    tmpfs: ['/scratch:size=1m,mode=1777']
    shm_size: 8m
    mem_limit: 64m
    memswap_limit: 96m
    cpus: 0.5
    cpu_shares: 512
    cpuset: '0'
    pids_limit: 42
    oom_score_adj: 300
    ulimits: {nofile: {soft: 100, hard: 200}, nproc: 77}
    sysctls: {net.ipv4.ip_local_port_range: '2000 3000'}
    cap_add: [NET_ADMIN]
    cap_drop: [CHOWN]
    security_opt: ['no-new-privileges:true']
    environment: {A: b}
    volumes: ['data:/data', {type: bind, source: ./bound, target: /bound, read_only: true}]
    secrets: [{source: key, target: pass, mode: 0440, uid: '1000', gid: '1000'}]
    configs: [{source: conf, target: /etc/app.conf}]
  plain: {image: busybox, command: [sleep, '1000'], init: true, stop_grace_period: 1s}
volumes: {data: {}}
secrets: {key: {file: ./key.txt}}
configs: {conf: {content: 'speed = 1'}}
";

/// Bits of the default capabilities without CHOWN and with NET_ADMIN, linux/capability.h.
const BOUNDING: [u32; 11] = [1, 3, 4, 5, 6, 7, 8, 10, 12, 18, 31];

fn run(engine: &Engine, folder: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = engine
        .command(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{arguments:?}: {stderr}\n{}", engine.log());
    String::from_utf8(stdout).expect("text").trim_end().to_owned()
}

/// Reads the first of some files that is there: version 1, then version 2.
fn cgroup(engine: &Engine, id: &str, files: &[(&str, &str)]) -> String {
    let paths = Paths::new(engine.root(), engine.run());
    let cgroup = format!("{}/{id}", paths.cgroup_parent().trim_start_matches('/'));
    for (controller, file) in files {
        let path = Path::new("/sys/fs/cgroup").join(controller).join(&cgroup).join(file);
        if let Ok(text) = fs::read_to_string(path) {
            return text.trim().to_owned();
        }
    }
    panic!("none of {files:?} is there");
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.starts_with(name)).expect("the field is there");
    line[name.len()..].trim()
}

#[test]
fn the_kernel_says_what_the_file_says() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    engine.load_busybox("busybox");
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("stack.yaml"), ALL).expect("it is written");
    fs::write(folder.path().join("key.txt"), "s3cret").expect("it is written");
    fs::create_dir(folder.path().join("bound")).expect("it is made");
    run(&engine, folder.path(), &["up", "-f", "stack.yaml", "-d", "--wait"]);
    let inspect = |name: &str, format: &str| {
        run(&engine, folder.path(), &["inspect", "--format", format, name])
    };
    let id = inspect("strict-all-1", "{{.Id}}");
    let init = inspect("strict-all-1", "{{.State.Pid}}");
    let inside =
        |words: &[&str]| run(&engine, folder.path(), &[&["exec", "strict-all-1"], words].concat());

    // The cgroup.
    let file = |files: &[(&str, &str)]| cgroup(&engine, &id, files);
    assert_eq!(file(&[("memory", "memory.limit_in_bytes"), ("", "memory.max")]), "67108864");
    let swap = file(&[("memory", "memory.memsw.limit_in_bytes"), ("", "memory.swap.max")]);
    assert!(swap == "100663296" || swap == "33554432", "{swap}");
    let quota = file(&[("cpu", "cpu.cfs_quota_us"), ("", "cpu.max")]);
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    let shares = file(&[("cpu", "cpu.shares"), ("", "cpu.weight")]);
    assert!(shares == "512" || shares == "20" || shares == "59", "{shares}");
    assert_eq!(file(&[("cpuset", "cpuset.cpus"), ("", "cpuset.cpus")]), "0");
    assert_eq!(file(&[("pids", "pids.max"), ("", "pids.max")]), "42");

    // The process: init's only child is the program.
    let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children"));
    let program = children.expect("it lives").trim().to_owned();
    let proc = |name: &str| fs::read_to_string(format!("/proc/{program}/{name}")).expect("proc");
    let status = proc("status");
    let bounding = u64::from_str_radix(field(&status, "CapBnd:"), 16).expect("hexadecimal");
    let wanted: u64 = BOUNDING.iter().map(|bit| 1_u64 << bit).sum();
    assert_eq!(bounding, wanted, "{bounding:x} {wanted:x}");
    assert_eq!(field(&status, "CapEff:"), "0000000000000000");
    assert_eq!(field(&status, "NoNewPrivs:"), "1");
    assert_eq!(field(&status, "Seccomp:"), "2");
    assert_eq!(field(&status, "Uid:"), "1000\t1000\t1000\t1000");
    assert_eq!(field(&status, "Gid:"), "1000\t1000\t1000\t1000");
    assert_eq!(field(&status, "Cpus_allowed_list:"), "0");
    let limits = proc("limits");
    let limit = |name: &str| field(&limits, name).split_whitespace().take(2).collect::<Vec<_>>();
    assert_eq!(limit("Max open files"), ["100", "200"]);
    assert_eq!(limit("Max processes"), ["77", "77"]);
    assert_eq!(proc("oom_score_adj").trim(), "300");
    let plain = inspect("strict-plain-1", "{{.State.Pid}}");
    let score = fs::read_to_string(format!("/proc/{plain}/oom_score_adj")).expect("proc");
    assert_eq!(score.trim(), "0", "a container must not have its shim's score");

    // What it sees.
    assert_eq!(inside(&["hostname"]), "box");
    assert_eq!(inside(&["pwd"]), "/data");
    assert_eq!(inside(&["sh", "-c", "echo $A"]), "b");
    assert_eq!(inside(&["cat", "/proc/sys/net/ipv4/ip_local_port_range"]), "2000\t3000");
    let mounts = inside(&["cat", "/proc/mounts"]);
    let mount = |target: &str| {
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(target));
        line.unwrap_or_else(|| panic!("no {target}:\n{mounts}")).to_owned()
    };
    assert!(mount("/").split(' ').nth(3).is_some_and(|o| o.starts_with("ro")), "{}", mount("/"));
    assert!(mount("/bound").split(' ').nth(3).is_some_and(|o| o.starts_with("ro")));
    assert!(mount("/data").split(' ').nth(3).is_some_and(|o| o.starts_with("rw")));
    assert!(mount("/scratch").contains("size=1024k"), "{}", mount("/scratch"));
    assert!(mount("/dev/shm").contains("size=8192k"), "{}", mount("/dev/shm"));
    assert_eq!(inside(&["cat", "/run/secrets/pass"]), "s3cret");
    assert!(inside(&["ls", "-ln", "/run/secrets/pass"]).starts_with("-r--r-----"));
    assert_eq!(inside(&["cat", "/etc/app.conf"]), "speed = 1");
    for place in ["/new", "/bound/new", "/run/secrets/pass"] {
        let touch =
            engine.bargee(&["exec", "strict-all-1", "sh", "-c", &format!("echo x > {place}")]);
        assert!(!touch.status.success(), "{place} can be written");
    }
    inside(&["sh", "-c", "echo kept > /scratch/x"]);
    // Processes end at the limit.
    let bomb = "for n in $(seq 60); do sleep 5 & done; wait";
    let bomb = engine.bargee(&["exec", "strict-all-1", "sh", "-c", bomb]);
    assert!(
        String::from_utf8_lossy(&bomb.stderr).contains("fork"),
        "{}",
        String::from_utf8_lossy(&bomb.stderr)
    );
    run(&engine, folder.path(), &["down", "-f", "stack.yaml", "-v"]);
}

#[test]
fn data_outlives_a_down_and_goes_with_its_volume() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    engine.load_busybox("busybox");
    let folder = TempDir::new().expect("a folder");
    let text = "
name: kept
services:
  db: {image: busybox, command: [sleep, '1000'], init: true, stop_grace_period: 1s, volumes: ['data:/data', /cache]}
volumes: {data: {}}
";
    fs::write(folder.path().join("stack.yaml"), text).expect("it is written");
    let run = |arguments: &[&str]| run(&engine, folder.path(), arguments);
    let up = || run(&["up", "-f", "stack.yaml", "-d", "--wait"]);
    let anonymous = || {
        let names = run(&["volume", "ls", "-q"]);
        names.lines().filter(|name| name.len() == 64).count()
    };
    up();
    run(&["exec", "kept-db-1", "sh", "-c", "echo rows > /data/rows; echo warm > /cache/x"]);
    // A container that is made anew keeps its anonymous volume.
    run(&["up", "-f", "stack.yaml", "-d", "--wait", "--force-recreate"]);
    assert_eq!(run(&["exec", "kept-db-1", "cat", "/cache/x"]), "warm");
    assert_eq!(anonymous(), 1);
    run(&["down", "-f", "stack.yaml"]);
    up();
    assert_eq!(run(&["exec", "kept-db-1", "cat", "/data/rows"]), "rows");
    run(&["down", "-f", "stack.yaml", "-v"]);
    assert!(!run(&["volume", "ls", "-q"]).contains("kept_data"));
    up();
    let rows = engine.bargee(&["exec", "kept-db-1", "cat", "/data/rows"]);
    assert!(!rows.status.success(), "the data is still there");
    run(&["down", "-f", "stack.yaml", "-v"]);
    run(&["volume", "prune", "-f"]);
    assert_eq!(run(&["volume", "ls", "-q"]), "");
}

#[test]
fn a_node_that_a_container_makes_opens_no_device_of_the_host() {
    if !possible() || !Path::new("/dev/kmsg").exists() {
        return;
    }
    let engine = Engine::start();
    engine.load_busybox("busybox");
    let script = "mknod /tmp/node c 1 11 && : > /tmp/node && echo opened";
    let tell = |options: &[&str]| {
        let container = ["busybox", "sh", "-c", script];
        let words = [&["run", "--rm", "--cap-add", "MKNOD"], options, &container].concat();
        let Output { stdout, stderr, .. } = engine.bargee(&words);
        [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    let [opened, error] = tell(&[]);
    assert_eq!(opened, "");
    assert!(error.contains("Operation not permitted"), "{error}");
    let [opened, error] = tell(&["--device", "/dev/kmsg:/dev/kmsg:wm"]);
    assert_eq!(opened, "opened", "{error}");
}
