//! `up` in the foreground: logs, what is told of restarts, and how it ends.

use std::process::Stdio;

use rustix::process::Signal;

use crate::support::engine::{Engine, PATIENCE, possible, wait_for};
use crate::support::folder::{Folder, text};
use crate::support::screen::colours;
use crate::support::terminal::Shown;

fn front(stack: &str) -> Option<(Engine, Folder)> {
    if !possible() {
        return None;
    }
    let engine = Engine::start();
    engine.load_busybox("busybox");
    Some((engine, Folder::new(stack)))
}

fn init(engine: &Engine, folder: &Folder, container: &str) -> rustix::process::Pid {
    let pid = folder.ok(engine, &["inspect", "-f", "{{.State.Pid}}", container]);
    let pid = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
    pid.expect("it runs")
}

#[test]
fn a_restart_is_told_with_its_reason() {
    let stack = "
name: front
services:
  crash: {image: busybox, command: [sh, -c, 'echo here; exec sleep 1000'], restart: always, init: true}
  ill:
    image: busybox
    command: [sh, -c, 'touch /well; exec sleep 1000']
    init: true
    stop_grace_period: 1s
    restart: always
    healthcheck: {test: [CMD, test, -e, /well], interval: 50ms, retries: 1}
";
    let Some((engine, folder)) = front(stack) else {
        return;
    };
    let shown = Shown::run(folder.command(&engine, &["up"]));
    shown.await_text("here");
    let crash = init(&engine, &folder, "front-crash-1");
    rustix::process::kill_process(crash, Signal::KILL).expect("it runs");
    shown.await_text("exited with code 137");
    shown.await_text("restarted: it exited with code 137");
    let healthy = wait_for(PATIENCE, || {
        let words = ["ps", "--stack", "front", "--format", "{{.Health}}", "ill"];
        (folder.ok(&engine, &words).trim() == "healthy").then_some(())
    });
    assert!(healthy.is_some(), "{}", engine.log());
    folder.ok(&engine, &["exec", "front-ill-1", "rm", "/well"]);
    shown.await_text("restarted: it was unhealthy");
    folder.ok(&engine, &["rm", "-f", "front-crash-1"]);
    shown.await_text("made anew: the container before it was removed");
    // The new container is followed too.
    let lines = wait_for(PATIENCE, || (shown.text().matches("here").count() >= 3).then_some(()));
    assert!(lines.is_some(), "{}", shown.text());
    shown.signal(Signal::INT);
    shown.ends_with(130);
    folder.ok(&engine, &["down"]);
}

#[test]
fn a_second_ctrl_c_kills_what_does_not_stop() {
    let stack = "
name: front
services:
  deaf: {image: busybox, command: [sh, -c, 'trap : TERM; echo deaf; while true; do sleep 0.1; done'], stop_grace_period: 10m}
";
    let Some((engine, folder)) = front(stack) else { return };
    let shown = Shown::run(folder.command(&engine, &["up"]));
    shown.await_text("\u{1b}[0mdeaf");
    shown.signal(Signal::INT);
    shown.await_text("Gracefully stopping");
    shown.await_text("stopping");
    shown.signal(Signal::INT);
    shown.ends_with(130);
    let state = folder
        .ok(&engine, &["ps", "--stack", "front", "-a", "--format", "{{.State}} {{.ExitCode}}"]);
    assert_eq!(state, "exited 137\n");
    folder.ok(&engine, &["down"]);
}

const TWO: &str = "
name: front
services:
  talk: {image: busybox, command: [sh, -c, 'for n in 1 2 3; do echo talk $$n; done; exec sleep 1000'], init: true, stop_grace_period: 1s}
  quiet: {image: busybox, command: [sh, -c, 'echo quiet; exec sleep 1000'], init: true, stop_grace_period: 1s, attach: false}
  job: {image: busybox, command: [sh, -c, 'echo job >&2; exit 4'], depends_on: [talk, quiet]}
";

#[test]
fn logs_have_names_and_colours_on_a_terminal_and_none_elsewhere() {
    let Some((engine, folder)) = front(TWO) else { return };
    let shown = Shown::run(folder.command(&engine, &["up"]));
    shown.await_text("talk 3");
    shown.await_text("exited with code 4");
    shown.signal(Signal::TERM);
    let seen = shown.ends_with(143);
    let coloured = |name: &str| {
        let at = seen.find(&format!("{name}-1 ")).expect("its lines have its name");
        seen[..at].ends_with('m')
    };
    assert!(coloured("talk") && coloured("job"), "{seen:?}");
    assert!(!seen.contains("quiet\r\n"), "a service is followed that does not want it: {seen}");

    // Away from a terminal, and with NO_COLOR on one.
    let words = ["up", "--abort-on-container-exit", "--exit-code-from", "job", "--attach", "quiet"];
    let plain = folder.run(&engine, &[&words[..], &["--attach", "job"]].concat());
    let said = text(&plain.stdout);
    assert_eq!(plain.status.code(), Some(4), "{said}{}", text(&plain.stderr));
    assert!(said.contains("quiet-1  | quiet\n") && said.contains("job-1    | job\n"), "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains("talk"), "{said}");
    let mut command = folder.command(&engine, &["up", "--no-attach", "quiet"]);
    command.env("NO_COLOR", "1");
    let shown = Shown::run(command);
    shown.await_text("talk 3");
    shown.signal(Signal::INT);
    let seen = shown.ends_with(130);
    assert!(!colours(&seen), "{seen:?}");

    let bare = folder
        .command(
            &engine,
            &["up", "--no-log-prefix", "--timestamps", "--abort-on-container-failure"],
        )
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let said = text(&bare.stdout);
    assert_eq!(bare.status.code(), Some(4), "{said}{}", text(&bare.stderr));
    let line = said.lines().find(|line| line.ends_with(" job")).expect("the job's line");
    assert!(line.starts_with("20") && !line.contains('|'), "{line}");
    folder.ok(&engine, &["down", "-t", "1"]);
}
