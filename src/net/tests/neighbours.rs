//! Other machines beside the host, and firewalls of other programs on it.

use super::*;

/// Runs nft(8) on a script; `None` says that it is not installed.
fn nft(script: &str) -> Option<String> {
    let output = std::process::Command::new("nft").arg(script).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_firewall_that_drops_by_policy_lets_containers_through_once_it_is_opened() {
    throwaway::host(async || {
        let mut machine =
            Machine::with(&[("front", "10.91.0.0/24", false), ("back", "10.92.0.0/24", false)])
                .await;
        machine.join("a", "front", "10.91.0.2/24").await;
        machine.join("c", "back", "10.92.0.2/24").await;
        machine.serve("a", "a").await;
        machine.publish("0.0.0.0:8080", &["10.91.0.2:80"]);
        // As dockerd leaves them.
        let drops = "table ip filter {
            chain DOCKER-USER { counter return; }
            chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; }
        }";
        if nft(drops).is_some() {
            assert!(machine.is_closed("c", "10.92.0.1:8080").await, "the firewall drops");
            machine.driver.open_firewall().await.unwrap();
            assert_eq!(machine.ask_from("c", "10.92.0.1:8080").await.as_deref(), Some("a"));
            assert!(machine.is_closed("c", "10.91.0.2:80").await, "isolation stays");
            nft("flush chain ip filter DOCKER-USER");
            assert!(machine.is_closed("c", "10.92.0.1:8080").await);
            let others = machine.driver.look_after_rules(Change::Others);
            assert!(!others.is_touched, "our own table is whole");
            assert_eq!(machine.ask_from("c", "10.92.0.1:8080").await.as_deref(), Some("a"));
            nft("flush ruleset");
            assert!(machine.driver.look_after_rules(Change::Ours).is_touched);
            nft(
                "table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }",
            );
            machine.driver.publish(&machine.state).unwrap();
            assert!(!machine.driver.look_after_rules(Change::Others).is_touched);
            assert_eq!(machine.ask_from("c", "10.92.0.1:8080").await.as_deref(), Some("a"));
        }
        machine.end().await;
        let left = nft("list ruleset").unwrap_or_default();
        assert!(!left.contains("bargee"), "{left}");
    });
}

/// Two machines beside the host, a container that is published, and whether the machines reach each other through it.
async fn between_neighbours(before: &'static str) -> (Machine, bool) {
    netlink::write_sysctl("ipv4/ip_forward", before).unwrap();
    let mut machine = Machine::with(&[("front", "10.91.0.0/24", false)]).await;
    machine.neighbour("left", "10.81.0.0/24").await;
    machine.neighbour("right", "10.82.0.0/24").await;
    machine.uplink("right", "10.82.0.2").await;
    machine.join("a", "front", "10.91.0.2/24").await;
    machine.serve("a", "a").await;
    machine.serve("right", "right").await;
    machine.publish("0.0.0.0:8080", &["10.91.0.2:80"]);
    let published = machine.ask_from("left", "10.81.0.1:8080").await;
    assert_eq!(published.as_deref(), Some("a"), "a published port answers to neighbours");
    let outside = machine.ask_from("a", "10.82.0.2:80").await;
    assert_eq!(outside.as_deref(), Some("right"), "a container reaches the outside");
    assert!(machine.is_closed("left", "10.91.0.2:80").await, "what is not published is closed");
    let reached = !machine.is_closed("left", "10.82.0.2:80").await;
    (machine, reached)
}

fn forwarding_is_on() -> bool {
    netlink::read_sysctl("ipv4/ip_forward").unwrap().trim() == "1"
}

#[test]
fn the_host_becomes_no_router_by_our_turning_forwarding_on() {
    throwaway::host(async || {
        let (machine, reached) = between_neighbours("0").await;
        assert!(!reached, "neighbours reach each other through the host");
        // The next engine still knows.
        let folder = tempfile::tempdir().unwrap();
        let next = Driver::open("test", folder.path()).unwrap();
        next.open_firewall().await.unwrap();
        crate::net::nft::apply::remove("bargee-forwarding4").unwrap();
        assert!(machine.ask_from("left", "10.82.0.2:80").await.is_some(), "nothing else closes");
        next.look_after_rules(Change::Others).opened.unwrap();
        assert!(machine.is_closed("left", "10.82.0.2:80").await);
        // Of two roots the last one gives it back.
        let mut other = machine.state.networks["front"].clone();
        other.bridge = "other-root".to_owned();
        other.subnets[0] = SubnetConfig {
            subnet: "10.93.0.0/24".parse().unwrap(),
            gateway: "10.93.0.1".parse().unwrap(),
        };
        next.create_network(&other).await.unwrap();
        for name in ["left", "right"] {
            machine.driver.remove_sandbox(name).unwrap();
        }
        machine.end().await;
        assert!(forwarding_is_on());
        next.remove_network(&other.id).await.unwrap();
        assert!(!forwarding_is_on());
        assert_eq!(crate::net::hooks::own_rules("bargee-forwarding4", "forward").unwrap(), None);
    });
}

#[test]
fn a_router_stays_one() {
    throwaway::host(async || {
        let (machine, reached) = between_neighbours("1").await;
        assert!(reached, "a router forwards");
        for name in ["left", "right"] {
            machine.driver.remove_sandbox(name).unwrap();
        }
        machine.end().await;
        assert!(forwarding_is_on());
    });
}

#[test]
fn a_host_that_forwards_ipv6_still_hears_its_router_and_never_a_container() {
    throwaway::host(async || {
        let handle = netlink::connect().unwrap();
        for (name, accept) in [("uplink", "1"), ("deaf", "0")] {
            let link = rtnetlink::LinkBridge::new(name).up().build();
            handle.link().add(link).execute().await.unwrap();
            netlink::write_sysctl(&format!("ipv6/conf/{name}/accept_ra"), accept).unwrap();
        }
        let machine =
            Machine::with(&[("four", "10.91.0.0/24", false), ("six", "fd91::/64", false)]).await;
        let accept = |link: &str| {
            netlink::read_sysctl(&format!("ipv6/conf/{link}/accept_ra")).unwrap().trim().to_owned()
        };
        assert_eq!(netlink::read_sysctl("ipv6/conf/all/forwarding").unwrap().trim(), "1");
        assert_eq!((accept("uplink"), accept("deaf")), ("2".to_owned(), "0".to_owned()));
        for id in ["four", "six"] {
            assert_eq!(accept(&machine.state.networks[id].bridge), "0", "{id}");
        }
        // One that the user set by hand meanwhile stays.
        netlink::write_sysctl("ipv6/conf/deaf/accept_ra", "2").unwrap();
        // Whichever root goes last knows what the first one changed.
        let folder = tempfile::tempdir().unwrap();
        let other = Driver::open("other", folder.path()).unwrap();
        let mut network = machine.state.networks["six"].clone();
        network.bridge = "other-root".to_owned();
        network.subnets[0] = SubnetConfig {
            subnet: "fd92::/64".parse().unwrap(),
            gateway: "fd92::1".parse().unwrap(),
        };
        other.create_network(&network).await.unwrap();
        machine.end().await;
        assert_eq!(netlink::read_sysctl("ipv6/conf/all/forwarding").unwrap().trim(), "1");
        other.remove_network(&network.id).await.unwrap();
        assert_eq!(netlink::read_sysctl("ipv6/conf/all/forwarding").unwrap().trim(), "0");
        assert_eq!((accept("uplink"), accept("deaf")), ("1".to_owned(), "2".to_owned()));
    });
}

/// What docker leaves where it finds forwarding on, with the bridge `lan-left` as its own.
const DOCKER_AFTER_US: &str = "table ip filter {
    chain DOCKER-USER { counter return; }
    chain FORWARD {
        type filter hook forward priority filter; policy accept;
        jump DOCKER-USER
        iifname lan-left counter accept
        oifname lan-left ct state related,established counter accept
    }
}";

#[test]
fn a_docker_that_comes_later_forwards_and_the_host_is_no_router_all_the_same() {
    throwaway::host(async || {
        let (machine, reached) = between_neighbours("0").await;
        assert!(!reached, "neighbours reach each other through the host");
        machine.driver.open_firewall().await.unwrap();
        if nft(DOCKER_AFTER_US).is_some() {
            assert!(machine.is_closed("left", "10.82.0.2:80").await);
            machine.driver.look_after_rules(Change::Others).opened.unwrap();
            let outside = machine.ask_from("left", "10.82.0.2:80").await;
            assert_eq!(outside.as_deref(), Some("right"), "docker's containers reach the outside");
            machine.serve("left", "left").await;
            assert!(machine.is_closed("right", "10.81.0.2:80").await, "nothing else is routed");
            let ours = machine.ask_from("a", "10.82.0.2:80").await;
            assert_eq!(ours.as_deref(), Some("right"), "and so do ours");
            // A rule that is appended later counts too.
            nft("add rule ip filter FORWARD iifname lan-right counter accept");
            assert!(machine.is_closed("right", "10.81.0.2:80").await);
            machine.driver.look_after_rules(Change::Others).opened.unwrap();
            assert_eq!(machine.ask_from("right", "10.81.0.2:80").await.as_deref(), Some("left"));
            nft("flush ruleset");
            assert!(machine.ask_from("right", "10.81.0.2:80").await.is_some(), "all is open");
            assert!(machine.driver.look_after_rules(Change::Ours).is_touched);
            machine.driver.publish(&machine.state).unwrap();
            assert!(machine.is_closed("right", "10.81.0.2:80").await, "our table closes again");
            assert!(machine.is_closed("left", "10.82.0.2:80").await);
        }
        for name in ["left", "right"] {
            machine.driver.remove_sandbox(name).unwrap();
        }
        machine.end().await;
        let left = nft("list ruleset").unwrap_or_default();
        assert!(!left.contains("bargee"), "{left}");
    });
}

#[test]
fn who_came_later_keeps_forwarding_when_we_go_and_is_closed_as_if_it_had_come_first() {
    throwaway::host(async || {
        let (machine, _) = between_neighbours("0").await;
        machine.driver.open_firewall().await.unwrap();
        let Some(_) = nft(DOCKER_AFTER_US) else { return };
        machine.driver.look_after_rules(Change::Others).opened.unwrap();
        let folder = machine.end_but_neighbours().await;
        assert!(forwarding_is_on());
        let left = nft("list ruleset").unwrap();
        assert!(!left.contains("bargee"), "{left}");
        assert!(left.contains("hook forward priority filter; policy drop;"), "{left}");
        // And the next engine finds a router that is not of its making.
        let next = Driver::open("test", folder.path()).unwrap();
        next.open_firewall().await.unwrap();
        assert_eq!(crate::net::hooks::own_rules("bargee-forwarding4", "forward").unwrap(), None);
        next.remove_rules().unwrap();
    });
}

#[test]
fn what_was_flushed_while_no_engine_ran_is_closed_again_by_the_next_one() {
    throwaway::host(async || {
        let (machine, _) = between_neighbours("0").await;
        for flushed in ["flush ruleset", "delete table inet bargee-forwarding4"] {
            if nft(flushed).is_none() {
                return;
            }
            assert!(!machine.is_closed("left", "10.82.0.2:80").await, "the host is a router");
            let next = Driver::open("test", machine.folder.path()).unwrap();
            next.open_firewall().await.unwrap();
            assert!(machine.is_closed("left", "10.82.0.2:80").await);
        }
        // What is of another boot or namespace says nothing.
        let record = machine.folder.path().join("forwarding.json");
        let text = std::fs::read_to_string(&record).unwrap();
        let other = tempfile::tempdir().unwrap();
        std::fs::write(
            other.path().join("forwarding.json"),
            text.replace("boot\":\"", "boot\":\"x"),
        )
        .unwrap();
        nft("flush ruleset");
        let stranger = Driver::open("other", other.path()).unwrap();
        stranger.open_firewall().await.unwrap();
        assert!(!machine.is_closed("left", "10.82.0.2:80").await);
        stranger.remove_rules().unwrap();
        // The last bridge's end turns it off all the same.
        let next = Driver::open("test", machine.folder.path()).unwrap();
        next.apply_networks(&machine.state.networks).await.unwrap();
        next.open_firewall().await.unwrap();
        for name in ["left", "right"] {
            machine.driver.remove_sandbox(name).unwrap();
        }
        let folder = machine.end_but_neighbours().await;
        assert!(!forwarding_is_on());
        assert!(!record.exists(), "{}", folder.path().display());
    });
}

#[test]
fn a_firewall_that_closes_is_opened_for_containers_alone() {
    let firewalls = [
        // By its policy.
        "table inet mine { chain forward {
            type filter hook forward priority filter; policy drop; iifname lan-left drop; }; }",
        // By its last rule, as firewalld does.
        "table inet firewalld {
            chain zones { reject; }
            chain filter_FORWARD {
                type filter hook forward priority filter + 10; policy accept;
                ct state related,established accept
                iifname lan-left drop
                jump zones
                reject with icmpx admin-prohibited
            }
        }",
    ];
    for firewall in firewalls {
        throwaway::host(async move || {
            netlink::write_sysctl("ipv4/ip_forward", "0").unwrap();
            let mut machine = Machine::with(&[("front", "10.91.0.0/24", false)]).await;
            machine.neighbour("left", "10.81.0.0/24").await;
            machine.neighbour("right", "10.82.0.0/24").await;
            machine.uplink("right", "10.82.0.2").await;
            machine.join("a", "front", "10.91.0.2/24").await;
            for name in ["a", "left", "right"] {
                machine.serve(name, "served").await;
            }
            machine.publish("0.0.0.0:8080", &["10.91.0.2:80"]);
            if nft(firewall).is_none() {
                return;
            }
            assert!(machine.is_closed("a", "10.82.0.2:80").await, "the firewall closes");
            machine.driver.open_firewall().await.unwrap();
            let served = Some("served");
            assert_eq!(machine.ask_from("a", "10.82.0.2:80").await.as_deref(), served);
            assert_eq!(machine.ask_from("right", "10.82.0.1:8080").await.as_deref(), served);
            let closed = machine.is_closed("a", "10.81.0.2:80").await;
            assert!(closed, "what is behind a bridge of others is theirs to open");
            let closed = machine.is_closed("left", "10.81.0.1:8080").await;
            assert!(closed, "what the user's own rule closed stays closed");
            assert!(machine.is_closed("left", "10.82.0.2:80").await, "the host is no router");
            for name in ["left", "right"] {
                machine.driver.remove_sandbox(name).unwrap();
            }
            machine.end().await;
            let left = nft("list ruleset").unwrap();
            assert!(!left.contains("bargee"), "{left}");
        });
    }
}
