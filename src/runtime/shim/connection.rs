//! A client that speaks JSON lines: before its hello, and after it as a control connection.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A line may not grow longer; an exec's process object is far smaller.
const LONGEST_LINE: usize = 4 * 1024 * 1024;
/// An engine that stopped reading is dropped at this many bytes.
const MOST_BACKLOG: usize = 1024 * 1024;

/// The two buffers of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    pub(crate) greeted: bool,
    pub(crate) lost: bool,
}

impl Connection {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket, input: Vec::new(), output: Vec::new(), greeted: false, lost: false }
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Returns the next message if a whole line is there. A wrong one loses the connection.
    ///
    /// Before the hello it reads byte by byte: what follows an attach client's hello is the program's stdin.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut buffer = [0; 4096];
        let reach = if self.greeted { buffer.len() } else { 1 };
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                let message = serde_json::from_slice(&line).ok();
                self.lost |= message.is_none();
                return message;
            }
            match self.socket.read(&mut buffer[..reach]) {
                Ok(length @ 1..) if self.input.len() < LONGEST_LINE => {
                    self.input.extend_from_slice(&buffer[..length]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                _ => {
                    self.lost = true;
                    return None;
                }
            }
        }
    }

    pub(crate) fn send(&mut self, message: &impl Serialize) {
        match serde_json::to_vec(message) {
            Ok(line) if self.output.len() < MOST_BACKLOG => {
                self.output.extend(line);
                self.output.push(b'\n');
                self.flush();
            }
            _ => self.lost = true,
        }
    }

    pub(crate) fn flush(&mut self) {
        while !self.output.is_empty() && !self.lost {
            match self.socket.write(&self.output) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.lost = true,
            }
        }
    }
}
