//! The shim on a real kernel: a rootfs of busybox, one container, its log, exit record and an exec.
//! Needs root, `/bin/busybox` and cgroups; says so and passes where they are missing.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use bargee::runtime::bundle::{FileInside, LogConfig, Rootfs, ShimConfig};
use bargee::runtime::shim::exit;
use bargee::runtime::shim::protocol::{Event, Hello, Message, Purpose, Reply, Request, VERSION};
use serde_json::json;

use pace::slowed;

#[path = "it/support/pace.rs"]
mod pace;

struct Shim {
    folder: tempfile::TempDir,
    process: Child,
    control: BufReader<UnixStream>,
    events: Vec<Event>,
}

fn possible() -> bool {
    let possible = rustix::process::geteuid().is_root() && Path::new("/bin/busybox").exists();
    if !possible {
        eprintln!("skipped: needs root and /bin/busybox");
    }
    possible
}

impl Shim {
    fn new(name: &str, script: &str, terminal: bool) -> Self {
        Self::with(name, script, terminal, |_, _| {})
    }

    /// Lets `change` alter both configurations. The folder is on a tmpfs, which can hold an upper layer.
    fn with(
        name: &str,
        script: &str,
        terminal: bool,
        change: impl FnOnce(&mut serde_json::Value, &mut ShimConfig),
    ) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let base = folder.path();
        for part in ["image/bin", "bundle", "run"] {
            fs::create_dir_all(base.join(part)).unwrap();
        }
        fs::copy("/bin/busybox", base.join("image/bin/busybox")).unwrap();
        for applet in ["sh", "echo", "cat", "sleep", "hostname", "id", "stty", "tty"] {
            symlink("busybox", base.join("image/bin").join(applet)).unwrap();
        }
        let scratch = base.join("scratch");
        fs::create_dir(&scratch).unwrap();
        let mut config = json!({
            "ociVersion": "1.0.2",
            "hostname": "harbour",
            "root": { "path": "rootfs" },
            "process": process(&["sh", "-c", script], terminal),
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
                { "destination": "/data", "type": "bind", "source": scratch, "options": ["rbind", "ro"] },
            ],
            "linux": {
                "namespaces": [
                    { "type": "pid" }, { "type": "mount" }, { "type": "uts" },
                    { "type": "ipc" }, { "type": "network" }, { "type": "cgroup" },
                ],
                "maskedPaths": ["/proc/kcore", "/proc/scsi"],
                "readonlyPaths": ["/proc/sys"],
            },
        });
        let mut shim = ShimConfig {
            id: name.to_owned(),
            rootfs: Rootfs::Directory { path: base.join("image") },
            log: LogConfig::JsonFile { path: base.join("log"), max_size: 0, max_files: 1 },
            open_stdin: terminal,
            stdin_once: false,
            init: false,
            cgroup: format!("/bargee-shim-test-{}-{name}", std::process::id()),
            shim_oom_score_adj: 0,
            files: vec![FileInside {
                target: "/etc/secret".into(),
                content: b"hush\n".to_vec(),
                uid: 0,
                gid: 0,
                mode: 0o400,
            }],
            sources: Default::default(),
        };
        change(&mut config, &mut shim);
        fs::write(base.join("bundle/config.json"), config.to_string()).unwrap();
        fs::write(base.join("bundle/shim.json"), serde_json::to_vec(&shim).unwrap()).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_bargee"))
            .args(["__shim", "--bundle"])
            .arg(base.join("bundle"))
            .arg("--run")
            .arg(base.join("run"))
            .spawn()
            .unwrap();
        let control = BufReader::new(connect(base));
        let mut shim = Self { folder, process, control, events: Vec::new() };
        shim.write(&Hello { version: VERSION, purpose: Purpose::Control });
        shim
    }

    fn write(&mut self, message: &impl serde::Serialize) {
        let mut line = serde_json::to_vec(message).unwrap();
        line.push(b'\n');
        self.control.get_mut().write_all(&line).unwrap();
    }

    fn read(&mut self) -> Message {
        let mut line = String::new();
        self.control.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn ask(&mut self, request: &Request) -> Reply {
        self.write(request);
        loop {
            match self.read() {
                Message::Reply(reply) => return reply,
                Message::Event(event) => self.events.push(event),
            }
        }
    }

    fn event(&mut self) -> Event {
        if !self.events.is_empty() {
            return self.events.remove(0);
        }
        match self.read() {
            Message::Event(event) => event,
            Message::Reply(reply) => panic!("unasked reply {reply:?}"),
        }
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap();
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines().map(|text| line(text)["log"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            self.write(&Request::Shutdown);
            let _ = self.process.wait();
        }
    }
}

fn process(args: &[&str], terminal: bool) -> serde_json::Value {
    let capabilities = ["CAP_CHOWN", "CAP_KILL"];
    json!({
        "terminal": terminal,
        "user": { "uid": 0, "gid": 0 },
        "args": args,
        "env": ["PATH=/bin"],
        "cwd": "/",
        "noNewPrivileges": true,
        "capabilities": {
            "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
        },
    })
}

fn connect(base: &Path) -> UnixStream {
    let start = Instant::now();
    loop {
        match UnixStream::connect(base.join("run/shim.sock")) {
            Ok(socket) => {
                socket.set_read_timeout(Some(slowed(Duration::from_secs(20)))).unwrap();
                return socket;
            }
            Err(error) if start.elapsed() > slowed(Duration::from_secs(10)) => panic!("{error}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}

#[test]
fn a_program_runs_inside_and_its_output_and_code_are_kept() {
    if !possible() {
        return;
    }
    let script = "hostname; echo $$; cat /etc/secret; echo x > /data/x; \
                  echo 1 > /proc/sys/kernel/domainname; echo oops >&2; exit 7";
    let mut shim = Shim::new("run", script, false);
    let started = shim.ask(&Request::Start { incarnation: 3 });
    assert!(matches!(started, Reply::Started { .. }), "{started:?}");
    let Event::Exited(exit) = shim.event() else { panic!("no exit") };
    assert_eq!((exit.code, exit.incarnation, exit.oom), (7, 3, false));
    assert_eq!(exit::load(&shim.folder.path().join("run")).unwrap(), Some(exit));
    let log = shim.log();
    assert!(log.contains("harbour\n") && log.contains("1\n") && log.contains("hush\n"), "{log}");
    assert!(log.contains("oops\n"), "{log}");
    assert_eq!(log.matches("Read-only file system").count(), 2, "{log}");

    let again = shim.ask(&Request::Start { incarnation: 4 });
    assert!(matches!(again, Reply::Started { .. }), "{again:?}");
    assert!(matches!(shim.event(), Event::Exited(exit) if exit.incarnation == 4));
}

#[test]
fn an_exec_joins_the_container_and_a_signal_ends_it() {
    if !possible() {
        return;
    }
    let mut shim = Shim::new("exec", "exec sleep 100", false);
    let started = shim.ask(&Request::Start { incarnation: 1 });
    assert!(matches!(started, Reply::Started { .. }), "{started:?}");
    let exec = |id: &str, args: &[&str]| Request::Exec {
        id: id.to_owned(),
        process: process(args, false),
        tty: false,
        open_stdin: false,
    };
    let missing = shim.ask(&exec("none", &["no-such-program"]));
    assert!(matches!(missing, Reply::Failed { code: 127, .. }), "{missing:?}");
    let refused = shim.ask(&exec("folder", &["/bin"]));
    assert!(matches!(refused, Reply::Failed { code: 126, .. }), "{refused:?}");
    let script = "hostname; echo $(cat /proc/1/comm); exit 5";
    let reply = shim.ask(&exec("one", &["sh", "-c", script]));
    assert!(matches!(reply, Reply::ExecStarted { .. }), "{reply:?}");
    assert_eq!(shim.event(), Event::ExecExited { id: "one".into(), code: 5 });

    let mut attached = connect(shim.folder.path());
    let purpose =
        Purpose::Attach { exec: Some("one".into()), stdin: false, stdout: true, stderr: true };
    let mut hello = serde_json::to_vec(&Hello { version: VERSION, purpose }).unwrap();
    hello.push(b'\n');
    attached.write_all(&hello).unwrap();
    let mut output = Vec::new();
    std::io::Read::read_to_end(&mut attached, &mut output).unwrap();
    let output = String::from_utf8_lossy(&output).into_owned();
    assert!(output.contains("harbour\n") && output.contains("sleep\n"), "{output:?}");

    assert_eq!(shim.ask(&Request::Pause), Reply::Done);
    assert_eq!(shim.ask(&Request::Resume), Reply::Done);
    assert_eq!(shim.ask(&Request::Signal { signal: 9, all: false }), Reply::Done);
    assert!(matches!(shim.event(), Event::Exited(exit) if exit.code == 137));
}

#[test]
fn a_terminal_is_opened_inside() {
    if !possible() {
        return;
    }
    let mut shim = Shim::new("tty", "tty; stty size", true);
    let started = shim.ask(&Request::Start { incarnation: 1 });
    assert!(matches!(started, Reply::Started { .. }), "{started:?}");
    assert!(matches!(shim.event(), Event::Exited(exit) if exit.code == 0));
    assert!(shim.log().contains("/dev/pts/0"), "{}", shim.log());
}

#[test]
fn an_overlay_a_user_a_filter_and_sysctls_hold() {
    if !possible() {
        return;
    }
    let script = "id -u; id -g; cat /proc/self/status; echo new > /tmp/new; \
                  cat /proc/sys/net/ipv4/ip_default_ttl; hostname other";
    let mut shim = Shim::with("overlay", script, false, |config, shim| {
        let Rootfs::Directory { path: image } = &shim.rootfs else { panic!("a folder") };
        let base = image.parent().unwrap().to_owned();
        for name in ["upper", "work", "top", "top/tmp"] {
            fs::create_dir(base.join(name)).unwrap();
        }
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        fs::set_permissions(base.join("top/tmp"), open).unwrap();
        shim.rootfs = Rootfs::Overlay {
            lower: vec![base.join("top"), image.clone()],
            upper: base.join("upper"),
            work: base.join("work"),
        };
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [7] });
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }]);
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_default_ttl": "77" });
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{ "names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }],
        });
    });
    let started = shim.ask(&Request::Start { incarnation: 1 });
    assert!(matches!(started, Reply::Started { .. }), "{started:?}");
    assert!(matches!(shim.event(), Event::Exited(_)));
    let log = shim.log();
    assert!(log.starts_with("1000\n1001\n"), "{log}");
    for line in
        ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000021", "Seccomp:\t2", "Groups:\t7"]
    {
        assert!(log.contains(line), "{line} is not in {log}");
    }
    assert!(log.contains("\n77\n") && log.contains("Function not implemented"), "{log}");
    assert_eq!(fs::read_to_string(shim.folder.path().join("upper/tmp/new")).unwrap(), "new\n");
}

#[test]
fn an_init_of_our_own_reaps_and_forwards_signals() {
    if !possible() {
        return;
    }
    let script = "trap 'exit 9' TERM; echo pid $$; (sleep 0 &); while :; do sleep 0.05; done";
    let mut shim = Shim::with("init", script, false, |_, shim| shim.init = true);
    let started = shim.ask(&Request::Start { incarnation: 1 });
    assert!(matches!(started, Reply::Started { .. }), "{started:?}");
    let start = Instant::now();
    while !shim.log().contains("pid 2\n") {
        assert!(start.elapsed() < slowed(Duration::from_secs(10)), "{}", shim.log());
        std::thread::yield_now();
    }
    assert_eq!(shim.ask(&Request::Signal { signal: 15, all: false }), Reply::Done);
    assert!(matches!(shim.event(), Event::Exited(exit) if exit.code == 9));
}

#[test]
fn a_missing_program_is_127_also_under_an_init() {
    if !possible() {
        return;
    }
    for init in [false, true] {
        let mut shim = Shim::with("missing", "", false, |config, shim| {
            config["process"]["args"] = json!(["no-such-program"]);
            shim.init = init;
        });
        let failed = shim.ask(&Request::Start { incarnation: 1 });
        assert!(matches!(failed, Reply::Failed { code: 127, .. }), "{failed:?}");
    }
}

#[test]
fn a_shutdown_ends_a_paused_container() {
    if !possible() {
        return;
    }
    let mut shim = Shim::new("paused", "exec sleep 100", false);
    assert!(matches!(shim.ask(&Request::Start { incarnation: 1 }), Reply::Started { .. }));
    assert_eq!(shim.ask(&Request::Pause), Reply::Done);
    assert_eq!(shim.ask(&Request::Shutdown), Reply::Done);
    assert!(shim.process.wait().unwrap().success());
}
