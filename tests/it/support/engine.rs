//! An engine of a test's own: root and run folder below /dev/shm, the built binary as a child.
#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::http::Client;
use super::pace::slowed;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running engine. Dropping it removes all containers and networks of its root, stops it, and removes its folders.
#[derive(Debug)]
pub struct Engine {
    folder: TempDir,
    process: Option<Child>,
}

/// Whether an engine can run here; prints why not, for the test to return early.
pub fn possible() -> bool {
    let possible = rustix::process::geteuid().is_root() && Path::new("/dev/shm").is_dir();
    if !possible {
        eprintln!("skipped: an engine needs root and /dev/shm");
    }
    possible
}

impl Engine {
    /// Starts one with default settings and returns when it answers.
    pub fn start() -> Self {
        Self::with_config("")
    }

    /// Starts one whose folders `prepare` makes something of first, such as disks of their own. What is mounted below
    /// the engine's folder in this thread's mount namespace goes with the engine.
    pub fn prepared(prepare: impl FnOnce(&Self)) -> Self {
        let mut engine = Self::new("");
        prepare(&engine);
        engine.launch();
        engine
    }

    /// Starts one with the text of a configuration file.
    pub fn with_config(config: &str) -> Self {
        let mut engine = Self::new(config);
        engine.launch();
        engine
    }

    fn new(config: &str) -> Self {
        // The upper layers must not lie on an overlay, which a test's machine may be.
        let folder = TempDir::with_prefix_in("bargee-", "/dev/shm").expect("a folder in /dev/shm");
        // A socket's path has at most 107 bytes.
        std::fs::write(folder.path().join("config.toml"), config)
            .expect("the configuration is written");
        Self { folder, process: None }
    }

    fn unmount_all(&self) {
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4).map(PathBuf::from));
        let own: Vec<_> = points.filter(|point| point.starts_with(self.folder())).collect();
        for point in own.iter().rev() {
            let _gone = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }

    /// Starts the process again after `stop` or `kill`.
    pub fn launch(&mut self) {
        self.spawn(|_| ());
        self.wait_until_it_answers();
    }

    /// As [`Engine::launch`], with a change of the command, and without waiting for an answer.
    pub fn spawn(&mut self, change: impl FnOnce(&mut Command)) {
        assert!(self.process.is_none(), "the engine runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log can be opened");
        let mut command = self.command(&["engine", "--config"]);
        command
            .arg(self.folder.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log can be shared"))
            .stderr(log);
        change(&mut command);
        self.process = Some(command.spawn().expect("the binary starts"));
    }

    /// Tells whether the process ended by itself; then it can be launched again.
    pub fn has_ended(&mut self) -> bool {
        let ended = self
            .process
            .as_mut()
            .is_none_or(|process| process.try_wait().expect("a child can be waited for").is_some());
        if ended {
            self.process = None;
        }
        ended
    }

    pub fn wait_until_it_answers(&mut self) {
        let start = Instant::now();
        loop {
            if let Ok(stream) = UnixStream::connect(self.socket()) {
                // It listens before it is ready, so the first answer is what counts.
                let answer = Client::over(stream).get("/_ping");
                if answer.is_ok_and(|answer| answer.status == 200) {
                    return;
                }
            }
            let process = self.process.as_mut().expect("it was launched");
            if let Some(status) = process.try_wait().expect("a child can be waited for") {
                panic!("the engine ended with {status}:\n{}", self.log());
            }
            assert!(
                start.elapsed() < slowed(PATIENCE),
                "the engine does not answer:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    pub fn socket(&self) -> PathBuf {
        self.run().join("bargee.sock")
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the engine runs").id()
    }

    /// What the engine has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("engine.log")
    }

    /// A connection to it.
    pub fn client(&self) -> Client {
        Client::over(UnixStream::connect(self.socket()).expect("the engine accepts connections"))
    }

    /// Our own binary, set to this engine.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bargee"));
        command
            .args(arguments)
            .env("BARGEE_ROOT", self.root())
            .env("BARGEE_RUN", self.run())
            .env("BARGEE_LOG", "bargee=debug,info");
        command
    }

    /// Runs our own command line to its end.
    pub fn bargee(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("the binary starts")
    }

    /// The stock docker command line, set to this engine.
    pub fn docker_command(&self, arguments: &[&str]) -> Command {
        let docker = super::clients::docker().expect("the test asked whether it is there");
        let mut command = Command::new(docker);
        command
            .args(arguments)
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_CONFIG", self.folder.path().join("docker"));
        command
    }

    /// Runs stock docker and returns what it printed; panics unless it succeeds.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output =
            self.docker_command(arguments).stdin(Stdio::null()).output().expect("docker starts");
        assert!(
            output.status.success(),
            "docker {arguments:?}: {}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        String::from_utf8(output.stdout).expect("docker prints text").trim_end().to_owned()
    }

    /// Ends the process by SIGTERM; containers go on.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM)
    }

    /// Ends the process by SIGKILL, as a crash does.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::KILL)
    }

    fn signal(&mut self, signal: rustix::process::Signal) -> ExitStatus {
        let mut process = self.process.take().expect("the engine runs");
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, signal).expect("a child can be signalled");
        wait_for(PATIENCE, || process.try_wait().expect("a child can be waited for"))
            .unwrap_or_else(|| panic!("the engine does not end:\n{}", self.log()))
    }

    /// Loads an image made of the host's busybox, with its applets linked, as `NAME:latest`.
    pub fn load_busybox(&self, name: &str) {
        let archive = super::image::busybox(name);
        let answer = self
            .client()
            .send(
                "POST",
                "/images/load?quiet=1",
                &[("Content-Type", "application/x-tar")],
                &archive,
            )
            .expect("the engine answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
        // Of a test that succeeds, what is left must be seen.
        if std::thread::panicking() {
            super::remains::end_all(self.folder());
        }
        self.unmount_all();
    }
}

impl Engine {
    /// Removes all that it has, and ends it.
    fn end(&mut self) {
        if self.process.is_none() {
            // What it left can be removed by an engine alone; a test that ended it is responsible itself.
            return;
        }
        if UnixStream::connect(self.socket()).is_err() {
            // It died, and so nobody is there to clean up; the leak check tells.
            let mut process = self.process.take().expect("it was checked above");
            drop(process.kill());
            drop(process.wait());
            return;
        }
        // A failed clean-up shows in the leak check; a panic here would hide the test's own.
        // Stacks first: their loops would heal what is removed.
        drop(self.client().get("/bargee/v1/stacks").map(|answer| {
            for stack in answer.json().as_array().into_iter().flatten() {
                let path = format!(
                    "/bargee/v1/stacks/{}/down",
                    stack["name"].as_str().unwrap_or_default()
                );
                drop(self.client().post(&path, &serde_json::json!({ "timeout": 0 })));
            }
        }));
        drop(self.client().get("/containers/json?all=1").map(|answer| {
            for container in answer.json().as_array().into_iter().flatten() {
                let id = container["Id"].as_str().unwrap_or_default();
                drop(self.client().send(
                    "DELETE",
                    &format!("/containers/{id}?force=1&v=1"),
                    &[],
                    b"",
                ));
            }
        }));
        drop(self.client().send("POST", "/networks/prune", &[], b""));
        drop(self.client().send("POST", "/bargee/v1/shutdown?containers=1", &[], b""));
        let mut process = self.process.take().expect("it was checked above");
        let ended = wait_for(PATIENCE, || process.try_wait().ok().flatten());
        if ended.is_none() {
            drop(process.kill());
            drop(process.wait());
        }
    }
}

/// Asks again and again until there is something.
pub fn wait_for<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = ask() {
            return Some(found);
        }
        if start.elapsed() > slowed(patience) {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
