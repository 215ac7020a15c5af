//! Networks on the real kernel: a fresh namespace plays host, sandboxes talk to each other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::Driver;
use super::driver::DefaultRoute;
use super::model::{
    self, EndpointConfig, NetworkConfig, Protocol, Publication, State, SubnetConfig,
};
use super::netlink::{self, NetlinkError, throwaway};
use super::nft::watch::Change;

struct Machine {
    driver: Driver,
    state: State,
    folder: tempfile::TempDir,
}

impl Machine {
    async fn with(networks: &[(&str, &str, bool)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let driver = Driver::open("test", folder.path()).unwrap();
        let mut state = State::default();
        for (id, subnet, internal) in networks {
            let subnet: ipnet::IpNet = subnet.parse().unwrap();
            let gateway = subnet.hosts().next().unwrap();
            let network = NetworkConfig {
                id: (*id).to_owned(),
                name: (*id).to_owned(),
                bridge: model::bridge_name("test", id),
                subnets: vec![SubnetConfig { subnet, gateway }],
                internal: *internal,
                ipv6: gateway.is_ipv6(),
                masquerade: true,
                mtu: 1500,
            };
            state.networks.insert((*id).to_owned(), network);
        }
        driver.apply_networks(&state.networks).await.unwrap();
        driver.publish(&state).unwrap();
        Machine { driver, state, folder }
    }

    async fn join(&mut self, container: &str, network: &str, address: &str) {
        let endpoint = EndpointConfig {
            container: container.to_owned(),
            network: network.to_owned(),
            addresses: vec![address.parse().unwrap()],
            mac: None,
            aliases: Vec::new(),
            names: vec![container.to_owned()],
        };
        self.driver.create_sandbox(container).await.unwrap();
        self.driver.connect(&endpoint, "eth0", DefaultRoute::Here).await.unwrap();
        self.state.endpoints.push(endpoint);
    }

    fn publish(&mut self, host: &str, backends: &[&str]) {
        let host: SocketAddr = host.parse().unwrap();
        self.state.publications = vec![Publication {
            host_ip: host.ip(),
            host_port: host.port(),
            protocol: Protocol::Tcp,
            backends: backends.iter().map(|backend| backend.parse().unwrap()).collect(),
        }];
        self.driver.publish(&self.state).unwrap();
    }

    /// Serves `word` on port 80 of a container to every client.
    async fn serve(&self, container: &str, word: &'static str) {
        let path = self.driver.sandbox_path(container);
        let listen = async || Ok::<_, NetlinkError>(TcpListener::bind("[::]:80").unwrap());
        let listener = netlink::inside(&path, listen).await.unwrap();
        std::thread::spawn(move || {
            while let Ok((mut client, _)) = listener.accept() {
                drop(client.write_all(word.as_bytes()));
            }
        });
    }

    /// Connects a namespace that is no container by a bridge that is none of ours; its address ends with 2.
    async fn neighbour(&self, name: &str, subnet: &str) {
        let handle = netlink::connect().unwrap();
        let subnet: ipnet::IpNet = subnet.parse().unwrap();
        let gateway = subnet.hosts().next().unwrap();
        let link = rtnetlink::LinkBridge::new(&format!("lan-{name}")).up().build();
        handle.link().add(link).execute().await.unwrap();
        let index = netlink::link_index(&handle, &format!("lan-{name}")).await.unwrap();
        handle.address().add(index, gateway, subnet.prefix_len()).execute().await.unwrap();
        let network = NetworkConfig {
            id: name.to_owned(),
            name: name.to_owned(),
            bridge: format!("lan-{name}"),
            subnets: vec![SubnetConfig { subnet, gateway }],
            internal: false,
            ipv6: false,
            masquerade: false,
            mtu: 1500,
        };
        let address = subnet.hosts().nth(1).unwrap();
        let endpoint = EndpointConfig {
            container: name.to_owned(),
            network: name.to_owned(),
            addresses: vec![ipnet::IpNet::new(address, subnet.prefix_len()).unwrap()],
            mac: None,
            aliases: Vec::new(),
            names: Vec::new(),
        };
        let sandbox = self.driver.create_sandbox(name).await.unwrap();
        let place = super::endpoint::Place {
            network: &network,
            sandbox: &sandbox,
            outer: name,
            inner: "eth0",
            default_route: true,
        };
        super::endpoint::create(&handle, &endpoint, &place).await.unwrap();
    }

    async fn ask_from(&self, container: &str, target: &'static str) -> Option<String> {
        let path = self.driver.sandbox_path(container);
        netlink::inside(&path, async move || Ok::<_, NetlinkError>(ask(target))).await.unwrap()
    }

    async fn is_closed(&self, container: &str, target: &'static str) -> bool {
        let path = self.driver.sandbox_path(container);
        let ask = async move || Ok::<_, NetlinkError>(ask_within(target, IMPATIENCE));
        netlink::inside(&path, ask).await.unwrap().is_none()
    }

    /// Returns the run folder.
    async fn end_but_neighbours(self) -> tempfile::TempDir {
        for endpoint in &self.state.endpoints {
            self.driver.disconnect(&endpoint.container, &endpoint.network).await.unwrap();
            self.driver.remove_sandbox(&endpoint.container).unwrap();
        }
        self.driver.apply_networks(&Default::default()).await.unwrap();
        self.driver.remove_rules().unwrap();
        self.folder
    }

    async fn end(self) {
        drop(self.end_but_neighbours().await);
    }
}

/// Long enough for a slow machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is closed answers never, so the wait for it is short.
const IMPATIENCE: Duration = Duration::from_millis(300);

fn ask(target: &str) -> Option<String> {
    ask_within(target, PATIENCE)
}

fn ask_within(target: &str, patience: Duration) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&target.parse().unwrap(), patience).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut word = String::new();
    stream.read_to_string(&mut word).ok()?;
    Some(word)
}

#[test]
fn siblings_reach_each_other_and_other_networks_stay_closed() {
    throwaway::host(async || {
        let mut machine =
            Machine::with(&[("front", "10.91.0.0/24", false), ("back", "10.92.0.0/24", false)])
                .await;
        machine.join("a", "front", "10.91.0.2/24").await;
        machine.join("b", "front", "10.91.0.3/24").await;
        machine.join("c", "back", "10.92.0.2/24").await;
        machine.serve("a", "a").await;
        assert_eq!(machine.ask_from("b", "10.91.0.2:80").await.as_deref(), Some("a"));
        assert!(machine.is_closed("c", "10.91.0.2:80").await);
        assert_eq!(
            ask("10.91.0.2:80").as_deref(),
            Some("a"),
            "the host itself reaches its containers"
        );
        machine.end().await;
    });
}

#[test]
fn a_published_port_answers_on_loopback_on_the_host_and_to_its_own_container() {
    throwaway::host(async || {
        let mut machine =
            Machine::with(&[("front", "10.91.0.0/24", false), ("back", "10.92.0.0/24", false)])
                .await;
        machine.join("a", "front", "10.91.0.2/24").await;
        machine.join("b", "front", "10.91.0.3/24").await;
        machine.join("c", "back", "10.92.0.2/24").await;
        machine.serve("a", "a").await;
        machine.publish("0.0.0.0:8080", &["10.91.0.2:80"]);
        assert_eq!(ask("127.0.0.1:8080").as_deref(), Some("a"));
        assert_eq!(ask("10.91.0.1:8080").as_deref(), Some("a"));
        for container in ["a", "b"] {
            assert_eq!(
                machine.ask_from(container, "10.91.0.1:8080").await.as_deref(),
                Some("a"),
                "{container}"
            );
        }
        assert_eq!(machine.ask_from("c", "10.92.0.1:8080").await.as_deref(), Some("a"));
        machine.publish("127.0.0.1:8080", &["10.91.0.2:80"]);
        assert_eq!(ask("127.0.0.1:8080").as_deref(), Some("a"));
        assert_eq!(ask_within("10.91.0.1:8080", IMPATIENCE), None);
        machine.publish("127.0.0.1:8080", &[]);
        assert_eq!(ask_within("127.0.0.1:8080", IMPATIENCE), None);
        machine.end().await;
    });
}

#[test]
fn a_balanced_port_reaches_every_backend_and_follows_a_swap() {
    throwaway::host(async || {
        let mut machine = Machine::with(&[("front", "10.91.0.0/24", false)]).await;
        machine.join("a", "front", "10.91.0.2/24").await;
        machine.join("b", "front", "10.91.0.3/24").await;
        machine.serve("a", "a").await;
        machine.serve("b", "b").await;
        machine.publish("0.0.0.0:8080", &["10.91.0.2:80", "10.91.0.3:80"]);
        let answers: std::collections::BTreeSet<_> =
            (0..64).map(|_| ask("127.0.0.1:8080").unwrap()).collect();
        assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["a", "b"]);
        machine.publish("0.0.0.0:8080", &["10.91.0.3:80"]);
        assert!((0..16).all(|_| ask("127.0.0.1:8080").as_deref() == Some("b")));
        machine.end().await;
    });
}

#[test]
fn an_ipv6_network_carries_traffic() {
    throwaway::host(async || {
        let mut machine = Machine::with(&[("six", "fd91::/64", false)]).await;
        machine.join("a", "six", "fd91::2/64").await;
        machine.join("b", "six", "fd91::3/64").await;
        machine.serve("a", "a").await;
        assert_eq!(machine.ask_from("b", "[fd91::2]:80").await.as_deref(), Some("a"));
        machine.end().await;
    });
}

#[test]
fn a_container_reaches_no_loopback_service_of_the_host() {
    throwaway::host(async || {
        let mut machine = Machine::with(&[("front", "10.91.0.0/24", false)]).await;
        machine.join("a", "front", "10.91.0.2/24").await;
        let listener = TcpListener::bind("0.0.0.0:7000").unwrap();
        std::thread::spawn(move || {
            while let Ok((mut client, _)) = listener.accept() {
                drop(client.write_all(b"host"));
            }
        });
        assert_eq!(machine.ask_from("a", "10.91.0.1:7000").await.as_deref(), Some("host"));
        // A container may route 127/8 to us by itself; only the raw chain stands in between.
        let path = machine.driver.sandbox_path("a");
        let answer = netlink::inside(&path, async || {
            let handle = netlink::connect()?;
            let index = netlink::link_index(&handle, "eth0").await?;
            netlink::write_sysctl("ipv4/conf/eth0/route_localnet", "1")?;
            let route = rtnetlink::RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix([127, 9, 9, 9].into(), 32)
                .gateway([10, 91, 0, 1].into())
                .output_interface(index)
                .build();
            handle.route().add(route).execute().await.unwrap();
            Ok::<_, NetlinkError>(ask_within("127.9.9.9:7000", IMPATIENCE))
        });
        assert_eq!(answer.await.unwrap(), None);
        machine.end().await;
    });
}

#[test]
fn long_lists_of_routes_are_read_at_once() {
    throwaway::host(async || {
        let folder = tempfile::tempdir().unwrap();
        let driver = Driver::open("test", folder.path()).unwrap();
        let handle = netlink::connect().unwrap();
        let lo = netlink::link_index(&handle, "lo").await.unwrap();
        netlink::set_up(&handle, lo).await.unwrap();
        for number in 0..512_u32 {
            let subnet = std::net::Ipv4Addr::from(0x0a00_0000 + (number << 8));
            let route = rtnetlink::RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(subnet, 24)
                .output_interface(lo)
                .build();
            handle.route().add(route).execute().await.unwrap();
        }
        let lists = futures_util::future::join_all((0..8).map(|_| driver.routes())).await;
        for list in lists {
            assert_eq!(list.unwrap().len(), 512);
        }
    });
}

#[test]
fn an_internal_network_has_no_way_out_and_no_way_in() {
    throwaway::host(async || {
        let mut machine =
            Machine::with(&[("front", "10.91.0.0/24", false), ("vault", "10.92.0.0/24", true)])
                .await;
        machine.join("a", "front", "10.91.0.2/24").await;
        machine.join("b", "vault", "10.92.0.2/24").await;
        machine.join("c", "vault", "10.92.0.3/24").await;
        machine.serve("a", "a").await;
        machine.serve("c", "c").await;
        machine.publish("0.0.0.0:8080", &["10.92.0.3:80"]);
        assert_eq!(machine.ask_from("b", "10.92.0.3:80").await.as_deref(), Some("c"));
        assert!(machine.is_closed("b", "10.91.0.2:80").await);
        assert!(machine.is_closed("a", "10.91.0.1:8080").await);
        machine.end().await;
    });
}

#[test]
fn rules_that_somebody_flushed_come_back_with_the_next_change() {
    throwaway::host(async || {
        let mut machine = Machine::with(&[("front", "10.91.0.0/24", false)]).await;
        machine.join("a", "front", "10.91.0.2/24").await;
        machine.serve("a", "a").await;
        super::nft::apply::remove(&super::nft::ruleset::table_name("test")).unwrap();
        machine.publish("0.0.0.0:8080", &["10.91.0.2:80"]);
        assert_eq!(ask("127.0.0.1:8080").as_deref(), Some("a"));
        machine.end().await;
    });
}

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
            machine.driver.open_firewall().unwrap();
            assert_eq!(machine.ask_from("c", "10.92.0.1:8080").await.as_deref(), Some("a"));
            assert!(machine.is_closed("c", "10.91.0.2:80").await, "isolation stays");
            nft("flush chain ip filter DOCKER-USER");
            assert!(machine.is_closed("c", "10.92.0.1:8080").await);
            let others = machine.driver.look_after_rules(Change::Others);
            assert!(!others.unwrap(), "our own table is whole");
            assert_eq!(machine.ask_from("c", "10.92.0.1:8080").await.as_deref(), Some("a"));
            nft("flush ruleset");
            assert!(machine.driver.look_after_rules(Change::Ours).unwrap());
            nft(
                "table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }",
            );
            machine.driver.publish(&machine.state).unwrap();
            assert!(!machine.driver.look_after_rules(Change::Others).unwrap());
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
        next.open_firewall().unwrap();
        super::nft::apply::remove("bargee-forwarding4").unwrap();
        assert!(machine.ask_from("left", "10.82.0.2:80").await.is_some(), "nothing else closes");
        next.look_after_rules(Change::Others).unwrap();
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
        assert_eq!(super::hooks::own_rules("bargee-forwarding4", "forward").unwrap(), None);
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
        machine.driver.open_firewall().unwrap();
        if nft(DOCKER_AFTER_US).is_some() {
            assert!(machine.is_closed("left", "10.82.0.2:80").await);
            machine.driver.look_after_rules(Change::Others).unwrap();
            let outside = machine.ask_from("left", "10.82.0.2:80").await;
            assert_eq!(outside.as_deref(), Some("right"), "docker's containers reach the outside");
            machine.serve("left", "left").await;
            assert!(machine.is_closed("right", "10.81.0.2:80").await, "nothing else is routed");
            let ours = machine.ask_from("a", "10.82.0.2:80").await;
            assert_eq!(ours.as_deref(), Some("right"), "and so do ours");
            // A rule that is appended later counts too.
            nft("add rule ip filter FORWARD iifname lan-right counter accept");
            assert!(machine.is_closed("right", "10.81.0.2:80").await);
            machine.driver.look_after_rules(Change::Others).unwrap();
            assert_eq!(machine.ask_from("right", "10.81.0.2:80").await.as_deref(), Some("left"));
            nft("flush ruleset");
            assert!(machine.ask_from("right", "10.81.0.2:80").await.is_some(), "all is open");
            assert!(machine.driver.look_after_rules(Change::Ours).unwrap());
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
        machine.driver.open_firewall().unwrap();
        let Some(_) = nft(DOCKER_AFTER_US) else { return };
        machine.driver.look_after_rules(Change::Others).unwrap();
        let folder = machine.end_but_neighbours().await;
        assert!(forwarding_is_on());
        let left = nft("list ruleset").unwrap();
        assert!(!left.contains("bargee"), "{left}");
        assert!(left.contains("hook forward priority filter; policy drop;"), "{left}");
        // And the next engine finds a router that is not of its making.
        let next = Driver::open("test", folder.path()).unwrap();
        next.open_firewall().unwrap();
        assert_eq!(super::hooks::own_rules("bargee-forwarding4", "forward").unwrap(), None);
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
            next.open_firewall().unwrap();
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
        stranger.open_firewall().unwrap();
        assert!(!machine.is_closed("left", "10.82.0.2:80").await);
        stranger.remove_rules().unwrap();
        // The last bridge's end turns it off all the same.
        let next = Driver::open("test", machine.folder.path()).unwrap();
        next.apply_networks(&machine.state.networks).await.unwrap();
        next.open_firewall().unwrap();
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
            machine.join("a", "front", "10.91.0.2/24").await;
            for name in ["a", "right"] {
                machine.serve(name, "served").await;
            }
            machine.publish("0.0.0.0:8080", &["10.91.0.2:80"]);
            if nft(firewall).is_none() {
                return;
            }
            assert!(machine.is_closed("a", "10.82.0.2:80").await, "the firewall closes");
            machine.driver.open_firewall().unwrap();
            let served = Some("served");
            assert_eq!(machine.ask_from("a", "10.82.0.2:80").await.as_deref(), served);
            assert_eq!(machine.ask_from("right", "10.82.0.1:8080").await.as_deref(), served);
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
