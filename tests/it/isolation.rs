//! What a container has of the host and of other containers, and what it has not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::support::engine::{Engine, PATIENCE, possible, wait_for};

/// Runs a test with an engine that has the image `busybox`.
fn with_engine(test: impl FnOnce(&Engine)) {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    engine.load_busybox("busybox");
    test(&engine);
}

/// The same in a mount namespace of the test's own, with a folder for mounts: they go with it, and the folder after them.
fn with_engine_and_mounts(test: impl FnOnce(&Engine, &Path) + Send + 'static) {
    if !possible() {
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let path = folder.path().to_owned();
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let apart = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", apart).expect("mounts are our own");
        with_engine(|engine| test(engine, &path));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

/// Runs our command line and returns what it printed; panics unless it succeeds.
#[track_caller]
fn printed(engine: &Engine, words: &[&str]) -> String {
    let output = engine.bargee(words);
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs a line of shell in a fresh container.
#[track_caller]
fn shell(engine: &Engine, options: &[&str], line: &str) -> String {
    printed(engine, &[&["run", "--rm"], options, &["busybox", "sh", "-c", line]].concat())
}

/// Checks that a command fails with `code`, and returns why.
#[track_caller]
fn refused(engine: &Engine, words: &[&str], code: i32) -> String {
    let Output { status, stdout, stderr } = engine.bargee(words);
    assert_eq!(status.code(), Some(code), "{} {}", text(&stdout), text(&stderr));
    text(&stderr)
}

fn mount_memory(target: &Path) {
    fs::create_dir_all(target).expect("a folder to mount on");
    rustix::mount::mount("tmpfs", target, "tmpfs", MountFlags::empty(), None).expect("a tmpfs");
}

#[test]
fn an_init_of_our_own_tells_nothing_of_the_host() {
    with_engine(|engine| {
        let line = "cat /proc/1/cmdline; echo; cat /proc/1/comm; grep CapEff /proc/1/status; id -u";
        let seen = shell(engine, &["--init", "--user", "1000"], line);
        let [command_line, name, capabilities, user] = seen.lines().collect::<Vec<_>>()[..] else {
            panic!("{seen}");
        };
        // One string, cut where the room ends.
        assert_eq!(command_line.trim_end_matches('\0'), format!("bargee-init -- sh -c {line}"));
        assert_eq!((name, user), ("bargee-init", "1000"));
        assert_eq!(capabilities, "CapEff:\t0000000000000020", "it may signal and nothing else");
        // Only who may trace it can read its environment.
        let environment =
            shell(engine, &["--init", "--privileged"], "tr -d '\\0' < /proc/1/environ");
        assert_eq!(environment, "");
        // Signals of other users' programs still arrive.
        let id = printed(
            engine,
            &[
                "run",
                "-d",
                "--init",
                "--user",
                "1000",
                "busybox",
                "sh",
                "-c",
                "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done",
            ],
        );
        wait_for(PATIENCE, || printed(engine, &["logs", &id]).contains("up").then_some(()))
            .expect("it comes up");
        printed(engine, &["stop", "-t", "20", &id]);
        assert_eq!(printed(engine, &["inspect", "-f", "{{.State.ExitCode}}", &id]), "5");
    });
}

#[test]
fn a_program_inherits_no_descriptor_and_sees_its_own_cgroup_alone() {
    with_engine(|engine| {
        // The fourth is the listing's own.
        assert_eq!(shell(engine, &[], "ls /proc/self/fd"), "0\n1\n2\n3");
        let environment = shell(engine, &["-e", "A=b"], "env | grep -v -e ^PWD= -e ^SHLVL= | sort");
        let names: Vec<&str> =
            environment.lines().filter_map(|line| line.split('=').next()).collect();
        assert_eq!(names, ["A", "HOME", "HOSTNAME", "PATH"], "{environment}");
        let limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
        assert_eq!(shell(engine, &["-m", "64m"], limit), "67108864");
        let write = "for f in /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; do \
                     if [ -e $f ]; then echo 1g > $f && echo written; fi; done; true";
        assert_eq!(shell(engine, &["-m", "64m"], write), "");
        let line = "mkdir /sys/fs/cgroup/memory/x 2>/dev/null || mkdir /sys/fs/cgroup/x 2>/dev/null || echo no";
        assert_eq!(shell(engine, &[], line), "no");
        // With a namespace of its own nothing of the host's path is left either.
        let own =
            shell(engine, &["--cgroupns", "private"], "cut -d: -f3 /proc/self/cgroup | sort -u");
        assert_eq!(own, "/");
    });
}

#[test]
fn shared_memory_is_shared_with_whom_it_is_offered_to() {
    with_engine(|engine| {
        let keep = "echo given > /dev/shm/x; echo up; sleep 1000";
        for (name, mode) in [("donor", "shareable"), ("closed", "private")] {
            let words = ["run", "-d", "--name", name, "--ipc", mode, "busybox", "sh", "-c", keep];
            printed(engine, &words);
            wait_for(PATIENCE, || printed(engine, &["logs", name]).contains("up").then_some(()))
                .expect("it comes up");
        }
        let line = "cat /dev/shm/x; echo back > /dev/shm/y; hostname; readlink /proc/self/ns/ipc";
        let seen = shell(engine, &["--ipc", "container:donor", "--hostname", "joiner"], line);
        let namespace = printed(engine, &["exec", "donor", "readlink", "/proc/self/ns/ipc"]);
        assert_eq!(seen, format!("given\njoiner\n{namespace}"));
        assert_eq!(printed(engine, &["exec", "donor", "cat", "/dev/shm/y"]), "back");
        let why =
            refused(engine, &["run", "--rm", "--ipc", "container:closed", "busybox", "true"], 125);
        assert!(why.contains("non-shareable IPC"), "{why}");
        // Whatever the donor puts there, the other container gets what the donor can see and no more.
        printed(engine, &["exec", "donor", "sh", "-c", "mkdir /mine && echo mine > /mine/x"]);
        assert_eq!(
            shell(engine, &["--ipc", "container:donor"], "ls /mine 2>/dev/null || echo none"),
            "none"
        );
    });
}

#[test]
fn a_part_of_a_volume_is_never_a_part_of_the_host() {
    with_engine(|engine| {
        printed(engine, &["volume", "create", "data"]);
        let data = printed(engine, &["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]);
        let data = Path::new(&data);
        fs::create_dir_all(data.join("good/deep")).expect("a folder");
        fs::write(data.join("good/deep/x"), "x").expect("a file");
        for (target, name) in [("/", "root"), ("../../../../../../..", "up"), ("/good", "link")] {
            symlink(target, data.join(name)).expect("a link");
        }
        let list = |part: &str| {
            let mount = format!("type=volume,src=data,dst=/m,volume-subpath={part}");
            shell(engine, &["--mount", &mount], "ls /m")
        };
        assert_eq!(list("good"), "deep");
        assert_eq!(list("good/deep"), "x");
        assert_eq!(list("link"), "deep", "a link is followed below the volume");
        for outward in ["root", "up"] {
            let listed = list(outward);
            assert!(listed.starts_with("good\nlink\n"), "{outward}: {listed}");
        }
        // Nor do files that are copied into a container at rest land there.
        let mount = "type=volume,src=data,dst=/m,volume-subpath=up";
        printed(engine, &["create", "--name", "rest", "--mount", mount, "busybox", "true"]);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_path_with_name("/etc/hostname", "escaped").expect("a file is packed");
        let archive = archive.into_inner().expect("the archive is whole");
        let tar = [("Content-Type", "application/x-tar")];
        let path = "/containers/rest/archive?path=/m";
        let answer = engine.client().send("PUT", path, &tar, &archive).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(data.join("escaped").exists(), "it is in the volume");
        let mount = "type=volume,src=data,dst=/m,volume-subpath=missing";
        let why = refused(engine, &["run", "--rm", "--mount", mount, "busybox", "true"], 127);
        assert!(why.contains("missing in the volume data"), "{why}");
    });
}

#[test]
fn a_read_only_bind_is_so_all_the_way_down_and_propagation_is_as_asked() {
    with_engine_and_mounts(|engine, place| {
        let folder = place.join("bound");
        mount_memory(&folder.join("below"));
        let plain = folder.display();
        let write = "for d in /m /m/below; do echo x 2>/dev/null > $d/x && echo $d; done; true";
        assert_eq!(shell(engine, &["-v", &format!("{plain}:/m:ro")], write), "");
        assert_eq!(shell(engine, &["-v", &format!("{plain}:/m")], write), "/m\n/m/below");
        let shared = place.join("shared");
        fs::create_dir(&shared).expect("a folder");
        rustix::mount::mount_bind(&shared, &shared).expect("a mount point");
        rustix::mount::mount_change(&shared, MountPropagationFlags::SHARED).expect("it is shared");
        for (name, mode) in [("slave", "rslave"), ("apart", "rprivate"), ("both", "rshared")] {
            let bind = format!("{}:/m:{mode}", shared.display());
            let words = ["run", "-d", "--privileged", "--name", name, "-v", &bind];
            printed(engine, &[&words[..], &["busybox", "sleep", "1000"]].concat());
        }
        mount_memory(&shared.join("late"));
        fs::write(shared.join("late/x"), "x").expect("a file");
        let sees = |name: &str, place: &str| {
            engine.bargee(&["exec", name, "test", "-e", place]).status.success()
        };
        assert!(sees("slave", "/m/late/x") && sees("both", "/m/late/x"));
        assert!(!sees("apart", "/m/late/x"));
        let mount = |name: &str, place: &str| {
            let line = format!(
                "mkdir /m/{place} && mount -t tmpfs none /m/{place} && echo x > /m/{place}/x"
            );
            printed(engine, &["exec", name, "sh", "-c", &line]);
        };
        mount("slave", "inner");
        mount("both", "outer");
        assert!(shared.join("outer/x").exists() && !shared.join("inner/x").exists());
    });
}

#[test]
fn a_user_is_found_by_name_in_the_image_with_all_groups() {
    with_engine(|engine| {
        let id = |options: &[&str]| shell(engine, options, "echo $(id -u) $(id -g) $(id -G) $HOME");
        assert_eq!(id(&["-u", "user"]), "1000 1000 1000 2000 /home");
        assert_eq!(id(&["-u", "user:extra"]), "1000 2000 2000 /home");
        assert_eq!(id(&["-u", "1000:7"]), "1000 7 7 /home");
        assert_eq!(id(&["-u", "4000"]), "4000 0 0 /");
        assert_eq!(id(&["-u", "user", "--group-add", "3000"]), "1000 1000 1000 2000 3000 /home");
        for unknown in ["nosuch", "user:nosuch"] {
            let why = refused(engine, &["run", "--rm", "-u", unknown, "busybox", "true"], 125);
            assert!(why.contains("no matching entries in"), "{why}");
        }
    });
}

#[test]
fn logs_are_rotated_and_read_as_one() {
    with_engine(|engine| {
        let options = ["--log-opt", "max-size=2k", "--log-opt", "max-file=3"];
        let line = ["busybox", "sh", "-c", "for n in $(seq 1 200); do echo line $n; done"];
        printed(engine, &[&["run", "--name", "talker"], &options[..], &line].concat());
        let path = printed(engine, &["inspect", "-f", "{{.LogPath}}", "talker"]);
        let name = Path::new(&path).file_name().expect("a name").to_string_lossy().into_owned();
        let folder = Path::new(&path).parent().expect("a folder");
        let files: Vec<_> = fs::read_dir(folder)
            .expect("the folder is there")
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&name))
            .collect();
        assert_eq!(files.len(), 3, "{files:?}");
        for file in &files {
            let length = file.metadata().expect("it is there").len();
            assert!(length <= 2_200, "{file:?} has {length} bytes");
        }
        let logs = printed(engine, &["logs", "talker"]);
        let numbers: Vec<u32> = logs
            .lines()
            .map(|line| line.trim_start_matches("line ").parse().expect("a number"))
            .collect();
        assert!(numbers.len() > 40 && numbers.len() < 100, "{} lines are left", numbers.len());
        let first = numbers[0];
        assert_eq!(numbers, (first..=200).collect::<Vec<_>>(), "no line is missing or twice");
        assert_eq!(printed(engine, &["logs", "--tail", "2", "talker"]), "line 199\nline 200");
    });
}

#[test]
fn a_signal_to_run_is_one_to_the_program_and_its_death_is_128_and_the_number() {
    with_engine(|engine| {
        let line = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
        let mut child = engine
            .command(&["run", "--rm", "--name", "one", "busybox", "sh", "-c", line])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("the binary starts");
        wait_for(PATIENCE, || {
            let logs = engine.bargee(&["logs", "one"]);
            text(&logs.stdout).contains("ready").then_some(())
        })
        .expect("it comes up");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let ended = wait_for(PATIENCE, || child.try_wait().expect("it can be waited for"));
        if ended.is_none() {
            child.kill().expect("it runs");
        }
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(
            (output.status.code(), text(&output.stdout).as_str()),
            (Some(9), "ready\ncaught")
        );
        for (signal, code) in [("TERM", 143), ("KILL", 137), ("HUP", 129)] {
            let line = format!("kill -{signal} $$");
            let words = ["run", "--rm", "--init", "busybox", "sh", "-c", &line];
            refused(engine, &words, code);
        }
    });
}

#[test]
fn every_exposed_port_is_published_by_p_and_host_mode_has_the_hosts_names() {
    with_engine(|engine| {
        let line = "echo web > /tmp/index.html; echo up; exec httpd -f -p 80 -h /tmp";
        let words =
            ["run", "-d", "--name", "web", "-P", "--expose", "80", "busybox", "sh", "-c", line];
        printed(engine, &words);
        let port = printed(engine, &["port", "web", "80"]);
        let port: u16 = port
            .lines()
            .next()
            .and_then(|line| line.rsplit(':').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no port in {port:?}"));
        let url = format!("http://127.0.0.1:{port}/index.html");
        let fetched = wait_for(PATIENCE, || {
            let output = engine.bargee(&[
                "run",
                "--rm",
                "--network",
                "host",
                "busybox",
                "wget",
                "-qO-",
                &url,
            ]);
            output.status.success().then(|| text(&output.stdout))
        });
        assert_eq!(fetched.as_deref(), Some("web"));
        let hosts = fs::read_to_string("/etc/hosts").expect("the host has names");
        let seen = shell(engine, &["--network", "host"], "cat /etc/hosts; hostname");
        let name = fs::read_to_string("/proc/sys/kernel/hostname").expect("the host has a name");
        assert_eq!(seen, format!("{}\n{}", hosts.trim_end(), name.trim_end()));
    });
}
