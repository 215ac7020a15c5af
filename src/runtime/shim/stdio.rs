//! The shim's ends of a process's streams. None of them ever blocks.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::Winsize;

use crate::runtime::init::handshake::Streams;

/// Input that waits for a slow program is held up to here, then its client has to wait.
const MOST_INPUT: usize = 64 * 1024;

/// Which output; a terminal has the first only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Our side of the pipes or the terminal.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    terminal: bool,
    stdin: Option<OwnedFd>,
    input: VecDeque<u8>,
    /// Close stdin once `input` is written.
    ending: bool,
    outputs: [Option<OwnedFd>; 2],
}

/// Opens both sides. Those of a terminal come later, from the child.
pub(crate) fn open(terminal: bool, open_stdin: bool) -> io::Result<(Streams, Channel)> {
    if terminal {
        return Ok((Streams::Terminal, Channel { terminal, ..Channel::default() }));
    }
    let (stdout, child_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, child_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let (child_stdin, stdin) = if open_stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&write, true)?;
        (read, Some(write))
    } else {
        (rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, None)
    };
    rustix::io::ioctl_fionbio(&stdout, true)?;
    rustix::io::ioctl_fionbio(&stderr, true)?;
    let streams = Streams::Pipes { stdin: child_stdin, stdout: child_stdout, stderr: child_stderr };
    let outputs = [Some(stdout), Some(stderr)];
    Ok((streams, Channel { stdin, outputs, ..Channel::default() }))
}

impl Channel {
    /// Takes the terminal's master from the child.
    pub(crate) fn take_terminal(&mut self, master: OwnedFd, open_stdin: bool) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&master, true)?;
        if open_stdin {
            self.stdin = Some(master.try_clone()?);
        }
        self.outputs[0] = Some(master);
        Ok(())
    }

    /// Adds what to wait for.
    pub(crate) fn poll<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        for output in self.outputs.iter().flatten() {
            fds.push(PollFd::new(output, PollFlags::IN));
        }
        if let Some(stdin) = self.stdin.as_ref().filter(|_| !self.input.is_empty()) {
            fds.push(PollFd::new(stdin, PollFlags::OUT));
        }
    }

    /// Reads one piece of a stream; `None` when nothing is there now or ever.
    pub(crate) fn read<'b>(&mut self, stream: Stream, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let slot = &mut self.outputs[stream.index()];
        match rustix::io::read(slot.as_ref()?, &mut *buffer) {
            Ok(0) => *slot = None,
            Ok(length) => return Some(&buffer[..length]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // EIO: the last program let go of the terminal.
            Err(_) => *slot = None,
        }
        None
    }

    /// Whether a client's input is wanted now.
    pub(crate) fn takes_input(&self) -> bool {
        self.input.len() < MOST_INPUT
    }

    pub(crate) fn push_input(&mut self, bytes: &[u8]) {
        if self.stdin.is_some() && !self.ending {
            self.input.extend(bytes);
        }
        self.write_input();
    }

    /// Ends stdin after what was pushed. A terminal has no end: its users type one.
    pub(crate) fn end_input(&mut self) {
        self.ending = !self.terminal;
        self.write_input();
    }

    pub(crate) fn write_input(&mut self) {
        while let Some(stdin) = self.stdin.as_ref().filter(|_| !self.input.is_empty()) {
            match rustix::io::write(stdin, self.input.as_slices().0) {
                Ok(written) => drop(self.input.drain(..written)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                // EPIPE: the program closed its stdin.
                Err(_) => {
                    self.input.clear();
                    self.stdin = None;
                }
            }
        }
        if self.ending {
            self.stdin = None;
        }
    }

    /// Resizes the terminal; pipes have no size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let Some(master) = self.outputs[0].as_ref().filter(|_| self.terminal) else {
            return Ok(());
        };
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(master, size)?)
    }
}

/// Whether the other end is gone for good.
pub(crate) fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
        && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}
