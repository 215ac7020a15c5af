//! What somebody takes away from outside while the engine runs, and how soon it is there again.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use bargee::net::model;
use bargee::net::netlink::{self, NetlinkError};
use bargee::spec::container::{Mount, MountKind};
use bargee::spec::stack::SubnetSpec;

use super::network::{Host, ask, on_a_host, publish};
use super::support::pace::slowed;

/// The bar for every repair.
const BAR: Duration = Duration::from_secs(5);
/// Nothing that works takes longer.
const IMPATIENCE: Duration = Duration::from_millis(200);

fn run(program: &str, words: &str) {
    let output = Command::new(program).args(words.split(' ')).output().expect("it is installed");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {words}: {text}");
}

/// Two containers on a network with both families, one of them with a port and on a second network.
struct Pair {
    address: IpAddr,
    second: IpAddr,
    bridge: String,
    link: String,
    sandbox: String,
    table: String,
}

impl Pair {
    async fn start(host: &Host) -> Self {
        host.network("front", |spec| {
            let subnet = |text: &str| SubnetSpec {
                subnet: text.parse().expect("a subnet"),
                gateway: None,
                ip_range: None,
                reserved: Vec::new(),
            };
            spec.subnets = vec![subnet("10.77.0.0/24"), subnet("fd77::/64")];
            spec.enable_ipv6 = true;
        })
        .await;
        host.network("second", |_| ()).await;
        host.run("aa", &["front", "second"], |request| publish(&mut request.spec, 8080)).await;
        host.run("bb", &["front", "second"], |_| ()).await;
        host.serve("aa", "aa").await;
        let engine = host.engine();
        let root = engine.paths().id();
        let network = engine.network("front").expect("it is there");
        let view = engine.view_container("aa").expect("it is there");
        let address = |name: &str| {
            let found = view.endpoints.iter().find(|one| one.network == name);
            found.expect("it is connected").addresses[0].addr()
        };
        Self {
            address: address("front"),
            second: address("second"),
            bridge: engine.bridge_name(&network),
            link: model::veth_name(root, &network.id, &host.id("aa")),
            sandbox: host.sandbox("aa").display().to_string(),
            table: engine.paths().nft_table(),
        }
    }

    /// Ports of both families, names, both networks, and the way out.
    async fn fault(&self, host: &Host) -> Option<String> {
        for address in ["127.0.0.1", "::1"] {
            let target = SocketAddr::new(address.parse().expect("an address"), 8080);
            if ask(target, IMPATIENCE).as_deref() != Some("aa") {
                return Some(format!("{target} does not answer"));
            }
        }
        for address in [self.address, self.second] {
            let target = SocketAddr::new(address, 80);
            let answer = host.inside("bb", move || ask(target, IMPATIENCE)).await;
            if answer.as_deref() != Some("aa") {
                return Some(format!("bb does not reach {target}"));
            }
        }
        let network = host.engine().network("front").expect("it is there");
        let expected = self.address;
        for name in ["aa", "bb"] {
            if !host.inside(name, move || resolves("aa", expected)).await {
                return Some(format!("{name} finds no aa"));
            }
            for subnet in &network.subnets {
                let gateway = subnet.gateway;
                if !host.inside(name, move || leads_out(gateway)).await {
                    return Some(format!("{name} has no way out through {gateway}"));
                }
            }
        }
        None
    }

    async fn repaired(&self, host: &Host, damage: &str) {
        let start = Instant::now();
        while let Some(fault) = self.fault(host).await {
            assert!(start.elapsed() < slowed(BAR), "{damage}: {fault}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = start.elapsed();
        assert!(took < slowed(BAR), "{damage} took {took:?}");
        eprintln!("repaired after {took:?}: {damage}");
    }
}

/// Tells whether a datagram to the world goes out from an address of the gateway's subnet.
fn leads_out(gateway: IpAddr) -> bool {
    let (any, world) = match gateway {
        IpAddr::V4(_) => ("0.0.0.0:0", "192.0.2.1:9"),
        IpAddr::V6(_) => ("[::]:0", "[2001:db8::1]:9"),
    };
    UdpSocket::bind(any).and_then(|socket| socket.connect(world)).is_ok()
}

fn resolves(name: &str, expected: IpAddr) -> bool {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.set_read_timeout(Some(slowed(IMPATIENCE))).expect("a timeout");
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.push(u8::try_from(name.len()).expect("a short name"));
    query.extend(name.bytes());
    query.extend([0, 0, 1, 0, 1]);
    let mut answer = [0; 512];
    let exchange = socket.send_to(&query, "127.0.0.11:53").and_then(|_| socket.recv(&mut answer));
    let IpAddr::V4(expected) = expected else { return false };
    exchange
        .is_ok_and(|length| answer[..length].windows(4).any(|window| window == expected.octets()))
}

#[test]
fn links_addresses_and_routes_that_somebody_removes_are_there_again() {
    on_a_host(async |host| {
        let pair = Pair::start(host).await;
        pair.repaired(host, "nothing").await;
        let Pair { bridge, link, sandbox, .. } = &pair;
        let damages = [
            format!("link del {bridge}"),
            format!("link del {link}"),
            format!("link set {link} nomaster"),
            format!("link set {link} down"),
            format!("link set {bridge} down"),
            format!("addr flush dev {bridge}"),
            format!("route del 10.77.0.0/24 dev {bridge}"),
            format!("-6 route del fd77::/64 dev {bridge}"),
        ];
        for damage in damages {
            run("ip", &damage);
            pair.repaired(host, &format!("ip {damage}")).await;
        }
        let inside = [
            "ip link del eth0",
            "ip link del eth1",
            "ip link set eth0 down",
            "ip addr flush dev eth1",
            "ip -6 addr flush dev eth0",
            "ip route del default",
        ];
        for damage in inside {
            run("nsenter", &format!("--net={sandbox} {damage}"));
            pair.repaired(host, &format!("{damage} inside")).await;
        }
        // Both at once.
        run("ip", &format!("link del {bridge}"));
        run("nsenter", &format!("--net={sandbox} ip link del eth0"));
        pair.repaired(host, "bridge and link").await;
        let mac = host
            .inside("aa", || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap())
            .await;
        assert!(mac.contains("eth0") && mac.contains("eth1") && !mac.contains("eth2"), "{mac}");
    });
}

#[test]
fn packet_rules_and_sysctls_that_somebody_changes_are_put_back() {
    on_a_host(async |host| {
        let pair = Pair::start(host).await;
        pair.repaired(host, "nothing").await;
        let table = &pair.table;
        let damages = [
            "flush ruleset".to_owned(),
            format!("delete table inet {table}"),
            format!("flush map inet {table} any4"),
            format!("flush chain inet {table} postrouting"),
            format!("flush set inet {table} bridges"),
            format!("flush chain inet {table} output"),
        ];
        for damage in damages {
            run("nft", &damage);
            pair.repaired(host, &format!("nft {damage}")).await;
            let rules = Command::new("nft").args(["list", "table", "inet", table]).output();
            let rules = String::from_utf8(rules.expect("nft runs").stdout).expect("text");
            for word in ["masquerade", "8080", pair.bridge.as_str()] {
                assert!(rules.contains(word), "{damage}: no {word} in {rules}");
            }
        }
        let bridge = &pair.bridge;
        let sysctls = [
            "ipv4/ip_forward".to_owned(),
            "ipv6/conf/all/forwarding".to_owned(),
            format!("ipv4/conf/{bridge}/forwarding"),
            format!("ipv4/conf/{bridge}/route_localnet"),
        ];
        for name in sysctls {
            netlink::write_sysctl(&name, "0").expect("root may");
            let start = Instant::now();
            while netlink::read_sysctl(&name).expect("it is there").trim() != "1" {
                assert!(start.elapsed() < slowed(BAR), "{name} stays off");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            pair.repaired(host, &name).await;
        }
    });
}

#[test]
fn a_start_right_after_its_bridge_went_works() {
    on_a_host(async |host| {
        let pair = Pair::start(host).await;
        for _ in 0..5 {
            host.stop("aa").await;
            run("ip", &format!("link del {}", pair.bridge));
            host.start("aa").await.expect("the bridge is made again");
            host.serve("aa", "aa").await;
            pair.repaired(host, "a bridge, before a start").await;
        }
    });
}

#[test]
fn what_went_while_no_engine_was_there_is_made_again_by_the_next_one() {
    on_a_host(async |host| {
        let pair = Pair::start(host).await;
        let Pair { bridge, link, sandbox, .. } = &pair;
        let damages = [
            vec![format!("ip link del {bridge}")],
            vec![format!("ip link del {link}")],
            vec![format!("umount -l {sandbox}")],
            vec![
                format!("umount -l {sandbox}"),
                format!("rm {sandbox}"),
                format!("ip link del {bridge}"),
            ],
        ];
        for damage in damages {
            host.crash().await;
            for command in &damage {
                let (program, words) = command.split_once(' ').expect("words");
                run(program, words);
            }
            host.open().await;
            pair.repaired(host, &damage.join(", ")).await;
        }
        let sandbox = host.sandbox("aa");
        let pinned = netlink::inside(&sandbox, async || Ok::<_, NetlinkError>(()));
        pinned.await.expect("the namespace is pinned again");
    });
}

#[test]
fn a_container_whose_root_or_volume_somebody_unmounts_is_restarted_and_keeps_its_files() {
    on_a_host(async |host| {
        host.run("aa", &["bridge"], |request| {
            request.spec.mounts.push(Mount {
                target: "/data".to_owned(),
                read_only: false,
                kind: MountKind::Tmpfs { size: 0, mode: None, options: Vec::new() },
            });
        })
        .await;
        let present = |host: &Host| {
            let handle = host.engine().container("aa").expect("it is there");
            handle.row().runtime.clone().expect("it ran")
        };
        let id = host.id("aa");
        for target in ["/data", "/"] {
            let before = present(host);
            let root = format!("/proc/{}/root", before.pid);
            std::fs::write(format!("{root}/kept"), "kept").expect("root writes");
            let start = Instant::now();
            run(
                "nsenter",
                &format!("--target={} --mount /bin/busybox umount -l {target}", before.pid),
            );
            let after = loop {
                let now = present(host);
                let file = std::fs::read_to_string(format!("/proc/{}/root/kept", now.pid));
                if now.incarnation > before.incarnation && file.is_ok_and(|text| text == "kept") {
                    break now;
                }
                assert!(start.elapsed() < slowed(BAR), "{target}: it is not restarted");
                tokio::time::sleep(Duration::from_millis(5)).await;
            };
            eprintln!("restarted after {:?}: umount {target}", start.elapsed());
            let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", after.pid));
            assert!(mounts.expect("it runs").contains(" /data "));
            assert_eq!(host.id("aa"), id);
        }
    });
}
