//! A folder with a stack file, and our command line in it, as a user has them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::engine::Engine;

/// A folder with a `stack.yaml`.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
}

impl Folder {
    pub fn new(stack: &str) -> Self {
        let folder = TempDir::with_prefix("stack").expect("a temporary folder");
        let this = Self { folder };
        this.write("stack.yaml", stack);
        this
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self) -> PathBuf {
        self.path().join("stack.yaml")
    }

    /// Writes a file beside the stack's, or the stack's anew.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("a file is written");
    }

    /// Our command line in the folder, without an input.
    pub fn command(&self, engine: &Engine, arguments: &[&str]) -> Command {
        let mut command = engine.command(arguments);
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, engine: &Engine, arguments: &[&str]) -> Output {
        self.command(engine, arguments).output().expect("the binary starts")
    }

    /// Runs a command that must exit with `code`; returns its standard output.
    #[track_caller]
    pub fn ends(&self, engine: &Engine, arguments: &[&str], code: i32) -> String {
        let output = self.run(engine, arguments);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}\nstdout:\n{stdout}\nstderr:\n{stderr}\n{}",
            engine.log()
        );
        stdout
    }

    /// Runs a command that must succeed; returns its standard output.
    #[track_caller]
    pub fn ok(&self, engine: &Engine, arguments: &[&str]) -> String {
        self.ends(engine, arguments, 0)
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub fn assert_code(output: &Output, code: i32) {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout:\n{stdout}\nstderr:\n{stderr}");
}

/// A port that is free now, from the kernel.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound").port()
}
