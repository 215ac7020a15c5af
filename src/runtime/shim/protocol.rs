//! What engine and shim say to each other: JSON objects, one a line, over `shim.sock`.
//!
//! A connection starts with a [`Hello`]. `Control` connections then carry [`Request`]s and get [`Reply`]s in
//! order, mixed with [`Event`]s; `Attach` connections become a byte stream: towards the engine docker's
//! 8-byte frames (`[stream,0,0,0,len u32 BE]`, stream 1 or 2; a tty's output is stream 1), towards the
//! shim raw stdin, ended by a half-close. Unknown fields are ignored, so that one release apart works.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    pub purpose: Purpose,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    Control,
    /// To init's streams when `exec` is `None`.
    Attach { exec: Option<String>, stdin: bool, stdout: bool, stderr: bool },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    Status,
    /// Mounts the rootfs, makes the cgroup, clones init and lets it execute; answers `Started` after a
    /// successful `execve`, `Failed` otherwise. Reads `config.json` and `shim.json` anew each time.
    Start { incarnation: u64 },
    /// To init only, or to the whole cgroup.
    Signal { signal: i32, all: bool },
    Pause,
    Resume,
    /// Executes another process; `process` is an OCI `process` object as JSON.
    Exec { id: String, process: serde_json::Value, tty: bool, open_stdin: bool },
    SignalExec { id: String, signal: i32 },
    /// Of init when `exec` is `None`.
    Resize { exec: Option<String>, rows: u16, columns: u16 },
    /// Writes limits; `resources` is an OCI `linux.resources` object.
    Update { resources: serde_json::Value },
    /// Kills what is left, unmounts, removes the cgroup, answers `Done`, exits.
    Shutdown,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    Reply(Reply),
    Event(Event),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Done,
    Status(Status),
    Started { pid: i32, start_time: u64 },
    ExecStarted { pid: i32 },
    /// `code` is what `docker run` exits with: 126 not executable, 127 not found, else 125 (or 128).
    Failed { message: String, code: i32 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: u32,
    pub shim_pid: i32,
    pub state: ShimState,
    pub execs: Vec<ExecStatus>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShimState {
    Created,
    Running { pid: i32, start_time: u64, incarnation: u64, paused: bool },
    Exited(Exit),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecStatus {
    pub id: String,
    pub pid: i32,
    /// `None` while it runs.
    pub code: Option<i32>,
}

/// The exit record, also kept in `<run>/exit` (replaced atomically). Published after the output is drained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    pub incarnation: u64,
    /// 0–255; 128 + n for signal n.
    pub code: i32,
    pub oom: bool,
    /// Unix time, nanoseconds.
    pub at: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Exited(Exit),
    /// A process in the container was killed for memory, init or another.
    Oom,
    ExecExited { id: String, code: i32 },
}

/// Where the pieces of one container are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimPaths {
    /// Holds `config.json` and `shim.json`.
    pub bundle: PathBuf,
    /// Holds `shim.sock`, `shim.pid`, `exit`.
    pub run: PathBuf,
}
