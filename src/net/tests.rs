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

mod neighbours;

struct Machine {
    driver: Driver,
    state: State,
    folder: RunFolder,
}

/// A run folder; with it go the pins of namespaces that a test left in it.
struct RunFolder(tempfile::TempDir);

impl RunFolder {
    fn path(&self) -> &std::path::Path {
        self.0.path()
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let pins = std::fs::read_dir(self.path().join("netns"));
        for pin in pins.into_iter().flatten().flatten() {
            // One that is no pin any more is a plain file.
            let _ = nix::mount::umount2(&pin.path(), nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

impl Machine {
    async fn with(networks: &[(&str, &str, bool)]) -> Self {
        let folder = RunFolder(tempfile::tempdir().unwrap());
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

    /// Leads the host's default route to a neighbour, whose bridge is a way out of the machine then.
    async fn uplink(&self, name: &str, gateway: &str) {
        let handle = netlink::connect().unwrap();
        let index = netlink::link_index(&handle, &format!("lan-{name}")).await.unwrap();
        let route = rtnetlink::RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .gateway(gateway.parse().unwrap())
            .output_interface(index)
            .build();
        handle.route().add(route).execute().await.unwrap();
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
    async fn end_but_neighbours(self) -> RunFolder {
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
    stream.set_read_timeout(Some(crate::pace::slowed(Duration::from_secs(2)))).unwrap();
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
