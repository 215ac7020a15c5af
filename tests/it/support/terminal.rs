//! A command on a terminal of its own.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::engine::{PATIENCE, wait_for};
use super::folder::text;

/// A command on a terminal, and all that it showed so far.
#[derive(Debug)]
pub struct Shown {
    child: Child,
    terminal: fs::File,
    slave: OwnedFd,
    before: String,
    reader: std::thread::JoinHandle<()>,
    seen: Arc<Mutex<Vec<u8>>>,
}

/// What of a terminal's state must be as it was.
fn modes(terminal: &OwnedFd) -> String {
    let Termios { input_modes, output_modes, local_modes, control_modes, .. } =
        tcgetattr(terminal).expect("it is a terminal");
    format!("{input_modes:?} {output_modes:?} {local_modes:?} {control_modes:?}")
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Shown {
    /// Runs it on a terminal of the usual size.
    pub fn run(command: Command) -> Self {
        Self::sized(command, 24, 80)
    }

    pub fn sized(mut command: Command, rows: u16, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is unlocked");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let name = name.into_string().expect("its name is text");
        let end = || -> OwnedFd {
            fs::File::options().read(true).write(true).open(&name).expect("its other end").into()
        };
        let slave = end();
        tcsetwinsize(&slave, size(rows, columns)).expect("it has a size");
        let before = modes(&slave);
        command.stdin(end()).stdout(end()).stderr(end());
        if command.get_envs().all(|(name, _)| name != "TERM") {
            command.env("TERM", "xterm");
        }
        let child = command.spawn().expect("the binary starts");
        drop(command);
        let terminal = fs::File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut reading = terminal.try_clone().expect("the terminal is shared");
        let keep = Arc::clone(&seen);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The terminal's end is an error (EIO) once nobody holds its other end.
            while let Ok(count @ 1..) = reading.read(&mut buffer) {
                keep.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { child, terminal, slave, before, reader, seen }
    }

    pub fn text(&self) -> String {
        text(&self.seen.lock().unwrap())
    }

    #[track_caller]
    pub fn await_text(&self, words: &str) {
        let found = wait_for(PATIENCE, || self.text().contains(words).then_some(()));
        assert!(found.is_some(), "no {words:?} in {:?}", self.text());
    }

    pub fn type_in(&mut self, words: &str) {
        self.terminal.write_all(words.as_bytes()).expect("somebody reads");
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.slave, size(rows, columns)).expect("it has a size");
        kill_process(Pid::from_child(&self.child), Signal::WINCH).expect("it runs");
    }

    /// Sends the command a signal, as Ctrl+C does where the terminal makes signals.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for the end; the terminal must be as it was.
    #[track_caller]
    pub fn ends_with(mut self, code: i32) -> String {
        let status = wait_for(PATIENCE, || self.child.try_wait().expect("it can be waited for"));
        if status.is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        assert_eq!(status.and_then(|status| status.code()), Some(code), "{}", self.text());
        assert_eq!(modes(&self.slave), self.before, "the terminal is left changed");
        drop(self.slave);
        self.reader.join().expect("the reader ends");
        text(&self.seen.lock().unwrap())
    }
}
