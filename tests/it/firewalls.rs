//! Firewalls of other programs: a user's own rules, iptables of both kinds, ufw, firewalld, libvirt.
//!
//! Each test has a network namespace that plays host, so that it owns all packet rules there.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::engine::{PATIENCE, wait_for};
use crate::support::folder::text;
use crate::support::machines::{
    HOST, Machines, OUTSIDE, Program, REPAIR, able, check, has_legacy, mount_memory, pid_of, rules,
    serve, until_repaired, with_busybox,
};
use crate::support::neighbour::{Neighbour, is_closed_from, on_a_host, run};

#[test]
fn rules_of_iptables_legacy_that_close_are_opened_once_a_device_tells_of_their_program() {
    if !able(&["iptables-legacy", "nft"]) {
        return;
    }
    on_a_host(|| {
        if !has_legacy() {
            return;
        }
        let machines = Machines::new();
        let engine = with_busybox();
        serve(&engine, "ours", 8081);
        for commands in [
            [vec!["-F"], vec!["-P", "FORWARD", "DROP"]],
            [vec!["-F"], vec!["-A", "FORWARD", "-j", "REJECT"]],
        ] {
            // The engine may be looking because of the last bridge still.
            let closed = wait_for(REPAIR, || {
                for command in &commands {
                    run("iptables-legacy", command);
                }
                machines.wan.is_closed(&format!("{HOST}:8081")).then_some(())
            });
            assert!(closed.is_some(), "nothing closes");
            // These rules tell nobody that they changed, a new bridge does.
            run("ip", &["link", "add", "br-new", "type", "bridge"]);
            until_repaired(&engine, &machines, "ours", 8081);
            machines.check_no_router();
            run("ip", &["link", "del", "br-new"]);
        }
        drop(engine);
        let left = run("iptables-legacy", &["-S"]);
        assert!(!left.contains("bargee") && left.contains("REJECT"), "{left}");
    });
}

#[test]
fn a_table_that_only_its_owner_may_change_is_named_with_what_to_do() {
    if !able(&["nft"]) {
        return;
    }
    on_a_host(|| {
        let machines = Machines::new();
        let engine = with_busybox();
        serve(&engine, "ours", 8081);
        // It owns the table as long as it lives, as firewalld does from 2.1 on.
        let mut owner = Command::new("nft");
        owner.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut owner = Program(owner.spawn().expect("nft starts"));
        let rules = "table inet theirs { flags owner; chain f { type filter hook forward priority 10; \
                     policy drop; }; }\n";
        let input = owner.0.stdin.as_mut().expect("it is piped");
        input.write_all(rules.as_bytes()).expect("it reads");
        let warned = wait_for(REPAIR, || {
            let told = text(&engine.bargee(&["ps"]).stderr);
            told.contains("table theirs").then_some(told)
        });
        let warned = warned.unwrap_or_else(|| panic!("nobody is told:\n{}", engine.log()));
        assert!(warned.contains("NftablesTableOwner=no"), "{warned}");
        assert!(text(&engine.bargee(&["info"]).stdout).contains("table theirs"));
        drop(owner);
        until_repaired(&engine, &machines, "ours", 8081);
        // The kernel tells nobody of that table's end.
        run("nft", &["add table ip another"]);
        wait_for(REPAIR, || engine.bargee(&["ps"]).stderr.is_empty().then_some(()))
            .unwrap_or_else(|| panic!("it is told still:\n{}", engine.log()));
    });
}

/// What libvirt does for a network of virtual machines: by iptables, and by nftables from 10.4 on.
const LIBVIRT_IPTABLES: &str = "
iptables -N LIBVIRT_FWI
iptables -N LIBVIRT_FWO
iptables -I FORWARD -j LIBVIRT_FWI
iptables -I FORWARD -j LIBVIRT_FWO
iptables -A LIBVIRT_FWO -s 203.0.113.0/24 -i virbr7 -j ACCEPT
iptables -A LIBVIRT_FWI -d 203.0.113.0/24 -o virbr7 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A LIBVIRT_FWI -o virbr7 -j REJECT";
const LIBVIRT_NFTABLES: &str = "table ip libvirt_network {
    chain guest_input {
        oifname virbr7 ip daddr 203.0.113.0/24 ct state established,related accept
        oifname virbr7 reject
    }
    chain forward { type filter hook forward priority filter; policy accept; jump guest_input; }
}";

#[test]
fn virtual_machines_behind_rules_of_libvirt_stay_closed_and_reach_published_ports() {
    if !able(&["iptables", "nft"]) {
        return;
    }
    for by_iptables in [true, false] {
        on_a_host(move || {
            let machines = Machines::new();
            let engine = with_busybox();
            serve(&engine, "ours", 8081);
            // The machine's link is a port of a bridge, which has the host's address.
            let machine = Neighbour::new("vnet7", "203.0.113");
            let ip = |words: &str| run("ip", &words.split(' ').collect::<Vec<_>>());
            for words in [
                "link add virbr7 type bridge",
                "addr del 203.0.113.1/24 dev vnet7",
                "link set vnet7 master virbr7",
                "addr add 203.0.113.1/24 dev virbr7",
                "link set virbr7 up",
            ] {
                ip(words);
            }
            match by_iptables {
                true => {
                    for line in LIBVIRT_IPTABLES.lines().filter(|line| !line.is_empty()) {
                        let words: Vec<&str> = line.split(' ').collect();
                        run(words[0], &words[1..]);
                    }
                }
                false => drop(run("nft", &[LIBVIRT_NFTABLES])),
            }
            let pid = pid_of(&engine, "ours");
            let closed = wait_for(REPAIR, || is_closed_from(&pid, "203.0.113.2:80").then_some(()));
            assert!(closed.is_some(), "the machine is open:\n{}", rules());
            check(&engine, &machines, "ours", 8081);
            let answer = wait_for(REPAIR, || machine.ask("203.0.113.1:8081"));
            assert_eq!(answer.as_deref(), Some("ours"), "{}", rules());
            machines.check_no_router();
        });
    }
}

#[test]
fn flushed_rules_and_a_drop_by_policy_are_repaired_while_containers_run() {
    if !able(&["nft", "iptables"]) {
        return;
    }
    on_a_host(|| {
        let machines = Machines::new();
        let engine = with_busybox();
        serve(&engine, "ours", 8081);
        check(&engine, &machines, "ours", 8081);
        let changes: [&[&[&str]]; 6] = [
            &[&["iptables", "-P", "FORWARD", "DROP"]],
            &[&["iptables", "-F"]],
            &[&["nft", "flush", "ruleset"]],
            &[&[
                "nft",
                "table ip mine { chain f { type filter hook forward priority 0; policy drop; }; }",
            ]],
            &[&["nft", "flush", "ruleset"], &["iptables", "-P", "FORWARD", "DROP"]],
            &[
                &["iptables", "-A", "FORWARD", "-j", "REJECT"],
                &["iptables", "-P", "FORWARD", "ACCEPT"],
            ],
        ];
        for commands in changes {
            for command in commands {
                run(command[0], &command[1..]);
            }
            until_repaired(&engine, &machines, "ours", 8081);
            let closed = wait_for(REPAIR, || machines.lan.is_closed(OUTSIDE).then_some(()));
            assert!(closed.is_some(), "{commands:?}: the host routes:\n{}", rules());
        }
        drop(engine);
        assert!(!rules().contains("bargee"), "{}", rules());
        let forward = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("a sysctl");
        assert_eq!(forward.trim(), "0");
    });
}

#[test]
fn rules_flushed_while_the_engine_is_down_are_as_before_when_it_is_back() {
    if !able(&["nft"]) {
        return;
    }
    on_a_host(|| {
        let machines = Machines::new();
        let mut engine = with_busybox();
        serve(&engine, "ours", 8081);
        check(&engine, &machines, "ours", 8081);
        engine.kill();
        run("nft", &["flush", "ruleset"]);
        assert!(!machines.lan.is_closed(OUTSIDE), "nothing closes");
        engine.launch();
        check(&engine, &machines, "ours", 8081);
        machines.check_no_router();
    });
}

#[test]
fn under_ufw_published_ports_answer_and_containers_reach_the_outside() {
    if !able(&["ufw", "iptables", "nft"]) {
        return;
    }
    on_a_host(|| {
        // ufw keeps its settings and its lock where the host's own may be.
        let folder = tempfile::tempdir().expect("a folder");
        let settings = folder.path().join("ufw");
        run("cp", &["-a", "/etc/ufw", &settings.display().to_string()]);
        rustix::mount::mount_bind(&settings, "/etc/ufw").expect("a bind mount");
        mount_memory("/run");
        let machines = Machines::new();
        let engine = with_busybox();
        serve(&engine, "ours", 8081);
        run("ufw", &["--force", "enable"]);
        until_repaired(&engine, &machines, "ours", 8081);
        machines.check_no_router();
        run("ufw", &["reload"]);
        until_repaired(&engine, &machines, "ours", 8081);
        assert!(run("ufw", &["status", "verbose"]).contains("deny (routed)"));
        run("ufw", &["disable"]);
        until_repaired(&engine, &machines, "ours", 8081);
        let closed = wait_for(REPAIR, || machines.lan.is_closed(OUTSIDE).then_some(()));
        assert!(closed.is_some(), "the host routes:\n{}", rules());
    });
}

#[test]
fn under_firewalld_published_ports_answer_and_containers_reach_the_outside() {
    if !able(&["firewalld", "firewall-cmd", "dbus-daemon", "nft"]) {
        return;
    }
    on_a_host(|| {
        // Its bus, and files that the host's own may have.
        mount_memory("/run");
        std::fs::create_dir("/run/dbus").expect("a folder");
        let machines = Machines::new();
        let engine = with_busybox();
        serve(&engine, "ours", 8081);
        let address = "--address=unix:path=/run/dbus/system_bus_socket";
        let _bus = Program::start("dbus-daemon", &["--system", "--nofork", "--nopidfile", address]);
        let bus = Path::new("/run/dbus/system_bus_socket");
        wait_for(PATIENCE, || bus.exists().then_some(())).expect("a bus");
        let _firewalld = Program::start("firewalld", &["--nofork", "--nopid"]);
        let is_up = || {
            let state = Command::new("firewall-cmd").arg("--state").output();
            state.is_ok_and(|output| output.status.success()).then_some(())
        };
        wait_for(PATIENCE, is_up).expect("firewalld comes up");
        until_repaired(&engine, &machines, "ours", 8081);
        machines.check_no_router();
        run("firewall-cmd", &["--reload"]);
        until_repaired(&engine, &machines, "ours", 8081);
        machines.check_no_router();
    });
}
