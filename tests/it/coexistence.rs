//! Other engines on the same machine: docker, and a second one of ours.
//!
//! Each test has a network namespace that plays host, so that it owns all packet rules there.

use std::process::Stdio;

use crate::support::docker::{Backend, DOCKER, Docker};
use crate::support::engine::{Engine, possible};
use crate::support::folder::text;
use crate::support::machines::{
    Machines, OUTSIDE, able, check, has_legacy, pid_of, rules, serve, with_busybox,
};
use crate::support::neighbour::{ask_from, on_a_host, run};

#[test]
fn a_docker_that_starts_after_us_and_we_leave_each_other_whole() {
    if !able(&DOCKER) {
        return;
    }
    on_a_host(|| {
        let machines = Machines::new();
        let engine = with_busybox();
        serve(&engine, "ours", 8081);
        check(&engine, &machines, "ours", 8081);
        machines.check_no_router();
        let docker = Docker::start();
        docker.serve("docker", 8082);
        docker.check(&machines, "docker", 8082);
        check(&engine, &machines, "ours", 8081);
        docker.check_apart(&engine);
        machines.check_no_router();
        // What lists docker's rules still can.
        assert!(run("iptables", &["-S", "FORWARD"]).contains("bargee"), "{}", rules());
        let taken = docker.try_run(&["run", "-d", "-p", "8081:80", "busybox", "true"]);
        let why = taken.expect_err("the port is ours");
        assert!(why.contains("address already in use"), "{why}");
        let taken = engine.bargee(&["run", "-d", "-p", "8082:80", "busybox", "true"]);
        let why = text(&taken.stderr);
        assert!(!taken.status.success() && why.contains("docker-proxy"), "{why}");
        // At our end docker's containers go on, and the host is no router yet.
        drop(engine);
        docker.check(&machines, "docker", 8082);
        machines.check_no_router();
        assert!(!rules().contains("bargee"), "{}", rules());
    });
}

#[test]
fn a_docker_that_was_there_before_us_and_we_leave_each_other_whole() {
    if !able(&DOCKER) {
        return;
    }
    on_a_host(|| {
        let machines = Machines::new();
        let docker = Docker::start();
        docker.serve("docker", 8082);
        let engine = with_busybox();
        serve(&engine, "ours", 8081);
        check(&engine, &machines, "ours", 8081);
        docker.check(&machines, "docker", 8082);
        docker.check_apart(&engine);
        machines.check_no_router();
        // Docker's restart writes its chains anew.
        drop(docker);
        check(&engine, &machines, "ours", 8081);
        let docker = Docker::start();
        docker.serve("docker", 8082);
        docker.check(&machines, "docker", 8082);
        check(&engine, &machines, "ours", 8081);
        drop(engine);
        docker.check(&machines, "docker", 8082);
        assert!(!rules().contains("bargee"), "{}", rules());
    });
}

#[test]
fn a_docker_on_iptables_legacy_and_we_leave_each_other_whole() {
    if !able(&["iptables-legacy"]) || !able(&DOCKER) {
        return;
    }
    on_a_host(|| {
        if !has_legacy() {
            return;
        }
        let machines = Machines::new();
        let docker = Docker::on(Backend::Legacy);
        docker.serve("docker", 8082);
        let engine = with_busybox();
        serve(&engine, "ours", 8081);
        check(&engine, &machines, "ours", 8081);
        docker.check(&machines, "docker", 8082);
        docker.check_apart(&engine);
        machines.check_no_router();
        drop(docker);
        check(&engine, &machines, "ours", 8081);
        drop(engine);
        let left = run("iptables-legacy", &["-S"]);
        assert!(!left.contains("bargee"), "{left}");
    });
}

#[test]
fn two_engines_share_a_machine_and_the_end_of_one_leaves_the_other_whole() {
    if !able(&["nft"]) {
        return;
    }
    on_a_host(|| {
        let machines = Machines::new();
        let (one, two) = (with_busybox(), with_busybox());
        serve(&one, "one", 8081);
        serve(&two, "two", 8082);
        check(&one, &machines, "one", 8081);
        check(&two, &machines, "two", 8082);
        machines.check_no_router();
        assert_ne!(subnet_of(&one, "bridge"), subnet_of(&two, "bridge"));
        let taken = two.bargee(&["run", "-d", "-p", "8081:80", "busybox", "true"]);
        let why = text(&taken.stderr);
        assert_eq!(taken.status.code(), Some(125), "{why}");
        assert!(why.contains("8081") && why.contains("bargee"), "{why}");
        drop(one);
        check(&two, &machines, "two", 8082);
        machines.check_no_router();
        drop(two);
        assert!(!rules().contains("bargee"), "{}", rules());
        let forward = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("a sysctl");
        assert_eq!(forward.trim(), "0");
    });
}

fn subnet_of(engine: &Engine, network: &str) -> String {
    let format = "{{range .IPAM.Config}}{{.Subnet}}{{end}}";
    let output = engine.bargee(&["network", "inspect", "-f", format, network]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

#[test]
fn engines_that_start_at_the_same_instant_choose_different_subnets() {
    if !able(&[]) {
        return;
    }
    on_a_host(|| {
        const ENGINES: usize = 4;
        let engines: Vec<Engine> = std::thread::scope(|scope| {
            // A thread is where its maker is, and so is its engine.
            let starts: Vec<_> = (0..ENGINES).map(|_| scope.spawn(Engine::start)).collect();
            starts.into_iter().map(|start| start.join().expect("it starts")).collect()
        });
        std::thread::scope(|scope| {
            for engine in &engines {
                scope.spawn(|| {
                    let made = engine.bargee(&["network", "create", "more"]);
                    assert!(made.status.success(), "{}", text(&made.stderr));
                });
            }
        });
        let all = engines.iter().flat_map(|engine| {
            ["bridge", "more"].into_iter().map(|network| subnet_of(engine, network))
        });
        let all: std::collections::BTreeSet<String> = all.collect();
        assert_eq!(all.len(), 2 * ENGINES, "{all:?}");
    });
}

#[test]
fn a_subnet_that_was_taken_while_no_engine_ran_is_left_to_who_has_it() {
    if !able(&[]) {
        return;
    }
    on_a_host(|| {
        let machines = Machines::new();
        let mut engine = with_busybox();
        let create = ["network", "create", "--subnet", "10.77.0.0/24", "chosen"];
        assert!(engine.bargee(&create).status.success());
        // One that has an address there, and does not run.
        let kept = engine.bargee(&["create", "--name", "kept", "busybox", "sleep", "1000"]);
        assert!(kept.status.success(), "{}", text(&kept.stderr));
        let before = subnet_of(&engine, "bridge");
        engine.stop();
        let address = before.replace(".0.0/16", ".0.9/16");
        run("ip", &["link", "add", "taken", "type", "bridge"]);
        run("ip", &["link", "set", "taken", "up"]);
        for address in [&address, "10.77.0.9/24"] {
            run("ip", &["addr", "add", address, "dev", "taken"]);
        }
        engine.launch();
        assert_ne!(subnet_of(&engine, "bridge"), before);
        assert_eq!(subnet_of(&engine, "chosen"), "10.77.0.0/24", "the user's word counts");
        let output = engine.bargee(&["start", "kept"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(ask_from(&pid_of(&engine, "kept"), OUTSIDE).as_deref(), Some("wan"));
        serve(&engine, "ours", 8081);
        check(&engine, &machines, "ours", 8081);
    });
}

#[test]
fn a_second_engine_on_one_root_says_who_has_it() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    let other = engine.folder().join("other-run");
    for run in [engine.run(), other] {
        let mut command = engine.command(&["engine", "--run"]);
        let output = command.arg(&run).stdin(Stdio::null()).output().expect("the binary starts");
        let why = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{why}");
        assert!(why.contains(&format!("pid {}", engine.pid())), "{why}");
        assert!(why.contains("engine stop"), "{why}");
    }
    assert_eq!(engine.client().get("/_ping").expect("it goes on").status, 200);
}
