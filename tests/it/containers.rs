//! The life of containers on a real kernel, by the engine itself: each test has a root of its own and a network
//! namespace that plays host.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bargee::engine::config::Config;
use bargee::engine::containers::attach::Streams;
use bargee::engine::containers::create::CreateRequest;
use bargee::engine::containers::execs::ExecSpec;
use bargee::engine::containers::lifecycle::{By, StopOptions, WaitFor};
use bargee::engine::containers::remove::RemoveOptions;
use bargee::engine::events;
use bargee::engine::logs::Query;
use bargee::engine::paths::Paths;
use bargee::engine::state::containers::Phase;
use bargee::engine::{Engine, EngineError};
use bargee::images::ImportOptions;
use bargee::reconcile::observed::Health;
use bargee::runtime::shim::protocol::Exit;
use bargee::spec::container::{ContainerSpec, Healthcheck, NetworkMode, RestartPolicy};
use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::pace::slowed;

const PATIENCE: Duration = Duration::from_secs(20);

/// An engine in a folder of its own, with an image named `busybox`.
struct Host {
    folder: TempDir,
    engine: Option<Arc<Engine>>,
}

/// Runs a test where it may do no harm, or says why it can't.
fn on_a_host(test: impl AsyncFnOnce(&mut Host) + Send + 'static) {
    if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
        eprintln!("skipped: needs root and /bin/busybox");
        return;
    }
    // Threads that are made from here on, and processes of theirs, are in the namespace too.
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut host = Host::new().await;
            let outcome = AssertUnwindSafe(test(&mut host)).catch_unwind().await;
            // Also after a failure nothing may be left behind.
            host.clear().await;
            if let Err(panic) = outcome {
                std::panic::resume_unwind(panic);
            }
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Host {
    async fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let engine = open(folder.path()).await;
        let created = "2026-01-01T00:00:00Z".to_owned();
        let options = ImportOptions { created, ..ImportOptions::default() };
        let archive = busybox();
        engine.import_image(archive.as_slice(), &options, Some("busybox")).expect("an image");
        Self { folder, engine: Some(engine) }
    }

    fn engine(&self) -> &Arc<Engine> {
        self.engine.as_ref().expect("it is open")
    }

    async fn create(&self, change: impl FnOnce(&mut ContainerSpec)) -> String {
        let mut spec = ContainerSpec {
            image: "busybox".to_owned(),
            network_mode: NetworkMode::Host,
            stop_timeout: Some(10),
            ..ContainerSpec::default()
        };
        change(&mut spec);
        let request = CreateRequest { spec, ..CreateRequest::default() };
        self.engine().create_container(request).await.expect("it is created").id
    }

    /// Creates and starts a container that runs a line of shell.
    async fn run(&self, line: &str, change: impl FnOnce(&mut ContainerSpec)) -> String {
        let id = self
            .create(|spec| {
                spec.command = Some(shell(line));
                change(spec);
            })
            .await;
        self.engine().start_container(&id, By::User).await.expect("it starts");
        id
    }

    async fn wait(&self, id: &str, condition: WaitFor) -> Exit {
        let exit = self.engine().wait_container(id, condition).expect("it is there");
        in_time(exit).await.expect("it is waited for")
    }

    async fn logs(&self, id: &str, follow: bool) -> String {
        let query = Query { stdout: true, stderr: true, tail: None, since: None, until: None };
        let mut lines = self.engine().container_logs(id, query, follow).expect("a log");
        let mut text = String::new();
        while let Some(line) = in_time(lines.recv()).await {
            text.push_str(&line.expect("a line").log);
        }
        text
    }

    /// Waits until the program has written `up`.
    async fn up(&self, id: &str) {
        let start = Instant::now();
        while !self.logs(id, false).await.contains("up") {
            assert!(start.elapsed() < slowed(PATIENCE), "waited too long until it is up");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn phase(&self, id: &str) -> Phase {
        self.engine().container(id).expect("it is there").row().phase
    }

    fn shim_pid(&self, id: &str) -> i32 {
        let handle = self.engine().container(id).expect("it is there");
        handle.row().runtime.as_ref().expect("it ran").shim_pid
    }

    /// Actions told about a container so far.
    fn actions(&self, id: &str) -> Vec<String> {
        let query = events::Query { since: Some(0), ..events::Query::default() };
        let (past, _) = self.engine().subscribe(&query);
        let of_it = past.into_iter().filter(|event| event.actor.id == id);
        of_it.map(|event| event.action).collect()
    }

    async fn clear(&mut self) {
        if self.engine.is_none() {
            self.engine = Some(open(self.folder.path()).await);
        }
        for handle in self.engine().handles() {
            let options = RemoveOptions { force: true, volumes: true };
            self.engine().remove_container(handle.id(), options).await.expect("it is removed");
        }
    }
}

async fn open(folder: &Path) -> Arc<Engine> {
    let paths = Paths::new(folder.join("root"), folder.join("run"));
    let program = env!("CARGO_BIN_EXE_bargee").into();
    Engine::open_with_program(paths, Config::default(), program).await.expect("an engine")
}

/// Returns an archive of a root file system: busybox and its names.
fn busybox() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_path_with_name("/bin/busybox", "bin/busybox").expect("busybox is packed");
    for name in ["sh", "echo", "cat", "sleep", "id", "true", "false", "kill", "test"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive
            .append_link(&mut header, format!("bin/{name}"), "busybox")
            .expect("a link is packed");
    }
    let mut header = tar::Header::new_gnu();
    let passwd = b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nowhere:/bin/sh\n";
    header.set_size(passwd.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    archive.append_data(&mut header, "etc/passwd", passwd.as_slice()).expect("passwd is packed");
    archive.into_inner().expect("the archive is whole")
}

/// Tells whether the process is there and more than a zombie that this machine's init has not reaped.
fn is_alive(pid: i32, start_time: u64) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    fields[0] != "Z" && fields[19] == start_time.to_string()
}

fn shell(line: &str) -> Vec<String> {
    ["sh", "-c", line].map(str::to_owned).to_vec()
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(slowed(PATIENCE), work).await.expect("it takes too long")
}

/// Waits for a condition that no event tells.
async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let start = Instant::now();
    while !met() {
        assert!(start.elapsed() < slowed(PATIENCE), "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn a_container_runs_to_its_end_with_its_output_and_its_code() {
    on_a_host(async |host| {
        let id =
            host.create(|spec| spec.command = Some(shell("echo out; echo err >&2; exit 3"))).await;
        assert_eq!(host.phase(&id), Phase::Created);
        let exit = host.engine().wait_container(&id, WaitFor::NextExit).expect("it is there");
        host.engine().start_container(&id, By::User).await.expect("it starts");
        let exit = in_time(exit).await.expect("it ends");
        assert_eq!((exit.code, exit.oom), (3, false));
        let log = host.logs(&id, false).await;
        assert!(log.contains("out\n") && log.contains("err\n"), "{log}");
        until("its shim is told to go", || {
            host.actions(&id).last().is_some_and(|last| last == "die")
        })
        .await;
        assert_eq!(host.actions(&id), ["create", "start", "die"]);
        assert_eq!(host.wait(&id, WaitFor::NotRunning).await.code, 3);
    });
}

#[test]
fn a_program_that_is_missing_or_no_program_gives_dockers_codes() {
    on_a_host(async |host| {
        for (program, code, words) in [
            ("nothing", 127, "executable file not found in $path"),
            ("/etc/passwd", 126, "permission denied"),
        ] {
            let id = host.create(|spec| spec.command = Some(vec![program.to_owned()])).await;
            let error = host.engine().start_container(&id, By::User).await.unwrap_err();
            assert!(
                matches!(error, EngineError::Start { code: found, .. } if found == code),
                "{error:?}"
            );
            assert!(error.full().to_lowercase().contains(words), "{}", error.full());
            let row = host.engine().container(&id).expect("it is there").row();
            assert_eq!(
                (row.phase, row.exit.as_ref().map(|exit| exit.code)),
                (Phase::Created, Some(code))
            );
            assert!(row.error.is_some());
        }
    });
}

#[test]
fn a_stop_asks_first_and_kills_after_the_grace() {
    on_a_host(async |host| {
        let polite =
            host.run("trap 'exit 5' TERM; echo up; while :; do sleep 0.02; done", |_| {}).await;
        let deaf = host.run("trap '' TERM; echo up; while :; do sleep 0.02; done", |_| {}).await;
        for (id, grace, code) in [(&polite, 10, 5), (&deaf, 1, 137)] {
            host.up(id).await;
            let options = StopOptions { grace: Some(grace), ..StopOptions::default() };
            in_time(host.engine().stop_container(id, &options, By::User)).await.expect("it stops");
            assert_eq!(host.wait(id, WaitFor::NotRunning).await.code, code);
            assert!(host.engine().container(id).expect("it is there").row().stopped_by_user);
            let again = host.engine().stop_container(id, &options, By::User).await;
            assert!(matches!(again, Err(EngineError::NotModified { .. })));
        }
        assert_eq!(host.actions(&polite), ["create", "start", "kill", "die", "stop"]);
        assert_eq!(host.actions(&deaf), ["create", "start", "kill", "kill", "die", "stop"]);
    });
}

#[test]
fn a_kill_cuts_a_long_stop_short() {
    on_a_host(async |host| {
        let id = host.run("trap '' TERM; while :; do sleep 0.02; done", |_| {}).await;
        let (engine, word) = (Arc::clone(host.engine()), id.clone());
        let options = StopOptions { grace: Some(600), ..StopOptions::default() };
        let stop =
            tokio::spawn(async move { engine.stop_container(&word, &options, By::User).await });
        until("it is stopping", || host.phase(&id) == Phase::Stopping).await;
        host.engine().kill_container(&id, libc::SIGKILL).await.expect("it is killed");
        in_time(stop).await.expect("no panic").expect("it stops");
        assert_eq!(host.wait(&id, WaitFor::NotRunning).await.code, 137);
    });
}

#[test]
fn a_killed_container_starts_again_in_the_same_cgroup() {
    on_a_host(async |host| {
        let id = host.run("echo up; exec sleep 100", |_| {}).await;
        for round in 1..=2 {
            // With no grace the whole cgroup is killed, which some kernels hold against those that are born there.
            let options = StopOptions { grace: Some(0), ..StopOptions::default() };
            host.engine()
                .restart_container(&id, &options, By::User)
                .await
                .expect("it is restarted");
            let spec = ExecSpec { command: shell("exit 6"), ..ExecSpec::default() };
            let exec = host.engine().create_exec(&id, spec).await.expect("it runs");
            host.engine().start_exec(&exec, true, None).await.expect("it starts");
            let ended = || host.actions(&id).iter().filter(|action| *action == "exec_die").count();
            until("the exec has ended", || ended() == round).await;
            let view = host.engine().exec(&exec).await.expect("it is known");
            assert_eq!(view.exit_code, Some(6));
            assert_eq!(host.phase(&id), Phase::Running);
        }
    });
}

#[test]
fn a_crash_loop_is_restarted_by_the_same_shim_with_a_backoff_until_it_is_stopped() {
    on_a_host(async |host| {
        let id = host.run("exit 4", |spec| spec.restart = RestartPolicy::Always).await;
        let shim = host.shim_pid(&id);
        let row = || host.engine().container(&id).expect("it is there").row();
        until("it was restarted thrice", || row().restart_count >= 4).await;
        assert_eq!(host.shim_pid(&id), shim);
        until("it waits for its restart", || row().phase == Phase::Restarting).await;
        in_time(host.engine().stop_container(&id, &StopOptions::default(), By::User))
            .await
            .expect("it stops");
        assert_eq!(
            (row().phase, row().exit.as_ref().map(|exit| exit.code)),
            (Phase::Exited, Some(4))
        );
        let count = row().restart_count;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(row().restart_count, count, "it came back after a stop");
        host.engine().start_container(&id, By::User).await.expect("it starts");
        assert!(row().restart_count <= 1, "an explicit start counts anew");
    });
}

#[test]
fn a_failing_job_is_tried_as_often_as_it_may_and_a_good_one_once() {
    on_a_host(async |host| {
        let policy = RestartPolicy::OnFailure { max: 2 };
        let bad = host.run("exit 9", |spec| spec.restart = policy).await;
        let good = host.run("exit 0", |spec| spec.restart = policy).await;
        until("both rest", || [&bad, &good].iter().all(|id| host.phase(id) == Phase::Exited)).await;
        let count = |id| host.engine().container(id).expect("it is there").row().restart_count;
        assert_eq!((count(&bad), count(&good)), (2, 0));
    });
}

#[test]
fn an_exec_has_its_output_code_and_user() {
    on_a_host(async |host| {
        let id = host.run("sleep 100", |_| {}).await;
        let streams = Streams { stdin: true, stdout: true, stderr: true };
        let spec = ExecSpec {
            command: shell("read line; echo $line $VAR $HOME; id -u; exit 6"),
            env: vec!["VAR=value".to_owned()],
            user: Some("nobody".to_owned()),
            streams,
            ..ExecSpec::default()
        };
        let exec = host.engine().create_exec(&id, spec).await.expect("it is known");
        let attached = host.engine().start_exec(&exec, false, None).await.expect("it starts");
        let mut stream = attached.expect("it is attached").stream;
        stream.write_all(b"hello\n").await.expect("it listens");
        let mut output = Vec::new();
        in_time(stream.read_to_end(&mut output)).await.expect("its output");
        let output = String::from_utf8_lossy(&output);
        assert!(output.contains("hello value /nowhere") && output.contains("65534"), "{output}");
        let view = host.engine().exec(&exec).await.expect("it is known");
        assert_eq!((view.running, view.exit_code), (false, Some(6)));
        let again = host.engine().start_exec(&exec, false, None).await;
        assert!(matches!(again, Err(EngineError::Conflict { .. })));
        let missing = ExecSpec { command: vec!["nothing".to_owned()], ..ExecSpec::default() };
        let missing = host.engine().create_exec(&id, missing).await.expect("it is known");
        let error = host.engine().start_exec(&missing, true, None).await.unwrap_err();
        assert!(matches!(error, EngineError::Start { code: 127, .. }), "{error:?}");
    });
}

#[test]
fn a_client_that_attached_before_the_start_misses_nothing() {
    on_a_host(async |host| {
        let id = host
            .create(|spec| {
                spec.command = Some(shell("echo first; cat; echo last"));
                (spec.open_stdin, spec.stdin_once) = (true, true);
            })
            .await;
        let streams = Streams { stdin: true, stdout: true, stderr: true };
        let mut attached = host.engine().attach_container(&id, streams).await.expect("it attaches");
        host.engine().start_container(&id, By::User).await.expect("it starts");
        attached.stream.write_all(b"typed\n").await.expect("it listens");
        attached.stream.shutdown().await.expect("stdin ends");
        let mut output = Vec::new();
        in_time(attached.stream.read_to_end(&mut output)).await.expect("its output");
        let text: String =
            String::from_utf8_lossy(&output).chars().filter(|c| c.is_ascii_graphic()).collect();
        assert_eq!(text, "firsttypedlast");
        assert_eq!(host.logs(&id, false).await, "first\ntyped\nlast\n");
    });
}

#[test]
fn a_follower_of_the_log_gets_every_line_and_its_end() {
    on_a_host(async |host| {
        let line =
            "n=0; while [ $n -lt 300 ]; do echo line $n; n=$((n+1)); done; sleep 0.2; echo end";
        let id = host.run(line, |_| {}).await;
        let log = host.logs(&id, true).await;
        assert_eq!(log.lines().count(), 301, "{log}");
        assert!(log.ends_with("line 299\nend\n"));
    });
}

#[test]
fn a_container_dies_with_its_shim_and_is_healed_by_its_policy() {
    on_a_host(async |host| {
        let id = host.run("sleep 100", |spec| spec.restart = RestartPolicy::Always).await;
        let handle = host.engine().container(&id).expect("it is there");
        let before = handle.row().runtime.clone().expect("it runs");
        let exit = host.engine().wait_container(&id, WaitFor::NextExit).expect("it is there");
        let shim = rustix::process::Pid::from_raw(before.shim_pid).expect("a pid");
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).expect("it is killed");
        assert_eq!(in_time(exit).await.expect("it ends").code, 137);
        until("it runs again", || host.phase(&id) == Phase::Running).await;
        let after = handle.row().runtime.clone().expect("it runs");
        assert_ne!(after.shim_pid, before.shim_pid);
        assert!(!is_alive(before.pid, before.start_time), "its program outlived it");
    });
}

#[test]
fn the_next_engine_goes_on_with_what_runs_and_hears_of_what_ended() {
    on_a_host(async |host| {
        let long = host.run("sleep 100", |_| {}).await;
        let short = host.run("while ! test -e /go; do sleep 0.02; done; exit 8", |_| {}).await;
        let looping = host.run("exit 1", |spec| spec.restart = RestartPolicy::Always).await;
        let pid = |host: &Host, id: &str| {
            host.engine()
                .container(id)
                .expect("it is there")
                .row()
                .runtime
                .clone()
                .expect("it ran")
                .pid
        };
        let (first, root) = (pid(host, &long), pid(host, &short));
        let engine = host.engine.take().map(|engine| Arc::downgrade(&engine));
        until("the old engine goes", || {
            engine.as_ref().is_some_and(|engine| engine.strong_count() == 0)
        })
        .await;
        std::fs::write(format!("/proc/{root}/root/go"), "").expect("a file inside");
        until("it ended", || !Path::new(&format!("/proc/{root}/root/go")).exists()).await;
        host.engine = Some(open(host.folder.path()).await);
        assert_eq!((host.phase(&long), pid(host, &long)), (Phase::Running, first));
        assert_eq!(host.wait(&short, WaitFor::NotRunning).await.code, 8);
        let count = host.engine().container(&looping).expect("it is there").row().restart_count;
        until("the loop goes on", || {
            host.engine().container(&looping).expect("it is there").row().restart_count > count
        })
        .await;
        in_time(host.engine().stop_container(
            &long,
            &StopOptions { grace: Some(0), signal: None, drain: None },
            By::User,
        ))
        .await
        .expect("it obeys the new engine");
    });
}

#[test]
fn a_removal_after_the_exit_waits_for_nobody() {
    on_a_host(async |host| {
        let id = host.create(|spec| {
            spec.command = Some(shell("exit 2"));
            spec.auto_remove = true;
        });
        let id = id.await;
        let gone = host.engine().wait_container(&id, WaitFor::Removed).expect("it is there");
        host.engine().start_container(&id, By::User).await.expect("it starts");
        assert_eq!(in_time(gone).await.expect("it goes").code, 2);
        assert!(host.engine().container(&id).is_err());
    });
}

#[test]
fn health_follows_the_probes_and_a_hanging_one_is_killed() {
    on_a_host(async |host| {
        let check = |line: &str, timeout| Healthcheck {
            test: vec!["CMD-SHELL".to_owned(), line.to_owned()],
            interval: 50_000_000,
            timeout,
            retries: 2,
            ..Healthcheck::default()
        };
        let health = |host: &Host, id: &str| {
            let row = host.engine().container(id).expect("it is there").row();
            row.health.as_ref().map(|monitor| monitor.status())
        };
        let id = host
            .run("echo > /up; sleep 100", |spec| spec.healthcheck = Some(check("cat /up", 0)))
            .await;
        until("it is healthy", || health(host, &id) == Some(Health::Healthy)).await;
        let pid = host.engine().container(&id).expect("it is there").row().runtime.clone();
        let up = format!("/proc/{}/root/up", pid.expect("it runs").pid);
        std::fs::remove_file(up).expect("the file goes");
        until("it is unhealthy", || health(host, &id) == Some(Health::Unhealthy)).await;
        let actions = host.actions(&id);
        assert!(actions.contains(&"health_status: healthy".to_owned()), "{actions:?}");
        assert!(actions.contains(&"health_status: unhealthy".to_owned()), "{actions:?}");
        let hanging = host
            .run("sleep 100", |spec| spec.healthcheck = Some(check("sleep 99", 100_000_000)))
            .await;
        until("it is unhealthy", || health(host, &hanging) == Some(Health::Unhealthy)).await;
    });
}

#[test]
fn a_paused_container_stands_still_and_stops_all_the_same() {
    on_a_host(async |host| {
        let id =
            host.run("trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done", |_| {}).await;
        host.up(&id).await;
        host.engine().pause_container(&id).await.expect("it pauses");
        assert_eq!(host.phase(&id), Phase::Paused);
        let exec = ExecSpec { command: shell("true"), ..ExecSpec::default() };
        assert!(host.engine().create_exec(&id, exec).await.is_err());
        host.engine().unpause_container(&id).await.expect("it goes on");
        host.engine().pause_container(&id).await.expect("it pauses");
        in_time(host.engine().stop_container(&id, &StopOptions::default(), By::User))
            .await
            .expect("it stops");
        assert_eq!(host.wait(&id, WaitFor::NotRunning).await.code, 0);
    });
}

#[test]
fn what_runs_inside_can_be_listed_and_measured() {
    on_a_host(async |host| {
        let id = host.run("sleep 100 & sleep 100", |_| {}).await;
        until("both sleep", || host.engine().container_stats(&id).expect("numbers").pids >= 2)
            .await;
        let top = host.engine().container_top(&id, &[]).await.expect("a list");
        assert!(top.titles.contains(&"PID".to_owned()));
        assert!(
            top.processes
                .iter()
                .any(|row| row.last().is_some_and(|last| last.contains("sleep 100")))
        );
    });
}
