//! A client that follows a process's streams. A slow one is cut off; the container never waits for it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};

use super::stdio::{Channel, Stream, is_hung_up};

/// Output that a client may lag behind before it is cut off.
pub(crate) const MOST_BACKLOG: usize = 1024 * 1024;

/// One attach connection after its hello.
#[derive(Debug)]
pub(crate) struct Client {
    socket: UnixStream,
    /// The exec that it follows, or init.
    pub(crate) exec: Option<String>,
    sends_input: bool,
    wants: [bool; 2],
    output: VecDeque<u8>,
    input_ended: bool,
    /// The process is gone: close when `output` is written.
    closing: bool,
    lost: bool,
}

/// What a client wishes to see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wishes {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Client {
    pub(crate) fn new(socket: UnixStream, exec: Option<String>, wishes: Wishes) -> Self {
        Self {
            socket,
            exec,
            sends_input: wishes.stdin,
            wants: [wishes.stdout, wishes.stderr],
            output: VecDeque::new(),
            input_ended: false,
            closing: false,
            lost: false,
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    pub(crate) fn poll<'a>(&'a self, channel: Option<&Channel>, fds: &mut Vec<PollFd<'a>>) {
        let mut wanted = PollFlags::empty();
        if !self.input_ended && channel.is_some_and(Channel::takes_input) {
            wanted |= PollFlags::IN;
        }
        if !self.output.is_empty() {
            wanted |= PollFlags::OUT;
        }
        fds.push(PollFd::new(&self.socket, wanted));
    }

    /// Queues output in docker's frames, moby's `pkg/stdcopy`.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        if self.closing || !self.wants[stream.index()] {
            return;
        }
        if self.output.len() + bytes.len() > MOST_BACKLOG {
            self.lost = true;
            return;
        }
        self.output.extend(frame_header(stream, bytes.len()));
        self.output.extend(bytes);
        self.flush();
    }

    pub(crate) fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.socket.write(self.output.as_slices().0) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.lost = true;
                    return;
                }
            }
        }
        self.lost |= self.closing;
    }

    /// Closes the connection after what is queued.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        self.flush();
    }

    /// Moves input to the process. `ends` says whether this client's end is stdin's end.
    pub(crate) fn pump(&mut self, mut channel: Option<&mut Channel>, ends: bool) {
        let mut buffer = [0; 8192];
        while !self.input_ended && !self.lost {
            let Some(channel) = channel.as_deref_mut().filter(|channel| channel.takes_input())
            else {
                break;
            };
            match self.socket.read(&mut buffer) {
                Ok(0) => {
                    self.input_ended = true;
                    if self.sends_input && ends {
                        channel.end_input();
                    }
                }
                Ok(length) if self.sends_input => channel.push_input(&buffer[..length]),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.lost = true,
            }
        }
        self.lost |= is_hung_up(self.socket.as_fd());
    }
}

fn frame_header(stream: Stream, length: usize) -> [u8; 8] {
    let mut header = [0; 8];
    header[0] = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    let length = u32::try_from(length).expect("a piece of output fits its buffer");
    header[4..].copy_from_slice(&length.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const ALL: Wishes = Wishes { stdin: true, stdout: true, stderr: true };

    fn client() -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Client::new(ours, None, ALL), theirs)
    }

    #[test]
    fn output_comes_in_dockers_frames_and_ends() {
        let (mut client, mut other) = client();
        client.push(Stream::Stderr, b"hey");
        client.close();
        assert!(client.is_lost());
        drop(client);
        let mut got = Vec::new();
        other.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"\x02\0\0\0\0\0\0\x03hey");
    }

    #[test]
    fn a_client_that_never_reads_is_cut_off() {
        let (mut client, _other) = client();
        for _ in 0..1000 {
            client.push(Stream::Stdout, &[0; 8192]);
        }
        assert!(client.is_lost());
    }
}
