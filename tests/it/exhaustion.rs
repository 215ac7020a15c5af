//! Full and read-only disks, and limits of the engine's own: it goes on, says what is wrong, and recovers by itself.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::mount::{MountFlags, mount, mount_remount};
use rustix::process::{Resource, Rlimit, prlimit};

use crate::support::engine::{Engine, PATIENCE, possible, wait_for};
use crate::support::folder::{Folder, text};
use crate::support::kept::Kept;
use crate::support::neighbour::{has, on_a_host, run};
use crate::support::process::{lives, parent_of};

/// Loops of stacks try again within their backoff.
const RECOVERY: Duration = Duration::from_secs(30);

const LINES: &str = "while :; do echo line; sleep 0.05; done";

/// A disk of so many bytes in memory.
fn memory(target: &Path, size: &str) {
    fs::create_dir_all(target).expect("a folder to mount on");
    let options = std::ffi::CString::new(format!("size={size},mode=711")).expect("no NUL");
    mount("tmpfs", target, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
        .expect("a tmpfs");
}

/// An ext4 of its own behind a loop device, which goes with the last mount.
fn ext4(target: &Path, image: &Path) {
    fs::create_dir_all(target).expect("a folder to mount on");
    let file = fs::File::create(image).expect("an image");
    file.set_len(32 << 20).expect("a sparse file");
    run("mkfs.ext4", &["-q", "-m", "0", &image.display().to_string()]);
    run("mount", &["-o", "loop", &image.display().to_string(), &target.display().to_string()]);
}

/// Fills the disk to its last byte; returns what to delete.
fn fill(disk: &Path) -> PathBuf {
    let filler = disk.join("filler");
    let mut file = fs::File::create(&filler).expect("an empty file has room");
    for size in [1 << 16, 1 << 12, 1] {
        let block = vec![b'x'; size];
        while file.write(&block).is_ok_and(|count| count > 0) {}
    }
    filler
}

#[track_caller]
fn ok(engine: &Engine, words: &[&str]) -> String {
    let output = engine.bargee(words);
    let why = text(&output.stderr);
    assert!(output.status.success(), "{words:?}: {why}\n{}", engine.log());
    text(&output.stdout).trim_end().to_owned()
}

#[track_caller]
fn fails(engine: &Engine, words: &[&str]) -> String {
    let output = engine.bargee(words);
    assert!(!output.status.success(), "{words:?} works: {}", text(&output.stdout));
    text(&output.stderr)
}

fn state(engine: &Engine, name: &str) -> String {
    text(&engine.bargee(&["inspect", "-f", "{{.State.Status}}", name]).stdout).trim().to_owned()
}

fn names(engine: &Engine) -> Vec<String> {
    let listed = ok(engine, &["ps", "-a", "--format", "{{.Names}}"]);
    let mut names: Vec<_> = listed.lines().map(str::to_owned).collect();
    names.sort();
    names
}

const STACK: &str = "
name: full
services:
  web:
    image: busybox
    command: [sleep, '1000']
    init: true
";

fn a_full_disk(mut engine: Engine) {
    let root = engine.root();
    engine.load_busybox("busybox");
    ok(&engine, &["run", "-d", "--init", "--name", "lines", "busybox", "sh", "-c", LINES]);
    ok(&engine, &["run", "-d", "--init", "--name", "web", "busybox", "sleep", "1000"]);
    ok(&engine, &["run", "-d", "--init", "--name", "kept", "busybox", "sleep", "1000"]);
    ok(&engine, &["create", "--name", "old", "busybox", "sleep", "5"]);
    let filler = fill(&root);
    let before = names(&engine);
    for _ in 0..2 {
        assert_eq!(names(&engine), before);
        let why = fails(&engine, &["run", "-d", "--rm", "--name", "new", "busybox", "sleep", "5"]);
        assert!(why.contains("no space left on device") || why.contains("bytes free"), "{why}");
        assert!(why.contains(&root.display().to_string()), "{why}");
        assert_eq!(names(&engine), before, "nothing is half done");
        let warned = text(&engine.bargee(&["ps"]).stderr);
        let named = format!("the disk of {} has ", root.display());
        assert!(warned.contains(&named) && warned.contains("bytes free"), "{warned}");
        assert!(ok(&engine, &["info"]).contains(&named));
        assert_eq!(ok(&engine, &["logs", "--tail", "1", "lines"]), "line");
        for name in ["lines", "web", "kept"] {
            assert_eq!(state(&engine, name), "running", "{name}");
        }
        // An engine that starts on a full disk does the same.
        engine.kill();
        engine.launch();
    }
    let folder = Folder::new(STACK);
    let output = folder.run(&engine, &["up", "-d", "-f", "stack.yaml"]);
    let why = text(&output.stderr);
    assert!(!output.status.success(), "an up on a full disk works: {}", text(&output.stdout));
    assert!(why.contains("no space left on device") || why.contains("bytes free"), "{why}");
    // What was stored comes up by itself later; else the user is told to try again.
    let stored = ok(&engine, &["stack", "ls"]).lines().any(|line| line.starts_with("full "));
    assert!(stored || why.contains("nothing was changed"), "{why}");
    // A disk that is full all the time is filled again by nobody here.
    ok(&engine, &["stop", "-t", "5", "web"]);
    assert_eq!(state(&engine, "web"), "exited");
    ok(&engine, &["rm", "web"]);
    ok(&engine, &["rm", "old"]);
    ok(&engine, &["container", "prune", "-f"]);
    ok(&engine, &["image", "prune", "-f"]);
    assert!(!names(&engine).iter().any(|name| ["web", "old"].contains(&name.as_str())));
    engine.stop();
    engine.launch();
    assert_eq!(state(&engine, "lines"), "running");
    // With space again all goes on, the stack by its own loop.
    fs::remove_file(&filler).expect("it is ours");
    if !stored {
        folder.ok(&engine, &["up", "-d", "-f", "stack.yaml"]);
    }
    let up = wait_for(RECOVERY, || (state(&engine, "full-web-1") == "running").then_some(()));
    assert!(up.is_some(), "the stack does not come up (stored: {stored}):\n{}", engine.log());
    assert_eq!(ok(&engine, &["run", "--rm", "busybox", "echo", "back"]), "back");
    let count = || ok(&engine, &["logs", "lines"]).lines().count();
    let seen = count();
    assert!(wait_for(PATIENCE, || (count() > seen).then_some(())).is_some(), "its log goes on");
}

#[test]
fn on_a_full_disk_the_engine_starts_lists_stops_removes_and_recovers() {
    if !possible() {
        return;
    }
    on_a_host(|| a_full_disk(Engine::prepared(|engine| memory(&engine.root(), "24m"))));
}

#[test]
fn a_full_ext4_is_as_good_as_a_full_tmpfs() {
    if !possible() || !has("mkfs.ext4") || !Path::new("/dev/loop-control").exists() {
        eprintln!("skipped: needs mkfs.ext4 and loop devices");
        return;
    }
    on_a_host(|| {
        let image = |engine: &Engine| engine.folder().join("disk.img");
        a_full_disk(Engine::prepared(|engine| ext4(&engine.root(), &image(engine))));
    });
}

/// Lays a read-only mount of the same disk over it: writers of the first one keep it from being remounted.
fn make_read_only(target: &Path) {
    rustix::mount::mount_bind_recursive(target, target).expect("a bind mount");
    mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, "").expect("a remount");
}

#[test]
fn on_a_read_only_disk_the_engine_works_on_a_copy_and_says_so() {
    if !possible() {
        return;
    }
    on_a_host(|| {
        let mut engine = Engine::prepared(|engine| memory(&engine.root(), "64m"));
        engine.load_busybox("busybox");
        ok(&engine, &["run", "-d", "--init", "--name", "web", "busybox", "sleep", "1000"]);
        ok(&engine, &["create", "--name", "old", "busybox", "sleep", "5"]);
        engine.kill();
        make_read_only(&engine.root());
        engine.launch();
        assert_eq!(names(&engine), ["old", "web"]);
        assert_eq!(state(&engine, "web"), "running");
        for told in [text(&engine.bargee(&["ps"]).stderr), ok(&engine, &["info"])] {
            let named = format!("{}/state.db is on a read-only disk", engine.root().display());
            assert!(told.contains(&named), "{told}");
        }
        let why = fails(&engine, &["run", "--rm", "--name", "new", "busybox", "true"]);
        assert!(why.to_lowercase().contains("read-only file system"), "{why}");
        assert_eq!(names(&engine), ["old", "web"], "nothing is half done");
        ok(&engine, &["stop", "-t", "5", "web"]);
        assert_eq!(state(&engine, "web"), "exited");
        engine.stop();
        let top = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(engine.root(), top).expect("it is writable again");
        engine.launch();
        assert_eq!(ok(&engine, &["run", "--rm", "busybox", "echo", "back"]), "back");
        assert_eq!(text(&engine.bargee(&["ps"]).stderr), "");
        assert_eq!(state(&engine, "web"), "exited", "that it ended is found out anew");
    });
}

#[test]
fn a_full_run_folder_stops_no_container_and_is_named() {
    if !possible() {
        return;
    }
    on_a_host(|| {
        let mut engine = Engine::prepared(|engine| memory(&engine.run(), "1m"));
        engine.load_busybox("busybox");
        ok(&engine, &["run", "-d", "--init", "--name", "web", "busybox", "sleep", "1000"]);
        let filler = fill(&engine.run());
        let why = fails(&engine, &["run", "-d", "--rm", "--name", "new", "busybox", "sleep", "5"]);
        assert!(why.contains(&engine.run().display().to_string()), "{why}");
        assert!(why.contains("no space left on device"), "{why}");
        assert_eq!(names(&engine), ["web"], "nothing is half done");
        engine.kill();
        engine.launch();
        assert_eq!(state(&engine, "web"), "running");
        assert!(text(&engine.bargee(&["ps"]).stderr).contains("bytes free"));
        ok(&engine, &["rm", "-f", "web"]);
        fs::remove_file(&filler).expect("it is ours");
        assert_eq!(ok(&engine, &["run", "--rm", "busybox", "echo", "back"]), "back");
    });
}

#[test]
fn a_flood_of_output_takes_three_files_of_ten_megabytes_at_most() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    engine.load_busybox("busybox");
    let flood = "yes 0123456789012345678901234567890123456789 | head -c 60000000";
    ok(&engine, &["run", "--name", "flood", "-d", "busybox", "sh", "-c", flood]);
    ok(&engine, &["wait", "flood"]);
    let id = ok(&engine, &["inspect", "-f", "{{.Id}}", "flood"]);
    let files = fs::read_dir(engine.root().join("containers").join(id)).expect("its folder");
    let sizes: Vec<_> = files
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("log"))
        .map(|entry| (entry.file_name(), entry.metadata().map_or(0, |data| data.len())))
        .collect();
    assert!(!sizes.is_empty() && sizes.len() <= 3, "{sizes:?}");
    assert!(sizes.iter().map(|(_, size)| size).sum::<u64>() <= 31 << 20, "{sizes:?}");
}

#[test]
fn without_free_descriptors_clients_wait_and_nothing_breaks() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    engine.load_busybox("busybox");
    ok(&engine, &["run", "-d", "--init", "--name", "web", "busybox", "sleep", "1000"]);
    let pid = rustix::process::Pid::from_raw(i32::try_from(engine.pid()).expect("a pid"));
    let open = fs::read_dir(format!("/proc/{}/fd", engine.pid())).expect("its table").count();
    let hard = hard_limit(engine.pid());
    let few = Rlimit { current: Some(open as u64 + 8), maximum: Some(hard) };
    let old = prlimit(pid, Resource::Nofile, few).expect("its limit");
    let held: Vec<_> =
        (0..32).map(|_| std::os::unix::net::UnixStream::connect(engine.socket())).collect();
    assert!(held.iter().all(Result::is_ok), "they queue");
    drop(held);
    // With a few free a start fails cleanly, or works.
    let output = engine.bargee(&["run", "-d", "--rm", "--name", "new", "busybox", "sleep", "1000"]);
    if !output.status.success() {
        let why = text(&output.stderr);
        assert!(why.contains("too many open files"), "{why}");
        assert_eq!(names(&engine), ["web"], "nothing is half done");
    }
    prlimit(pid, Resource::Nofile, old).expect("its limit");
    assert_eq!(state(&engine, "web"), "running");
    assert_eq!(ok(&engine, &["run", "--rm", "busybox", "echo", "back"]), "back");
}

/// Reads the hard limit of open files (proc_pid_limits(5)), which only ever shrinks.
fn hard_limit(pid: u32) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    line.split_whitespace().nth(4).and_then(|word| word.parse().ok()).expect("a number")
}

/// A cgroup of the test's own with one limit.
struct Limited {
    path: PathBuf,
    file: &'static str,
}

impl Limited {
    fn new(controller: &str, v1_file: &'static str, v2_file: &'static str) -> Option<Self> {
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        let (root, file) = match v1.is_dir() {
            true => (v1, v1_file),
            false => (PathBuf::from("/sys/fs/cgroup"), v2_file),
        };
        let path = root.join(format!("exhaustion-{controller}-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let this = Self { path, file };
        let is_there = this.path.join(file).exists();
        if !is_there {
            eprintln!("skipped: no controller of {controller}");
        }
        is_there.then_some(this)
    }

    fn limit(&self, word: &str) {
        fs::write(self.path.join(self.file), word).expect("a limit");
    }

    fn take(&self, pid: &impl std::fmt::Display) {
        fs::write(self.path.join("cgroup.procs"), pid.to_string()).expect("it moves");
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        wait_for(PATIENCE, || fs::remove_dir(&self.path).ok());
    }
}

/// Returns how many threads a process has.
fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

#[test]
fn without_free_pids_a_start_fails_cleanly_and_works_again_later() {
    if !possible() {
        return;
    }
    let Some(pids) = Limited::new("pids", "pids.max", "pids.max") else { return };
    let engine = Engine::start();
    engine.load_busybox("busybox");
    ok(&engine, &["run", "-d", "--init", "--name", "web", "busybox", "sleep", "1000"]);
    // Threads that wait for more work of others end, and no new one is to be had.
    let few = wait_for(PATIENCE, || (threads(engine.pid()) <= 4).then_some(()));
    assert!(few.is_some(), "{} threads stay", threads(engine.pid()));
    pids.take(&engine.pid());
    pids.limit("1");
    let why = text(&engine.bargee(&["logs", "web"]).stderr);
    assert!(why.contains("cannot start a thread: resource temporarily unavailable"), "{why}");
    let why = fails(&engine, &["run", "-d", "--rm", "--name", "new", "busybox", "sleep", "1000"]);
    assert!(why.contains("resource temporarily unavailable"), "{why}\n{}", engine.log());
    assert_eq!(names(&engine), ["web"], "nothing is half done");
    assert_eq!(state(&engine, "web"), "running");
    pids.limit("max");
    assert_eq!(ok(&engine, &["run", "--rm", "busybox", "echo", "back"]), "back");
    drop(engine);
}

#[test]
fn a_read_only_run_folder_stops_no_container_and_is_named() {
    if !possible() {
        return;
    }
    on_a_host(|| {
        let mut engine = Engine::prepared(|engine| memory(&engine.run(), "64m"));
        engine.load_busybox("busybox");
        ok(&engine, &["run", "-d", "--init", "--name", "web", "busybox", "sleep", "1000"]);
        let pid = ok(&engine, &["inspect", "-f", "{{.State.Pid}}", "web"]);
        make_read_only(&engine.run());
        let why = fails(&engine, &["run", "-d", "--rm", "--name", "new", "busybox", "sleep", "5"]);
        assert!(why.to_lowercase().contains("read-only file system"), "{why}");
        assert_eq!(names(&engine), ["web"], "nothing is half done");
        assert_eq!(state(&engine, "web"), "running");
        let named = format!("{} is on a read-only disk", engine.run().display());
        assert!(text(&engine.bargee(&["ps"]).stderr).contains(&named));
        // The next engine can't even listen, says so, and touches nothing.
        engine.kill();
        engine.spawn(|_| ());
        let ended = wait_for(PATIENCE, || engine.has_ended().then_some(()));
        assert!(ended.is_some(), "it goes on:\n{}", engine.log());
        let log = engine.log();
        let last = log.lines().last().unwrap_or_default();
        let named = last.contains(&engine.run().display().to_string());
        assert!(named && last.to_lowercase().contains("read-only file system"), "{log}");
        assert!(lives(pid.parse().expect("a number")));
        let top = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(engine.run(), top).expect("it is writable again");
        engine.launch();
        assert_eq!(ok(&engine, &["inspect", "-f", "{{.State.Pid}}", "web"]), pid);
        assert_eq!(ok(&engine, &["run", "--rm", "busybox", "echo", "back"]), "back");
        assert_eq!(text(&engine.bargee(&["ps"]).stderr), "");
    });
}

/// Returns the score by which the kernel chooses whom to end for want of memory.
fn oom_score(pid: i64) -> String {
    let path = format!("/proc/{pid}/oom_score_adj");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

#[test]
fn an_engine_that_the_kernel_ends_for_want_of_memory_is_back_and_containers_stay() {
    if !possible() {
        return;
    }
    let limit = Limited::new("memory", "memory.limit_in_bytes", "memory.max");
    let Some(limit) = limit else { return };
    let kept = Kept::start();
    let host = &kept.host.0;
    ok(host, &["run", "-d", "--init", "--name", "web", "busybox", "sleep", "1000"]);
    let init = || ok(host, &["inspect", "-f", "{{.State.Pid}}", "web"]).parse().expect("a pid");
    let web: i64 = init();
    let engine = kept.engine();
    let scores = [web, parent_of(web), engine, parent_of(engine)].map(oom_score);
    let may_lower =
        Command::new("sh").args(["-c", "echo -999 > /proc/self/oom_score_adj"]).output();
    let wanted = match may_lower.expect("a shell").status.success() {
        true => ["0", "-998", "-500", "-500"],
        // Without CAP_SYS_RESOURCE nobody is spared (proc_pid_oom_score_adj(5)).
        false => ["0"; 4],
    };
    assert_eq!(scores, wanted, "container, shim, engine, keeper");
    limit.limit("131072");
    limit.take(&engine);
    let ended = wait_for(PATIENCE, || {
        // What it is asked takes memory; whoever asks in the last moment is told that nobody answers.
        for words in [["ps", "-a"], ["logs", "web"], ["network", "ls"], ["system", "df"]] {
            drop(host.bargee(&words));
        }
        (!lives(engine)).then_some(())
    });
    assert!(ended.is_some(), "it lives on that little:\n{}", kept.log());
    assert_ne!(kept.engine(), engine);
    assert!(kept.log().contains("signal: 9"), "{}", kept.log());
    assert_eq!(init(), web);
    assert_eq!(ok(host, &["run", "--rm", "busybox", "echo", "back"]), "back");
    ok(host, &["system", "check"]);
    assert_eq!(names(host), ["web"], "nothing is half done");
}

#[test]
fn without_address_space_a_verb_fails_or_ends_the_engine_and_nothing_is_half_done() {
    if !possible() {
        return;
    }
    let kept = Kept::start();
    let host = &kept.host.0;
    ok(host, &["run", "-d", "--init", "--name", "web", "busybox", "sleep", "1000"]);
    let init = || ok(host, &["inspect", "-f", "{{.State.Pid}}", "web"]);
    let web = init();
    let engine = kept.engine();
    let pages = fs::read_to_string(format!("/proc/{engine}/statm")).expect("it lives");
    let pages: u64 = pages.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    let pid = rustix::process::Pid::from_raw(i32::try_from(engine).expect("a pid"));
    let tight = Rlimit { current: Some(pages * 4096 + (256 << 10)), maximum: None };
    prlimit(pid, Resource::As, tight).expect("its limit");
    let mut refused = 0;
    for _ in 0..5 {
        let output = host.bargee(&["run", "--rm", "busybox", "true"]);
        refused += usize::from(!output.status.success());
        assert!(output.status.success() || !output.stderr.is_empty(), "it fails without a word");
    }
    assert!(refused > 0, "it had all that it needs");
    // The same engine with more of it, or the next one.
    let unlimited = Rlimit { current: None, maximum: None };
    if lives(engine) {
        prlimit(pid, Resource::As, unlimited).expect("its limit");
    }
    kept.engine();
    assert_eq!(init(), web);
    assert_eq!(ok(host, &["run", "--rm", "busybox", "echo", "back"]), "back");
    // Whoever was cut off between making one and starting it leaves it made, as after `create`.
    let whole = || {
        let listed = ok(host, &["ps", "-a", "--format", "{{.Names}} {{.State}}"]);
        listed.lines().all(|line| line == "web running" || line.ends_with(" created"))
    };
    let clean = wait_for(PATIENCE, || {
        let check = host.bargee(&["system", "check"]);
        (check.status.success() && whole()).then_some(())
    });
    assert!(
        clean.is_some(),
        "{:?}\n{}\n{}",
        host.bargee(&["system", "check"]),
        ok(host, &["ps", "-a"]),
        kept.log()
    );
}
