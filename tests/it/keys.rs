//! Each key of a stack file arrives in the running container; what limits and mounts come to is in `limits`.

use serde_json::Value;

use crate::support::engine::{Engine, PATIENCE, possible, wait_for};
use crate::support::folder::{Folder, text};

const STACK: &str = "
name: keys
x-common: &common {ANCHORED: 'yes', PLAIN: overridden}
services:
  main:
    image: busybox
    container_name: keys-own-name
    entrypoint: [sh, -c]
    command: ['echo $$0 $$1 > /started; exec sleep 1000', first, second]
    init: true
    stop_grace_period: 1s
    environment:
      <<: *common
      PLAIN: ${PLAIN}
      DEFAULT: ${NOPE:-fallback}
      UNSET: ${NOPE-fallback}
      EMPTY: ${EMPTY-fallback}
      EMPTY_TOO: ${EMPTY:-fallback}
      ALTERNATE: ${PLAIN:+alternate}
      NO_ALTERNATE: ${NOPE+alternate}
      REQUIRED: ${PLAIN:?must be set}
      NESTED: ${NOPE:-${PLAIN}}
      DOLLAR: $$HOME
      FROM_SHELL:
      FILE_ONE: environment wins
    env_file: [one.env, {path: two.env, required: false}, {path: missing.env, required: false}]
    hostname: keyhost
    domainname: example.org
    labels: {tier: front}
    group_add: ['2000']
    tty: true
    stdin_open: true
    extra_hosts: ['elsewhere=10.9.8.7', 'gate=host-gateway']
    dns: [10.0.0.53]
    dns_search: [example.org]
    dns_opt: [ndots:3]
    logging: {driver: json-file, options: {max-size: 1m, max-file: '2'}}
    expose: ['9000']
    ports: ['127.0.0.1::7000', {target: 7001, host_ip: 127.0.0.1, protocol: udp}]
    devices: ['/dev/kmsg:/dev/zip:r']
    secrets: [token]
    configs: [{source: motd, target: /etc/motd}]
    networks:
      front: {aliases: [www], ipv4_address: 10.PART.10}
      back: {}
    deploy:
      resources: {limits: {memory: 48m, cpus: '0.25', pids: 33}, reservations: {memory: 16m}}
  twin: {image: busybox, command: [sleep, '1000'], init: true, scale: 2, networks: [back], stop_grace_period: 1s}
  three: {image: busybox, command: [sleep, '1000'], init: true, deploy: {replicas: 3}, network_mode: none, stop_grace_period: 1s}
  onhost: {image: busybox, command: [sleep, '1000'], init: true, network_mode: host, stop_grace_period: 1s}
  guest: {image: busybox, command: [sleep, '1000'], init: true, network_mode: 'service:main', stop_grace_period: 1s}
  signal:
    image: busybox
    command: [sh, -c, 'trap \"exit 33\" USR1; touch /ready; while true; do sleep 0.05; done']
    stop_signal: SIGUSR1
    healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms}
    networks: [back]
  fails:
    image: busybox
    command: [sh, -c, exit 6]
    networks: [back]
    deploy: {restart_policy: {condition: on-failure, max_attempts: 2, delay: 10ms}}
  left-out: {image: not/here, profiles: [debug]}
networks:
  front: {ipam: {config: [{subnet: 10.PART.0/24}]}}
  back: {internal: true}
secrets: {token: {environment: TOKEN}}
configs: {motd: {content: 'hello ${PLAIN}'}}
";

/// The stack brought up, with a subnet of this process's own.
fn keys() -> Option<(Engine, Folder)> {
    if !possible() {
        return None;
    }
    let engine = Engine::start();
    engine.load_busybox("busybox");
    let number = std::process::id();
    let part = format!("{}.{}", 100 + number / 250 % 100, number % 250);
    let folder = Folder::new(&STACK.replace("PART", &part));
    folder.write(".env", "PLAIN=from dotenv\nEMPTY=\n");
    folder.write("one.env", "FILE_ONE=1\nFILE_TWO=1\n");
    folder.write("two.env", "FILE_TWO=2 # a remark\nQUOTED=\"a b\"\n");
    let up = folder
        .command(&engine, &["up", "-d"])
        .env("FROM_SHELL", "shell")
        .env("TOKEN", "t0ken")
        .output()
        .expect("the binary starts");
    assert!(up.status.success(), "{}\n{}", text(&up.stderr), engine.log());
    Some((engine, folder))
}

#[test]
fn every_key_arrives_in_the_container() {
    let Some((engine, folder)) = keys() else { return };
    let inside = |words: &[&str]| folder.ok(&engine, &[&["exec", "keys-own-name"], words].concat());
    let inspect = |name: &str| -> Value {
        let all = folder.ok(&engine, &["inspect", name]);
        serde_json::from_str::<Value>(&all).expect("JSON")[0].clone()
    };

    // What the program is given.
    assert_eq!(inside(&["cat", "/started"]), "first second\n");
    let env = inside(&["env"]);
    let variables: Vec<&str> = env.lines().collect();
    for expected in [
        "ANCHORED=yes",
        "PLAIN=from dotenv",
        "DEFAULT=fallback",
        "UNSET=fallback",
        "EMPTY=",
        "EMPTY_TOO=fallback",
        "ALTERNATE=alternate",
        "NO_ALTERNATE=",
        "REQUIRED=from dotenv",
        "NESTED=from dotenv",
        "DOLLAR=$HOME",
        "FROM_SHELL=shell",
        "FILE_ONE=environment wins",
        "FILE_TWO=2",
        "QUOTED=a b",
    ] {
        assert!(variables.contains(&expected), "no {expected} in:\n{env}");
    }
    assert_eq!(inside(&["hostname"]), "keyhost\n");
    assert!(inside(&["id"]).contains("2000(extra)"), "{}", inside(&["id"]));
    assert_eq!(inside(&["cat", "/run/secrets/token"]), "t0ken");
    assert_eq!(inside(&["cat", "/etc/motd"]), "hello from dotenv");
    inside(&["test", "-c", "/dev/zip"]);
    let write = folder.run(&engine, &["exec", "keys-own-name", "sh", "-c", "echo x > /dev/zip"]);
    assert!(!write.status.success(), "a device that is to be read can be written");
    let state = inspect("keys-own-name");
    assert_eq!(
        (&state["Config"]["Tty"], &state["Config"]["OpenStdin"]),
        (&true.into(), &true.into())
    );
    assert_eq!(state["Config"]["Labels"]["tier"], "front");
    assert_eq!(state["Config"]["Domainname"], "example.org");
    assert_eq!(state["HostConfig"]["LogConfig"]["Config"]["max-file"], "2");
    assert_eq!(state["HostConfig"]["Memory"], 48 << 20);
    assert_eq!(state["HostConfig"]["NanoCpus"], 250_000_000);
    assert_eq!(state["HostConfig"]["PidsLimit"], 33);
    assert_eq!(state["HostConfig"]["MemoryReservation"], 16 << 20);

    // Where it stands in the network.
    let hosts = inside(&["cat", "/etc/hosts"]);
    assert!(hosts.contains("10.9.8.7\telsewhere") && hosts.contains("\tgate"), "{hosts}");
    let resolver = inside(&["cat", "/etc/resolv.conf"]);
    for line in ["search example.org", "ndots:3"] {
        assert!(resolver.contains(line), "no {line} in:\n{resolver}");
    }
    assert_eq!(state["HostConfig"]["Dns"][0], "10.0.0.53");
    let networks = &state["NetworkSettings"]["Networks"];
    let address = networks["keys_front"]["IPAddress"].as_str().expect("an address");
    assert!(address.ends_with(".10"), "{networks}");
    let addresses = inside(&["ip", "-o", "addr"]);
    assert!(addresses.contains(address), "{addresses}");
    assert!(networks["keys_front"]["Aliases"].to_string().contains("\"www\""), "{networks}");
    assert!(networks["keys_back"]["IPAddress"].as_str().is_some_and(|ip| !ip.is_empty()));
    assert!(state["Config"]["ExposedPorts"]["9000/tcp"].is_object(), "{}", state["Config"]);
    let ports = folder.ok(&engine, &["port", "keys-own-name"]);
    assert!(ports.contains("7000/tcp -> 127.0.0.1:") && ports.contains("7001/udp -> 127.0.0.1:"));

    // Replicas, and networks of other kinds.
    let names = folder.ok(&engine, &["ps", "--stack", "keys", "--format", "{{.Name}}"]);
    let count = |service: &str| names.matches(&format!("keys-{service}-")).count();
    assert_eq!((count("twin"), count("three"), count("left-out")), (2, 3, 0), "{names}");
    let exec = |service: &str, words: &[&str]| {
        folder.ok(&engine, &[&["exec", &format!("keys/{service}")], words].concat())
    };
    assert!(!exec("three", &["ip", "-o", "link"]).contains("eth0"));
    let own = std::fs::read_link("/proc/self/ns/net").expect("proc");
    assert_eq!(exec("onhost", &["readlink", "/proc/self/ns/net"]).trim(), own.to_string_lossy());
    assert!(exec("guest", &["ip", "-o", "addr"]).contains(address));
    let twin = inspect("keys-twin-1");
    let gateway = exec("twin", &["ip", "route"]);
    assert!(!gateway.contains("default"), "an internal network leads out: {gateway}");
    assert_eq!(twin["HostConfig"]["NetworkMode"], "keys_back");

    // Its end.
    let failed = wait_for(PATIENCE, || {
        let words = [
            "ps",
            "-a",
            "--stack",
            "keys",
            "--format",
            "{{.State}} {{.ExitCode}} {{.Restarts}}",
            "fails",
        ];
        (folder.ok(&engine, &words) == "exited 6 2\n").then_some(())
    });
    assert!(failed.is_some(), "{}", inspect("keys-fails-1")["State"]);
    let ready = wait_for(PATIENCE, || {
        let health = inspect("keys-signal-1")["State"]["Health"]["Status"].clone();
        (health == "healthy").then_some(())
    });
    assert!(ready.is_some());
    folder.ok(&engine, &["stop", "keys/signal"]);
    assert_eq!(inspect("keys-signal-1")["State"]["ExitCode"], 33);
    folder.ok(&engine, &["down", "--stack", "keys", "-t", "1"]);
}

#[test]
fn a_profile_adds_its_services_and_a_toml_file_says_the_same() {
    if !possible() {
        return;
    }
    let engine = Engine::start();
    let folder = Folder::new(
        "name: prof\nservices:\n  web: {image: bargee/hello}\n  debug: {image: bargee/hello, profiles: [debug]}\n",
    );
    let names = || folder.ok(&engine, &["ps", "--stack", "prof", "--services"]);
    folder.ok(&engine, &["up", "-d"]);
    assert_eq!(names(), "web\n");
    folder.ok(&engine, &["up", "-d", "--profile", "debug"]);
    assert_eq!(names(), "debug\nweb\n");
    // Without the profile it is left alone, not an orphan.
    folder.ok(&engine, &["up", "-d"]);
    assert_eq!(names(), "debug\nweb\n");
    folder.ok(&engine, &["down"]);
    // Named, a service needs no profile.
    folder.ok(&engine, &["up", "-d", "debug"]);
    assert_eq!(names(), "debug\n");
    folder.ok(&engine, &["down"]);
    folder.write(
        "stack.toml",
        "name = 'prof'\n[services.web]\nimage = 'bargee/hello'\nmem_limit = '32m'\nenvironment = { A = '${A:-b}' }\n",
    );
    folder.ok(&engine, &["up", "-d", "-f", "stack.toml"]);
    let format = "{{.HostConfig.Memory}} {{.Config.Env}}";
    let said = folder.ok(&engine, &["inspect", "-f", format, "prof-web-1"]);
    assert!(said.starts_with("33554432 [") && said.contains("A=b"), "{said}");
    folder.ok(&engine, &["down", "-f", "stack.toml"]);
}
