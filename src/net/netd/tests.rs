//! netd in a namespace that plays host.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use super::proxy::wanted;
use super::*;
use crate::net::model::{EndpointConfig, NetworkConfig, Protocol, Publication, State};
use crate::net::names::message::tests::query;
use crate::net::netlink::{self, NetlinkError, throwaway};
use crate::net::sandbox;

fn state(sandbox: &Path, upstream: SocketAddr, proxied: SocketAddr) -> NetdState {
    let network = NetworkConfig {
        id: "front".to_owned(),
        name: "front".to_owned(),
        bridge: "front".to_owned(),
        subnets: Vec::new(),
        internal: false,
        ipv6: false,
        masquerade: true,
        mtu: 1500,
    };
    let endpoint = EndpointConfig {
        container: "a".to_owned(),
        network: "front".to_owned(),
        addresses: vec!["10.0.0.2/24".parse().unwrap()],
        mac: None,
        aliases: Vec::new(),
        names: vec!["web".to_owned()],
    };
    let publication = Publication {
        host_ip: Ipv6Addr::LOCALHOST.into(),
        host_port: 8080,
        protocol: Protocol::Tcp,
        backends: vec![proxied],
    };
    NetdState {
        version: 1,
        generation: 7,
        sandboxes: BTreeMap::from([("a".to_owned(), Sandbox::at(sandbox, Vec::new()).unwrap())]),
        state: State {
            networks: BTreeMap::from([("front".to_owned(), network)]),
            endpoints: vec![endpoint],
            publications: vec![publication],
        },
        upstreams: vec![upstream],
    }
}

fn ask_udp(name: &str) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.connect("127.0.0.11:53").unwrap();
    let mut answer = vec![0; 512];
    socket.send(&query(name, 1)).ok()?;
    let length = socket.recv(&mut answer).ok()?;
    answer.truncate(length);
    Some(answer)
}

fn ask_tcp(name: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect("127.0.0.11:53").unwrap();
    let query = query(name, 1);
    let length = u16::try_from(query.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], &query].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    answer
}

#[test]
fn names_are_answered_in_the_sandbox_others_go_upstream_and_loopback_is_proxied() {
    throwaway::host(async || {
        let folder = tempfile::tempdir().unwrap();
        let pin = folder.path().join("pin");
        sandbox::create(&pin).await.unwrap();
        let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
        let upstream_address = upstream.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, client)) = upstream.recv_from(&mut buffer) {
                buffer[2] |= 0x80;
                buffer[3] = 5;
                drop(upstream.send_to(&buffer[..length], client));
            }
        });
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let backend_address = backend.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut client, _)) = backend.accept() {
                drop(client.write_all(b"proxied"));
            }
        });
        let file = folder.path().join("netd.json");
        let followed = file.clone();
        let netd = tokio::spawn(async move { follow(&followed, Path::new("/nonexistent")).await });
        write_state(&file, &state(&pin, upstream_address, backend_address)).unwrap();
        let answers = netlink::inside(&pin, async || {
            // netd may still be opening its sockets; until then the kernel refuses at once.
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            let local = std::iter::repeat_with(|| ask_udp("web"))
                .take_while(|_| std::time::Instant::now() < deadline)
                .flatten()
                .next()
                .unwrap();
            Ok::<_, NetlinkError>((local, ask_tcp("WEB"), ask_udp("example.org").unwrap()))
        });
        let (local, framed, foreign) = answers.await.unwrap();
        assert_eq!(local[local.len() - 4..], [10, 0, 0, 2]);
        assert_eq!(framed[framed.len() - 4..], [10, 0, 0, 2]);
        assert_eq!((foreign[0], foreign[1], foreign[3] & 15), (0, 0, 5));
        let mut word = [0; 7];
        let mut stream = tokio::net::TcpStream::connect("[::1]:8080").await.unwrap();
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut word).await.unwrap();
        assert_eq!(&word, b"proxied");
        netd.abort();
        sandbox::remove(&pin).unwrap();
    });
}

#[test]
fn only_what_the_kernel_cannot_translate_is_proxied() {
    let publish = |host: &str, backend: &str| Publication {
        host_ip: host.parse().unwrap(),
        host_port: 80,
        protocol: Protocol::Tcp,
        backends: vec![backend.parse().unwrap()],
    };
    let listens = |publication| {
        let state = State { publications: vec![publication], ..State::default() };
        wanted(&state).into_keys().map(|(listen, _)| listen.to_string()).collect::<Vec<_>>()
    };
    assert!(listens(publish("0.0.0.0", "10.0.0.2:80")).is_empty());
    assert_eq!(listens(publish("::", "10.0.0.2:80")), ["[::]:80"]);
    assert_eq!(listens(publish("::", "[fd00::2]:80")), ["[::1]:80"]);
    assert!(listens(publish("fd00::1", "[fd00::2]:80")).is_empty());
}

#[test]
fn sockets_in_a_namespace_are_closed_when_its_last_link_goes_and_opened_again_when_asked_for() {
    throwaway::host(async || {
        let folder = tempfile::tempdir().unwrap();
        let pin = folder.path().join("pin");
        sandbox::create(&pin).await.unwrap();
        let handle = netlink::connect().unwrap();
        for outer in ["outer0", "outer1"] {
            let pair = rtnetlink::LinkVeth::new(outer, &format!("{outer}p")).build();
            handle.link().add(pair).execute().await.unwrap();
        }
        let nowhere: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let mut wanted = state(&pin, nowhere, nowhere);
        wanted.sandboxes.get_mut("a").unwrap().links = vec!["outer0".into(), "outer1".into()];
        let file = folder.path().join("netd.json");
        write_state(&file, &wanted).unwrap();
        let followed = file.clone();
        let netd = tokio::spawn(async move { follow(&followed, Path::new("/nonexistent")).await });
        let resolvers = async || {
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            loop {
                match ask(&file, Request::Tell).await {
                    Ok(report) => return report.resolvers.len(),
                    Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert_eq!(resolvers().await, 1);
        netlink::delete_link(&handle, "outer0").await.unwrap();
        assert_eq!(resolvers().await, 1);
        netlink::delete_link(&handle, "outer1").await.unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while resolvers().await > 0 {
            assert!(std::time::Instant::now() < deadline, "the sockets stay");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ask(&file, Request::Obey).await.unwrap();
        assert_eq!(resolvers().await, 1);
        netd.abort();
        sandbox::remove(&pin).unwrap();
    });
}
