//! Stock clients against the engine: docker's command line, docker-py and bollard.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ExecConfig, HostConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, EventsOptionsBuilder,
    LogsOptionsBuilder, StatsOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::support::clients;
use crate::support::engine::{self, Engine};
use crate::support::pace::slowed;

/// An engine with the image `bb`, or nothing where none can run.
fn engine() -> Option<Engine> {
    engine::possible().then(|| {
        let engine = Engine::start();
        engine.load_busybox("bb");
        engine
    })
}

fn docker() -> Option<Engine> {
    clients::docker()?;
    engine()
}

fn run(engine: &Engine, arguments: &[&str]) -> Output {
    let mut command = engine.docker_command(arguments);
    command.stdin(Stdio::null()).output().expect("docker starts")
}

fn code(engine: &Engine, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run(engine, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs docker with something on its standard input.
fn piped(engine: &Engine, arguments: &[&str], input: &[u8]) -> Output {
    use std::io::Write as _;
    let mut command = engine.docker_command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("docker starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input).expect("docker reads");
    drop(stdin);
    child.wait_with_output().expect("docker ends")
}

#[test]
fn docker_run_exits_as_its_program_or_says_why_it_could_not() {
    let Some(engine) = docker() else { return };
    let run = |words: &[&str]| {
        code(&engine, &[&["run", "--rm", "--network", "none", "bb"], words].concat())
    };
    assert_eq!(run(&["sh", "-c", "echo o; echo e >&2"]), (Some(0), "o\n".into(), "e\n".into()));
    assert_eq!(run(&["sh", "-c", "exit 3"]).0, Some(3));
    // Init can't kill itself, pid_namespaces(7); a shell ends as its child did.
    assert_eq!(run(&["sh", "-c", "sleep 1000 & kill -9 $!; wait $!"]).0, Some(137));
    let missing = run(&["nosuch"]);
    assert_eq!(missing.0, Some(127), "{}", missing.2);
    assert!(missing.2.contains("executable file not found in $PATH"), "{}", missing.2);
    let forbidden = run(&["/etc"]);
    assert_eq!(forbidden.0, Some(126), "{}", forbidden.2);
    let refused = code(&engine, &["run", "--rm", "--network", "nosuch", "bb", "true"]);
    assert_eq!(refused.0, Some(125));
    assert!(refused.2.contains("network nosuch not found"), "{}", refused.2);
    assert!(!refused.2.contains("Unable to find image"), "{}", refused.2);
    let relative = code(&engine, &["run", "--rm", "-w", "here", "bb", "true"]);
    assert!(relative.2.contains("it needs to be an absolute path"), "{}", relative.2);
    let signal = code(&engine, &["run", "--rm", "--stop-signal", "BAD", "bb", "true"]);
    assert!(signal.2.contains("Invalid signal: BAD"), "{}", signal.2);
    assert_eq!(engine.docker(&["ps", "-aq"]), "", "--rm leaves nothing, a refusal neither");
}

#[test]
fn docker_pipes_input_whole_and_its_end() {
    let Some(engine) = docker() else { return };
    let arguments = ["run", "--rm", "-i", "--network", "none", "bb", "wc", "-c"];
    let counted = piped(&engine, &arguments, &vec![b'x'; 3_000_000]);
    assert_eq!(String::from_utf8_lossy(&counted.stdout).trim(), "3000000");
    engine.docker(&["run", "-d", "--name", "up", "--network", "none", "bb", "sleep", "1000"]);
    assert_eq!(piped(&engine, &["exec", "-i", "up", "cat"], b"in\n").stdout, b"in\n");
}

#[test]
fn docker_exec_has_the_users_environment_folder_and_code() {
    let Some(engine) = docker() else { return };
    engine.docker(&["run", "-d", "--name", "up", "--network", "none", "bb", "sleep", "1000"]);
    let script = "id -u; pwd; echo $X";
    let arguments = ["exec", "-u", "7", "-w", "/tmp", "-e", "X=y", "up", "sh", "-c", script];
    assert_eq!(engine.docker(&arguments), "7\n/tmp\ny");
    assert_eq!(code(&engine, &["exec", "up", "sh", "-c", "exit 7"]).0, Some(7));
    let missing = code(&engine, &["exec", "up", "nosuch"]);
    assert_eq!(missing.0, Some(127), "{missing:?}");
    assert!(missing.1.contains("executable file not found"), "{missing:?}");
    engine.docker(&["pause", "up"]);
    let paused = code(&engine, &["exec", "up", "true"]);
    assert!(paused.2.contains("is paused, unpause the container before exec"), "{paused:?}");
    engine.docker(&["unpause", "up"]);
    engine.docker(&["stop", "-t", "0", "up"]);
    let stopped = code(&engine, &["exec", "up", "true"]);
    assert!(stopped.2.contains("is not running"), "{stopped:?}");
}

#[test]
fn docker_verbs_of_all_families_work() {
    let Some(engine) = docker() else { return };
    let docker = |words: &[&str]| engine.docker(words);
    docker(&["network", "create", "net"]);
    docker(&["volume", "create", "--label", "a=b", "data"]);
    let run = ["run", "-d", "--name", "one", "--network", "net", "-v", "data:/v", "-m", "64m"];
    docker(&[&run[..], &["bb", "sh", "-c", "echo up; exec sleep 1000"]].concat());
    assert_eq!(docker(&["ps", "--format", "{{.Names}} {{.Image}} {{.State}}"]), "one bb running");
    assert_eq!(docker(&["inspect", "-f", "{{.HostConfig.MemorySwap}}", "one"]), "134217728");
    assert!(docker(&["top", "one"]).contains("sleep 1000"));
    assert!(docker(&["stats", "--no-stream", "one"]).contains("64MiB"));
    let used = code(&engine, &["volume", "rm", "data"]);
    assert!(used.0 == Some(1) && used.2.contains("volume is in use"), "{used:?}");
    let busy = code(&engine, &["network", "rm", "net"]);
    assert!(busy.0 == Some(1) && busy.2.contains("has active endpoints"), "{busy:?}");
    docker(&["rename", "one", "two"]);
    docker(&["update", "--restart", "no", "--pids-limit", "50", "two"]);
    docker(&["restart", "-t", "0", "two"]);
    let both = || (docker(&["logs", "two"]) == "up\nup").then_some(());
    engine::wait_for(engine::PATIENCE, both).expect("it is up again");
    docker(&["kill", "two"]);
    assert_eq!(docker(&["wait", "two"]), "137");
    assert_eq!(docker(&["logs", "two"]), "up\nup");
    docker(&["rm", "two"]);
    docker(&["tag", "bb", "x/y:1"]);
    assert_eq!(docker(&["images", "-q", "bb"]).lines().count(), 1, "the other name is not listed");
    docker(&["rmi", "x/y:1"]);
    let archive = engine.folder().join("bb.tar");
    docker(&["save", "-o", &archive.to_string_lossy(), "bb"]);
    docker(&["rmi", "bb"]);
    assert_eq!(docker(&["load", "-i", &archive.to_string_lossy()]), "Loaded image: bb:latest");
    assert!(docker(&["system", "prune", "-f"]).contains("Total reclaimed space"));
    assert_eq!(docker(&["volume", "rm", "data"]), "data");
    assert_eq!(docker(&["info", "-f", "{{.Containers}} {{.OSType}}"]), "0 linux");
    for words in [["inspect", "nosuch"], ["logs", "nosuch"], ["start", "nosuch"]] {
        assert_eq!(code(&engine, &words).0, Some(1), "{words:?}");
    }
}

#[test]
fn docker_copies_compares_exports_and_commits() {
    let Some(engine) = docker() else { return };
    let docker = |words: &[&str]| engine.docker(words);
    let at = |name: &str| engine.folder().join(name).to_string_lossy().into_owned();
    docker(&["create", "--name", "box", "--network", "none", "bb", "cat", "/tmp/tree/a"]);
    std::fs::create_dir(at("tree")).expect("a folder");
    std::fs::write(at("tree/a"), "content\n").expect("a file");
    docker(&["cp", &at("tree"), "box:/tmp"]);
    docker(&["cp", &at("tree/a"), "box:/home/renamed"]);
    assert_eq!(docker(&["start", "-a", "box"]), "content");
    docker(&["cp", "box:/tmp/tree/.", &at("back")]);
    assert_eq!(std::fs::read_to_string(at("back/a")).expect("it was copied"), "content\n");
    let into_folder = code(&engine, &["cp", &at("tree"), "box:/home/renamed"]);
    assert_eq!(
        (into_folder.0, into_folder.2.trim().ends_with("cannot copy directory")),
        (Some(1), true)
    );
    let missing = code(&engine, &["cp", "box:/nosuch", &at("x")]);
    // Docker 20 makes a message of its own of a 404.
    let messages =
        ["Could not find the file /nosuch in container box", "container:path: box:/nosuch"];
    assert_eq!(missing.0, Some(1));
    assert!(messages.iter().any(|message| missing.2.contains(message)), "{}", missing.2);
    let changes = docker(&["diff", "box"]);
    let mut changes: Vec<&str> = changes.lines().collect();
    changes.sort_unstable();
    assert_eq!(changes, ["A /home/renamed", "A /tmp/tree", "A /tmp/tree/a", "C /home", "C /tmp"]);
    docker(&["export", "-o", &at("export.tar"), "box"]);
    let exported = std::fs::File::open(at("export.tar")).expect("it was exported");
    let mut exported = tar::Archive::new(exported);
    let names = exported.entries().expect("an archive");
    let path = std::path::Path::new("tmp/tree/a");
    let found = names
        .map(|entry| entry.expect("an entry"))
        .any(|entry| entry.path().is_ok_and(|name| name == path));
    assert!(found);
    docker(&[
        "commit",
        "-a",
        "me",
        "-m",
        "why",
        "-c",
        "CMD [\"cat\", \"/home/renamed\"]",
        "box",
        "made",
    ]);
    assert_eq!(docker(&["run", "--rm", "--network", "none", "made"]), "content");
    assert_eq!(docker(&["inspect", "-f", "{{.Author}} {{.Comment}}", "made"]), "me why");
    // Docker's command line needs no answer's text to know these.
    let paths = docker(&["inspect", "-f", "{{json .HostConfig.MaskedPaths}}", "box"]);
    assert!(paths.contains("\"/proc/kcore\""), "{paths}");
}

const PYTHON: &str = r#"
import docker, io, tarfile
c = docker.from_env()
assert c.ping() and c.version()["ApiVersion"] == "1.51"
assert c.containers.run("bb", "echo hi", network_mode="none", remove=True) == b"hi\n"
try:
    c.containers.run("bb", ["sh", "-c", "echo bad >&2; exit 3"], network_mode="none", remove=True)
    assert False
except docker.errors.ContainerError as e:
    assert e.exit_status == 3 and e.stderr == b"bad\n", e
x = c.containers.run("bb", "sleep 1000", network_mode="none", detach=True)
r = x.exec_run(["sh", "-c", "echo o; echo e >&2; exit 4"], demux=True)
assert (r.exit_code, r.output) == (4, (b"o\n", b"e\n")), r
assert x.exec_run("echo t", tty=True).output == b"t\r\n"
r = x.exec_run("nosuch")
assert r.exit_code == 127 and b"executable file not found" in r.output, r
assert list(x.exec_run("echo s", stream=True).output) == [b"s\n"]
s = x.exec_run("cat", stdin=True, socket=True).output._sock
s.sendall(b"abc\n")
assert s.recv(100).endswith(b"abc\n")
s.close()
assert x.stats(stream=False)["pids_stats"]["current"] >= 1
x.remove(force=True)
x = c.containers.create("bb", "cat", stdin_open=True, network_mode="none")
s = x.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
x.start()
s._sock.sendall(b"hello\n")
assert s._sock.recv(100).endswith(b"hello\n")
x.remove(force=True)
x = c.containers.run("bb", "sh -c 'for i in 1 2 3; do echo $i; done'", network_mode="none", detach=True)
assert list(x.logs(stream=True, follow=True)) == [b"1\n", b"2\n", b"3\n"]
assert x.wait()["StatusCode"] == 0
e = c.events(decode=True, since=1, filters={"container": x.id})
assert [next(e)["Action"] for _ in range(3)] == ["create", "start", "die"]
e.close()
x.remove()
c.volumes.create("data")
mounts = {"data": {"bind": "/v", "mode": "rw"}}
assert c.containers.run("bb", "sh -c 'echo x > /v/f; cat /v/f'", volumes=mounts, network_mode="none", remove=True) == b"x\n"
c.volumes.get("data").remove()
n = c.networks.create("net")
n.remove()
x = c.containers.create("bb", "cat /tmp/f", network_mode="none")
b = io.BytesIO()
t = tarfile.open(fileobj=b, mode="w")
t.addfile(tarfile.TarInfo("f"), io.BytesIO(b""))
t.close()
assert x.put_archive("/tmp", b.getvalue())
chunks, stat = x.get_archive("/tmp/f")
assert stat["name"] == "f" and stat["mode"] == 0o644 and stat["linkTarget"] == "", stat
assert tarfile.open(fileobj=io.BytesIO(b"".join(chunks))).getnames() == ["f"]
assert x.diff() == [{"Path": "/tmp", "Kind": 0}, {"Path": "/tmp/f", "Kind": 1}], x.diff()
assert "tmp/f" in tarfile.open(fileobj=io.BytesIO(b"".join(x.export()))).getnames()
made = x.commit("made", "1", message="why", conf={"Env": ["A=b"]}, changes="CMD echo $A")
assert c.containers.run("made:1", network_mode="none", remove=True) == b"b\n"
x.remove()
c.images.remove("made:1")
i = c.images.get("bb")
assert c.images.load(b"".join(i.save(named=True)))[0].tags == ["bb:latest"]
"#;

#[test]
fn docker_py_works() {
    let Some(python) = clients::python() else { return };
    let Some(engine) = engine() else { return };
    let output = Command::new(python)
        .args(["-c", PYTHON])
        .env("DOCKER_HOST", format!("unix://{}", engine.socket().display()))
        .output()
        .expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Joins what is on both streams.
async fn text(
    mut output: impl futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
) -> String {
    let mut bytes = Vec::new();
    while let Some(piece) = output.next().await {
        bytes.extend(piece.expect("a piece of output").into_bytes());
    }
    String::from_utf8(bytes).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn bollard_works() {
    let Some(engine) = engine() else { return };
    let socket = engine.socket().to_string_lossy().into_owned();
    let work = async {
        let docker = Docker::connect_with_unix(&socket, 20, bollard::API_DEFAULT_VERSION)
            .expect("a client")
            .negotiate_version()
            .await
            .expect("a version");
        let name = CreateContainerOptionsBuilder::default().name("cat").build();
        let body = ContainerCreateBody {
            image: Some("bb".into()),
            cmd: Some(vec!["sh".into(), "-c".into(), "cat; exit 5".into()]),
            open_stdin: Some(true),
            stdin_once: Some(true),
            attach_stdin: Some(true),
            host_config: Some(HostConfig {
                network_mode: Some("none".into()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        docker.create_container(Some(name), body).await.expect("a container");
        let all = AttachContainerOptionsBuilder::default();
        let all = all.stdin(true).stdout(true).stderr(true).stream(true).build();
        let mut attached = docker.attach_container("cat", Some(all)).await.expect("streams");
        docker.start_container("cat", None).await.expect("it starts");

        let exec = ExecConfig {
            cmd: Some(vec!["sh".into(), "-c".into(), "echo exec; exit 6".into()]),
            attach_stdout: Some(true),
            ..ExecConfig::default()
        };
        let exec = docker.create_exec("cat", exec).await.expect("an exec").id;
        let started = docker.start_exec(&exec, None::<StartExecOptions>).await.expect("it starts");
        let StartExecResults::Attached { output, .. } = started else { panic!("it is detached") };
        assert_eq!(text(output).await, "exec\n");
        assert_eq!(docker.inspect_exec(&exec).await.expect("the exec").exit_code, Some(6));

        let once = StatsOptionsBuilder::default().stream(false).build();
        let stats = docker.stats("cat", Some(once)).next().await.expect("an answer");
        let pids = stats.expect("figures").pids_stats.expect("figures of processes");
        assert!(pids.current.is_some_and(|count| count >= 1), "{pids:?}");

        attached.input.write_all(b"hello\n").await.expect("it is read");
        attached.input.shutdown().await.expect("one side closes");
        assert_eq!(text(attached.output).await, "hello\n");
        let stopped = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let mut exit = docker.wait_container("cat", Some(stopped));
        // Bollard makes an error of a code that is not zero.
        match exit.next().await.expect("an answer") {
            Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => {
                assert_eq!(code, 5)
            }
            other => panic!("{other:?}"),
        }
        let logs = LogsOptionsBuilder::default().stdout(true).follow(true).build();
        assert_eq!(text(docker.logs("cat", Some(logs))).await, "hello\n");
        let since = EventsOptionsBuilder::default().since("1").until("0.1").build();
        assert!(docker.events(Some(since)).next().await.is_some_and(|event| event.is_err()));
        let since = EventsOptionsBuilder::default().since("1").build();
        let first = docker.events(Some(since)).next().await.expect("an event").expect("an event");
        assert!(first.action.is_some());
    };
    tokio::time::timeout(slowed(Duration::from_secs(60)), work).await.expect("nothing hangs");
}
