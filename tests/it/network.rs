//! Networks on a real kernel, by the engine itself: a network namespace plays host, and the test speaks from inside
//! the sandboxes.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bargee::engine::config::Config;
use bargee::engine::containers::create::CreateRequest;
use bargee::engine::containers::lifecycle::{By, StopOptions};
use bargee::engine::containers::remove::RemoveOptions;
use bargee::engine::networks::CreateNetwork;
use bargee::engine::paths::Paths;
use bargee::engine::state::containers::Replica;
use bargee::engine::{Engine, EngineError};
use bargee::images::ImportOptions;
use bargee::net::netlink::{self, NetlinkError};
use bargee::spec::container::{
    ContainerSpec, Endpoint, Healthcheck, NetworkMode, PortSpec, Protocol,
};
use bargee::spec::stack::{Network as NetworkSpec, SubnetSpec};
use futures_util::FutureExt as _;
use tempfile::TempDir;

use super::support::pace::slowed;

const PATIENCE: Duration = Duration::from_secs(20);
/// What is closed answers never, so the wait for it is short.
const IMPATIENCE: Duration = Duration::from_millis(300);

pub(crate) struct Host {
    pub(crate) folder: TempDir,
    engine: Option<Arc<Engine>>,
}

/// Runs a test where it may do no harm, or says why it can't.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
pub(crate) fn on_a_host(test: impl AsyncFnOnce(&mut Host) + Send + 'static) {
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
            let handle = netlink::connect().expect("netlink is always there");
            netlink::set_up(&handle, 1).await.expect("lo has index 1");
            let mut host = Host::new().await;
            let outcome = AssertUnwindSafe(test(&mut host)).catch_unwind().await;
            if outcome.is_err() && host.engine.is_none() {
                host.engine = Some(open(host.folder.path()).await);
            }
            host.clear().await;
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
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
        engine.import_image(busybox().as_slice(), &options, Some("busybox")).expect("an image");
        Self { folder, engine: Some(engine) }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        self.engine.as_ref().expect("it is open")
    }

    /// Ends the engine without a word, as a crash does.
    pub(crate) async fn crash(&mut self) {
        let engine = self.engine.take().map(|engine| Arc::downgrade(&engine));
        until("the old engine goes", || {
            engine.as_ref().is_some_and(|engine| engine.strong_count() == 0)
        })
        .await;
    }

    /// Opens the next engine.
    pub(crate) async fn open(&mut self) {
        self.engine = Some(open(self.folder.path()).await);
    }

    pub(crate) async fn network(&self, name: &str, change: impl FnOnce(&mut NetworkSpec)) {
        let mut spec = NetworkSpec::default();
        change(&mut spec);
        let request = CreateNetwork { name: name.to_owned(), spec, stack: None };
        self.engine().create_network(request).await.expect("a network");
    }

    async fn create(&self, name: &str, change: impl FnOnce(&mut CreateRequest)) -> String {
        let spec = ContainerSpec {
            image: "busybox".to_owned(),
            command: Some(["sleep", "1000"].map(str::to_owned).to_vec()),
            stop_signal: Some("SIGKILL".to_owned()),
            ..ContainerSpec::default()
        };
        let mut request =
            CreateRequest { name: Some(name.to_owned()), spec, ..CreateRequest::default() };
        change(&mut request);
        self.engine().create_container(request).await.expect("it is created").id
    }

    pub(crate) async fn start(&self, name: &str) -> Result<(), EngineError> {
        self.engine().start_container(name, By::User).await
    }

    pub(crate) async fn stop(&self, name: &str) {
        let options = StopOptions::default();
        self.engine().stop_container(name, &options, By::User).await.expect("it stops");
    }

    /// Creates and starts a container on some networks.
    pub(crate) async fn run(
        &self,
        name: &str,
        networks: &[&str],
        change: impl FnOnce(&mut CreateRequest),
    ) {
        self.create(name, |request| {
            on(&mut request.spec, networks);
            change(request);
        })
        .await;
        self.start(name).await.expect("it starts");
    }

    pub(crate) fn id(&self, name: &str) -> String {
        self.engine().container(name).expect("it is there").id().to_owned()
    }

    pub(crate) fn sandbox(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("run/netns").join(self.id(name))
    }

    /// Returns the first address of a container.
    pub(crate) fn address(&self, name: &str) -> IpAddr {
        let view = self.engine().view_container(name).expect("it is there");
        view.endpoints[0].addresses[0].addr()
    }

    /// Runs `work` inside a container's sandbox.
    pub(crate) async fn inside<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let work = async move || Ok::<_, NetlinkError>(work());
        netlink::inside(&self.sandbox(name), work).await.expect("a sandbox")
    }

    /// Serves `word` on port 80 of a container to every client.
    pub(crate) async fn serve(&self, name: &str, word: &'static str) {
        let listen = || TcpListener::bind("[::]:80").expect("the container's own port");
        let listener = self.inside(name, listen).await;
        std::thread::spawn(move || {
            while let Ok((mut client, _)) = listener.accept() {
                drop(client.write_all(word.as_bytes()));
            }
        });
    }

    /// Answers every datagram on port 80 of a container with `word`.
    async fn serve_datagrams(&self, name: &str, word: &'static str) {
        let bind = || UdpSocket::bind("0.0.0.0:80").expect("the container's own port");
        let socket = self.inside(name, bind).await;
        std::thread::spawn(move || {
            let mut datagram = [0; 64];
            while let Ok((length, client)) = socket.recv_from(&mut datagram) {
                let answer = [word.as_bytes(), &datagram[..length]].concat();
                drop(socket.send_to(&answer, client));
            }
        });
    }

    async fn resolve(&self, from: &str, name: &str) -> Vec<IpAddr> {
        let name = name.to_owned();
        self.inside(from, move || resolve(&name)).await
    }

    pub(crate) async fn ask_from(&self, name: &str, target: SocketAddr) -> Option<String> {
        self.inside(name, move || ask(target, PATIENCE)).await
    }

    async fn is_closed(&self, name: &str, target: SocketAddr) -> bool {
        self.inside(name, move || ask(target, IMPATIENCE)).await.is_none()
    }

    async fn clear(&mut self) {
        for handle in self.engine().handles() {
            let options = RemoveOptions { force: true, volumes: true };
            self.engine().remove_container(handle.id(), options).await.expect("it is removed");
        }
        self.engine().stop_everything().await.expect("nothing is left");
        let pins = self.folder.path().join("run/netns");
        let left = std::fs::read_dir(&pins).into_iter().flatten().flatten().count();
        assert_eq!(left, 0, "namespaces are left in {}", pins.display());
        let handle = netlink::connect().expect("netlink is always there");
        let links = netlink::link_names(&handle).await.expect("links");
        assert!(
            !links.iter().any(|name| name.starts_with("bv") || name.starts_with("bb")),
            "{links:?}"
        );
        self.crash().await;
    }
}

pub(crate) async fn open(folder: &Path) -> Arc<Engine> {
    let paths = Paths::new(folder.join("root"), folder.join("run"));
    let program = env!("CARGO_BIN_EXE_bargee").into();
    Engine::open_with_program(paths, Config::default(), program).await.expect("an engine")
}

/// Returns an archive of a root file system: busybox and its names.
fn busybox() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_path_with_name("/bin/busybox", "bin/busybox").expect("busybox is packed");
    for name in ["sh", "sleep", "cat"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        archive
            .append_link(&mut header, format!("bin/{name}"), "busybox")
            .expect("a link is packed");
    }
    archive.into_inner().expect("the archive is whole")
}

fn on(spec: &mut ContainerSpec, networks: &[&str]) {
    let first = networks.first().copied().unwrap_or_default();
    spec.network_mode = NetworkMode::Networks(first.to_owned());
    spec.networks = networks.iter().map(|name| ((*name).to_owned(), Endpoint::default())).collect();
}

pub(crate) fn publish(spec: &mut ContainerSpec, host: u16) {
    spec.ports.push(PortSpec {
        container: 80,
        protocol: Protocol::Tcp,
        host_ip: None,
        host: (host, host),
    });
}

fn replica(number: u32) -> Option<Replica> {
    Some(Replica { stack: "s".to_owned(), service: "web".to_owned(), number, oneoff: false })
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

pub(crate) fn ask(target: SocketAddr, patience: Duration) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&target, slowed(patience)).ok()?;
    stream.set_read_timeout(Some(slowed(patience))).expect("a timeout");
    let mut word = String::new();
    stream.read_to_string(&mut word).ok()?;
    Some(word).filter(|word| !word.is_empty())
}

pub(crate) fn ask_host(address: &str, port: u16) -> Option<String> {
    ask(at(address, port), PATIENCE)
}

/// Sends a datagram and returns the answer, which must come from where it was sent to.
fn ask_datagram(target: SocketAddr, question: &str, patience: Duration) -> Option<String> {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).expect("a socket");
    socket.connect(target).expect("a route");
    socket.set_read_timeout(Some(slowed(patience))).expect("a timeout");
    socket.send(question.as_bytes()).ok()?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// Asks the resolver of this sandbox for IPv4 addresses (RFC 1035).
pub(crate) fn resolve(name: &str) -> Vec<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.set_read_timeout(Some(slowed(PATIENCE))).expect("a timeout");
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).expect("a short label"));
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    let mut answer = [0; 512];
    socket.send_to(&query, "127.0.0.11:53").expect("the resolver takes queries");
    let length = socket.recv(&mut answer).expect("the resolver answers");
    let count = usize::from(u16::from_be_bytes([answer[6], answer[7]]));
    let records = answer[..length][query.len()..].chunks(16).take(count);
    records.map(|record| IpAddr::from([record[12], record[13], record[14], record[15]])).collect()
}

pub(crate) async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let start = Instant::now();
    while !met() {
        assert!(start.elapsed() < slowed(PATIENCE), "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn containers_of_a_network_know_each_other_by_name_and_stay_apart_from_others() {
    on_a_host(async |host| {
        host.network("front", |_| ()).await;
        host.network("back", |_| ()).await;
        host.run("aa", &["front"], |request| {
            request.replica = replica(1);
            request.spec.networks.values_mut().for_each(|one| one.aliases = vec!["other".into()]);
        })
        .await;
        host.run("bb", &["front"], |_| ()).await;
        host.run("cc", &["back"], |_| ()).await;
        host.serve("aa", "aa").await;
        let address = host.address("aa");
        for name in ["aa", "web", "other", &host.id("aa")[..12], "AA."] {
            assert_eq!(host.resolve("bb", name.trim_end_matches('.')).await, [address], "{name}");
        }
        assert_eq!(host.resolve("cc", "aa").await, Vec::<IpAddr>::new());
        let target = SocketAddr::new(address, 80);
        assert_eq!(host.ask_from("bb", target).await.as_deref(), Some("aa"));
        assert!(host.is_closed("cc", target).await);
        host.engine().connect_network("front", "cc", Endpoint::default()).await.expect("it joins");
        assert_eq!(host.resolve("cc", "aa").await, [address]);
        assert_eq!(host.ask_from("cc", target).await.as_deref(), Some("aa"));
        let refused = host.engine().remove_network("front").await.unwrap_err().to_string();
        assert!(refused.contains("has active endpoints (name:\""), "{refused}");
        host.engine().disconnect_network("front", "cc", false).await.expect("it leaves");
        assert!(host.is_closed("cc", target).await);
    });
}

#[test]
fn a_published_port_answers_everywhere_and_is_free_after_the_stop() {
    on_a_host(async |host| {
        host.run("aa", &[], |request| {
            request.spec.network_mode = NetworkMode::Default;
            publish(&mut request.spec, 8080);
        })
        .await;
        host.run("bb", &["bridge"], |_| ()).await;
        host.serve("aa", "aa").await;
        let gateway = host.engine().network("bridge").expect("it is there").subnets[0].gateway;
        for address in ["127.0.0.1", "::1", &gateway.to_string()] {
            assert_eq!(ask_host(address, 8080).as_deref(), Some("aa"), "{address}");
        }
        for name in ["aa", "bb"] {
            let answer = host.ask_from(name, SocketAddr::new(gateway, 8080)).await;
            assert_eq!(answer.as_deref(), Some("aa"), "{name}");
        }
        host.create("cc", |request| publish(&mut request.spec, 8080)).await;
        let refused = host.start("cc").await.unwrap_err().to_string();
        assert!(
            refused.contains("Bind for 0.0.0.0:8080 failed: port is already allocated")
                && refused.contains("container aa"),
            "{refused}"
        );
        assert!(TcpListener::bind("0.0.0.0:8080").is_err(), "the port is held");
        host.stop("aa").await;
        drop(TcpListener::bind("0.0.0.0:8080").expect("the port is free"));
        host.start("cc").await.expect("the port is free");
    });
}

#[test]
fn a_port_of_another_program_fails_the_start_and_names_it() {
    on_a_host(async |host| {
        let _held = TcpListener::bind("127.0.0.1:8080").expect("a free port");
        host.create("aa", |request| publish(&mut request.spec, 8080)).await;
        let refused = host.start("aa").await.unwrap_err().to_string();
        assert!(refused.contains(&format!("(pid {})", std::process::id())), "{refused}");
        let range =
            PortSpec { container: 80, protocol: Protocol::Tcp, host_ip: None, host: (8080, 8082) };
        host.run("bb", &["bridge"], |request| request.spec.ports = vec![range]).await;
        let row = host.engine().container("bb").expect("it is there").row();
        assert_eq!(row.bound_ports[0].host, (8081, 8081));
    });
}

#[test]
fn replicas_share_a_port_and_it_follows_those_that_run() {
    on_a_host(async |host| {
        for (name, word, number) in [("w1", "one", 1), ("w2", "two", 2)] {
            host.run(name, &["bridge"], |request| {
                request.replica = replica(number);
                publish(&mut request.spec, 8080);
            })
            .await;
            host.serve(name, word).await;
        }
        let answers: std::collections::BTreeSet<_> =
            (0..64).filter_map(|_| ask_host("127.0.0.1", 8080)).collect();
        assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["one", "two"]);
        host.stop("w1").await;
        assert!((0..16).all(|_| ask_host("127.0.0.1", 8080).as_deref() == Some("two")));
    });
}

#[test]
fn an_internal_network_leads_nowhere_and_none_has_no_network_at_all() {
    on_a_host(async |host| {
        host.network("vault", |spec| spec.internal = true).await;
        host.run("aa", &["vault"], |request| publish(&mut request.spec, 8080)).await;
        host.run("bb", &["vault"], |_| ()).await;
        host.run("cc", &[], |request| request.spec.network_mode = NetworkMode::None).await;
        host.serve("aa", "aa").await;
        let target = SocketAddr::new(host.address("aa"), 80);
        assert_eq!(host.ask_from("bb", target).await.as_deref(), Some("aa"));
        assert_eq!(ask(at("127.0.0.1", 8080), IMPATIENCE), None);
        let outside = at("192.0.2.1", 80);
        assert!(host.is_closed("bb", outside).await && host.is_closed("cc", target).await);
        let sandbox = host.sandbox("cc");
        let links =
            netlink::inside(&sandbox, async || netlink::link_names(&netlink::connect()?).await);
        assert_eq!(links.await.expect("a sandbox"), ["lo"]);
    });
}

#[test]
fn traffic_and_names_go_on_while_the_engine_is_gone_and_after_it_is_back() {
    on_a_host(async |host| {
        host.run("aa", &["bridge"], |request| publish(&mut request.spec, 8080)).await;
        host.run("bb", &["bridge"], |_| ()).await;
        host.serve("aa", "aa").await;
        let (address, sandbox) = (host.address("aa"), host.sandbox("bb"));
        host.crash().await;
        assert_eq!(ask_host("127.0.0.1", 8080).as_deref(), Some("aa"));
        assert_eq!(ask_host("::1", 8080).as_deref(), Some("aa"));
        let resolved = netlink::inside(&sandbox, async || Ok::<_, NetlinkError>(resolve("aa")));
        assert_eq!(resolved.await.expect("a sandbox"), [address]);
        let netd = std::fs::read_to_string(host.folder.path().join("run/netd/netd.pid"));
        host.open().await;
        let again = std::fs::read_to_string(host.folder.path().join("run/netd/netd.pid"));
        assert_eq!(netd.expect("a record"), again.expect("a record"), "netd is reused");
        assert_eq!(ask_host("127.0.0.1", 8080).as_deref(), Some("aa"));
        assert_eq!(host.resolve("bb", "aa").await, [address]);
        host.stop("aa").await;
        drop(TcpListener::bind("0.0.0.0:8080").expect("the port is free"));
        assert_eq!(host.resolve("bb", "aa").await, Vec::<IpAddr>::new());
    });
}

#[test]
fn a_static_address_is_its_containers_while_it_runs() {
    on_a_host(async |host| {
        let subnet = SubnetSpec {
            subnet: "10.77.0.0/24".parse().expect("a subnet"),
            gateway: Some("10.77.0.254".parse().expect("an address")),
            ip_range: None,
            reserved: Vec::new(),
        };
        host.network("fixed", |spec| spec.subnets = vec![subnet]).await;
        let fixed = |request: &mut CreateRequest| {
            for endpoint in request.spec.networks.values_mut() {
                endpoint.ipv4 = Some([10, 77, 0, 1].into());
                endpoint.mac = Some("02:aa:bb:cc:dd:ee".to_owned());
            }
        };
        host.run("aa", &["fixed"], fixed).await;
        assert_eq!(host.address("aa"), at("10.77.0.1", 0).ip());
        host.create("bb", |request| {
            on(&mut request.spec, &["fixed"]);
            fixed(request);
        })
        .await;
        assert!(host.start("bb").await.unwrap_err().to_string().contains("10.77.0.1 is in use"));
        host.stop("aa").await;
        host.start("bb").await.expect("the address is free");
        assert_eq!(host.address("bb"), at("10.77.0.1", 0).ip());
        let view = host.engine().view_container("bb").expect("it is there");
        assert_eq!(view.endpoints[0].mac, "02:aa:bb:cc:dd:ee");
        assert!(host.start("aa").await.is_err());
    });
}

#[test]
fn many_containers_start_at_once_and_all_are_published() {
    on_a_host(async |host| {
        const COUNT: u16 = 12;
        for number in 0..COUNT {
            host.create(&format!("c{number}"), |request| publish(&mut request.spec, 9000 + number))
                .await;
        }
        let names: Vec<String> = (0..COUNT).map(|number| format!("c{number}")).collect();
        let starts = names.iter().map(|name| host.start(name));
        for started in futures_util::future::join_all(starts).await {
            started.expect("it starts");
        }
        for name in &names {
            assert_eq!(host.resolve("c0", name).await, [host.address(name)], "{name}");
        }
    });
}

#[test]
fn datagrams_reach_a_published_port_by_either_family_and_their_answers_come_back() {
    on_a_host(async |host| {
        let udp =
            PortSpec { container: 80, protocol: Protocol::Udp, host_ip: None, host: (5353, 5353) };
        host.run("aa", &["bridge"], |request| request.spec.ports = vec![udp]).await;
        host.run("bb", &["bridge"], |_| ()).await;
        host.serve_datagrams("aa", "aa:").await;
        let gateway = host.engine().network("bridge").expect("it is there").subnets[0].gateway;
        for address in ["127.0.0.1", "::1", &gateway.to_string()] {
            for question in ["one", "two"] {
                let answer = ask_datagram(at(address, 5353), question, PATIENCE);
                assert_eq!(answer, Some(format!("aa:{question}")), "{address}");
            }
        }
        let target = SocketAddr::new(gateway, 5353);
        let answer = host.inside("bb", move || ask_datagram(target, "sibling", PATIENCE)).await;
        assert_eq!(answer.as_deref(), Some("aa:sibling"));
        for address in ["0.0.0.0:5353", "[::1]:5353"] {
            assert!(UdpSocket::bind(address).is_err(), "{address} is held");
        }
        assert!(ask(at("127.0.0.1", 5353), IMPATIENCE).is_none(), "TCP is not published");
        host.stop("aa").await;
        for address in ["127.0.0.1", "::1"] {
            assert_eq!(ask_datagram(at(address, 5353), "late", IMPATIENCE), None, "{address}");
        }
        drop(UdpSocket::bind("0.0.0.0:5353").expect("the port is free"));
        drop(UdpSocket::bind("[::]:5353").expect("the port is free"));
    });
}

#[test]
fn a_replica_that_turns_unhealthy_leaves_the_port_and_comes_back_when_it_is_well() {
    on_a_host(async |host| {
        for (name, word, number) in [("w1", "one", 1), ("w2", "two", 2)] {
            host.run(name, &["bridge"], |request| {
                request.replica = replica(number);
                publish(&mut request.spec, 8080);
                let probe = "if [ -e /sick ]; then exit 1; fi";
                request.spec.healthcheck = Some(Healthcheck {
                    test: vec!["CMD-SHELL".to_owned(), probe.to_owned()],
                    interval: 50_000_000,
                    retries: 1,
                    ..Healthcheck::default()
                });
            })
            .await;
            host.serve(name, word).await;
        }
        let answers = || {
            let answers = (0..32).filter_map(|_| ask_host("127.0.0.1", 8080));
            answers.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        };
        until("both answer", || answers() == ["one", "two"]).await;
        let row = host.engine().container("w1").expect("it is there").row();
        let pid = row.runtime.as_ref().expect("it runs").pid;
        let sick = format!("/proc/{pid}/root/sick");
        std::fs::write(&sick, "").expect("it is written");
        until("the sick one is left out", || answers() == ["two"]).await;
        std::fs::remove_file(&sick).expect("it goes");
        until("both answer again", || answers() == ["one", "two"]).await;
    });
}

#[test]
fn a_small_subnet_is_used_up_whole_and_what_is_given_back_is_used_again() {
    on_a_host(async |host| {
        let subnet = SubnetSpec {
            subnet: "10.78.0.0/29".parse().expect("a subnet"),
            gateway: None,
            ip_range: None,
            reserved: Vec::new(),
        };
        host.network("tiny", |spec| spec.subnets = vec![subnet]).await;
        let names = ["c1", "c2", "c3", "c4", "c5"];
        for name in names {
            host.run(name, &["tiny"], |_| ()).await;
        }
        let held: std::collections::BTreeSet<IpAddr> =
            names.iter().map(|name| host.address(name)).collect();
        let all = (2..7).map(|last| IpAddr::from([10, 78, 0, last]));
        assert_eq!(held, all.collect(), "all but the network's, the gateway's and the broadcast's");
        let mut request = CreateRequest::default();
        request.spec.image = "busybox".to_owned();
        request.spec.command = Some(vec!["sleep".to_owned()]);
        on(&mut request.spec, &["tiny"]);
        let refused = host.engine().create_container(request).await.unwrap_err().full();
        assert!(refused.contains("has no free address in 10.78.0.0/29"), "{refused}");
        let freed = host.address("c3");
        let options = RemoveOptions { force: true, volumes: true };
        host.engine().remove_container("c3", options).await.expect("it goes");
        host.run("c6", &["tiny"], |_| ()).await;
        assert_eq!(host.address("c6"), freed);
        assert_eq!(host.resolve("c1", "c6").await, [freed]);
        assert_eq!(host.resolve("c1", "c3").await, Vec::<IpAddr>::new());
    });
}
