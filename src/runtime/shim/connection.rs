//! A client that speaks JSON lines: before its hello, and after it as a control connection.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use rustix::net::RecvFlags;
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
    /// Before the hello it reads no further than the line: what follows an attach client's hello is the program's stdin.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                let message = serde_json::from_slice(&line).ok();
                self.lost |= message.is_none();
                return message;
            }
            let read =
                self.reach(&mut buffer).and_then(|reach| self.socket.read(&mut buffer[..reach]));
            match read {
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

    /// Returns how far the next read may go.
    fn reach(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.greeted {
            return Ok(buffer.len());
        }
        let (waiting, _) = rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::PEEK)?;
        let end = buffer[..waiting].iter().position(|byte| *byte == b'\n');
        // At the connection's end nothing waits, which a read of one byte tells.
        Ok(end.map_or(waiting.max(1), |end| end + 1))
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
