//! A docker daemon of a test's own.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::engine::{Engine, PATIENCE, wait_for};
use super::folder::text;
use super::machines::{HOST, Machines, OUTSIDE, address_of, pid_of, rules, serving};
use super::neighbour::{ask_from, is_closed_from};
use super::process;

/// Programs that it needs.
pub const DOCKER: [&str; 4] = ["dockerd", "docker", "iptables", "nft"];

/// Dropping it ends it and its containers.
#[derive(Debug)]
pub struct Docker {
    folder: TempDir,
    process: Child,
}

/// Which iptables docker works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Nftables,
    Legacy,
}

impl Docker {
    pub fn start() -> Self {
        Self::on(Backend::Nftables)
    }

    pub fn on(backend: Backend) -> Self {
        let folder = TempDir::with_prefix_in("dockerd-", "/dev/shm").expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let log = File::create(folder.path().join("log")).expect("a log");
        let mut command = Command::new("dockerd");
        command
            .args(["--data-root", &at("data"), "--exec-root", &at("exec")])
            .args(["--pidfile", &at("pid"), "-H", &format!("unix://{}", at("sock"))])
            .args(["--bip", "10.199.0.1/24", "--config-file", &at("none.json")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log is shared"))
            .stderr(log);
        std::fs::write(folder.path().join("none.json"), "{}").expect("an empty configuration");
        if backend == Backend::Legacy {
            // As `update-alternatives --set iptables` does for the whole machine.
            let programs = folder.path().join("programs");
            std::fs::create_dir(&programs).expect("a folder");
            for name in ["iptables", "ip6tables"] {
                let target = format!("/usr/sbin/{name}-legacy");
                std::os::unix::fs::symlink(target, programs.join(name)).expect("a link");
            }
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", programs.display()));
        }
        let process = command.spawn().expect("dockerd starts");
        let this = Self { folder, process };
        let up = wait_for(PATIENCE, || this.try_run(&["version"]).is_ok().then_some(()));
        assert!(up.is_some(), "dockerd does not answer:\n{}", this.log());
        let archive = this.folder.path().join("image.tar");
        std::fs::write(&archive, super::image::busybox("busybox")).expect("an archive");
        this.run(&["load", "-i", &archive.display().to_string()]);
        this
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn try_run(&self, arguments: &[&str]) -> Result<String, String> {
        let socket = format!("unix://{}", self.folder.path().join("sock").display());
        let output = Command::new("docker")
            .args(["-H", &socket])
            .args(arguments)
            .env("DOCKER_CONFIG", self.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("docker starts");
        match output.status.success() {
            true => Ok(text(&output.stdout).trim_end().to_owned()),
            false => Err(text(&output.stderr)),
        }
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments).unwrap_or_else(|why| panic!("{arguments:?}: {why}\n{}", self.log()))
    }

    #[track_caller]
    pub fn serve(&self, word: &str, port: u16) {
        let (port, line) = (format!("{port}:80"), serving(word));
        self.run(&["run", "-d", "--name", word, "-p", &port, "busybox", "sh", "-c", &line]);
    }

    #[track_caller]
    pub fn check(&self, machines: &Machines, word: &str, port: u16) {
        let target = format!("{HOST}:{port}");
        // docker answers before its program listens.
        let answer = wait_for(PATIENCE, || machines.wan.ask(&target).filter(|got| got == word));
        assert!(answer.is_some(), "docker's port is closed:\n{}\n{}", rules(), self.log());
        let pid = self.run(&["inspect", "-f", "{{.State.Pid}}", word]);
        assert_eq!(ask_from(&pid, OUTSIDE).as_deref(), Some("wan"), "{word}:\n{}", rules());
    }

    /// Checks that containers of ours and docker's meet by published ports, at 8081 and 8082, and by no others.
    #[track_caller]
    pub fn check_apart(&self, engine: &Engine) {
        const SERVE: &str = "mkdir /w; echo hidden > /w/index.html; exec httpd -f -p 81 -h /w";
        self.run(&["run", "-d", "--name", "hidden", "busybox", "sh", "-c", SERVE]);
        let inspect = |format: &str| self.run(&["inspect", "-f", format, "hidden"]);
        let pid = inspect("{{.State.Pid}}");
        let address = inspect("{{.NetworkSettings.IPAddress}}");
        let answer = wait_for(PATIENCE, || ask_from(&pid, "127.0.0.1:81"));
        assert_eq!(answer.as_deref(), Some("hidden"), "{}", self.log());
        let target = format!("{address}:81");
        let ours = pid_of(engine, "ours");
        assert!(is_closed_from(&ours, &target), "docker's own port is open:\n{}", rules());
        let docker = ask_from(&ours, &format!("{HOST}:8082"));
        assert_eq!(docker.as_deref(), Some("docker"), "{}", rules());
        assert_eq!(ask_from(&pid, &format!("{HOST}:8081")).as_deref(), Some("ours"), "{}", rules());
        let hidden = address_of(engine, "ours");
        assert!(is_closed_from(&pid, &format!("{hidden}:80")), "our own port is open");
        self.run(&["rm", "-f", "hidden"]);
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let all = self.try_run(&["ps", "-aq"]).unwrap_or_default();
        for id in all.lines() {
            drop(self.try_run(&["rm", "-f", id]));
        }
        process::end(&mut self.process);
        // It leaves its mounts behind, in this thread's own mount namespace.
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        let below = mounts.lines().filter_map(|line| line.split(' ').nth(4).map(PathBuf::from));
        let mut below: Vec<_> = below.filter(|path| path.starts_with(self.folder.path())).collect();
        below.reverse();
        for path in below {
            let _gone = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
        }
    }
}
