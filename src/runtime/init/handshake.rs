//! What child and shim say before the program runs: that it lives, the pty's master, that it is ready, then an error
//! or (by the end of the stream at `execve`) success. A close-on-exec stream socket carries it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::Process;
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::{During, InitError};

/// The child's ends of its standard streams.
#[derive(Debug)]
pub(crate) enum Streams {
    Pipes {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// Opened inside the container, so that its name is right there.
    Terminal,
}

/// What the child told.
#[derive(Debug)]
pub(crate) enum Outcome {
    Executed {
        terminal: Option<OwnedFd>,
    },
    Failed {
        message: String,
        code: i32,
    },
    /// It was killed before it could do anything.
    Stillborn,
}

/// The first byte of a child.
const ALIVE: &[u8] = b"+";
/// The byte that the terminal's descriptor travels with.
const TERMINAL: &[u8] = b"t";
/// The last byte before only the user's rights and `execve` are left. Without it the stream's end is the child's.
const READY: &[u8] = b"=";

pub(crate) fn pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Tells the parent that the child lives; a lost parent needs no answer.
pub(crate) fn announce(parent: BorrowedFd<'_>) {
    let _ = rustix::net::send(parent, ALIVE, SendFlags::NOSIGNAL);
}

/// Tells the parent that all but the program's own rights is made; a lost parent needs no answer.
pub(crate) fn announce_ready(parent: BorrowedFd<'_>) {
    let _ = rustix::net::send(parent, READY, SendFlags::NOSIGNAL);
}

/// Tells the parent why the child ends; a lost parent needs no answer.
pub(crate) fn report(parent: BorrowedFd<'_>, error: &InitError) {
    let text = format!("{}\n{error}", error.code());
    let _ = rustix::net::send(parent, text.as_bytes(), SendFlags::NOSIGNAL);
}

/// Waits for `execve` or an error.
pub(crate) fn wait(child: OwnedFd) -> std::io::Result<Outcome> {
    let (mut terminal, mut text) = (None, Vec::new());
    loop {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let received = match rustix::net::recvmsg(
            &child,
            &mut buffers,
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?.bytes,
        };
        let mut carried = 0;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                for fd in fds {
                    (terminal, carried) = (Some(fd), TERMINAL.len());
                }
            }
        }
        if received == 0 {
            break;
        }
        // Bytes that were sent before it may come with it, when this side was slow; none behind it does (unix(7)).
        text.extend_from_slice(&bytes[..received.saturating_sub(carried)]);
    }
    let Some(text) = text.strip_prefix(ALIVE) else { return Ok(Outcome::Stillborn) };
    let text = match text.strip_prefix(READY) {
        Some([]) => return Ok(Outcome::Executed { terminal }),
        Some(rest) => rest,
        None if text.is_empty() => {
            let message = "it was killed before it executed its program".to_owned();
            return Ok(Outcome::Failed { message, code: 128 });
        }
        None => text,
    };
    let text = String::from_utf8_lossy(text).into_owned();
    let (code, message) = text.split_once('\n').unwrap_or(("128", &text));
    Ok(Outcome::Failed { message: message.to_owned(), code: code.parse().unwrap_or(128) })
}

impl Streams {
    /// Makes them descriptors 0, 1 and 2. A terminal becomes the controlling one and, for init
    /// (`console`), `/dev/console`.
    pub(crate) fn connect(
        self,
        process: &Process,
        parent: BorrowedFd<'_>,
        console: bool,
    ) -> Result<(), InitError> {
        match self {
            Self::Pipes { stdin, stdout, stderr } => {
                rustix::stdio::dup2_stdin(&stdin).during(|| "connect stdin".into())?;
                rustix::stdio::dup2_stdout(&stdout).during(|| "connect stdout".into())?;
                rustix::stdio::dup2_stderr(&stderr).during(|| "connect stderr".into())?;
                own(process, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
            }
            Self::Terminal => open_terminal(process, parent, console),
        }
    }
}

/// Lets the user reopen the pipes by `/dev/stdout`; `/dev/null` stays as it is.
fn own(process: &Process, streams: [BorrowedFd<'_>; 3]) -> Result<(), InitError> {
    let uid = rustix::fs::Uid::from_raw(process.user().uid());
    for stream in streams {
        let stat = rustix::fs::fstat(stream).during(|| "stat a stream".into())?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo {
            rustix::fs::fchown(stream, Some(uid), None)
                .during(|| "give a stream to the user".into())?;
        }
    }
    Ok(())
}

fn open_terminal(
    process: &Process,
    parent: BorrowedFd<'_>,
    console: bool,
) -> Result<(), InitError> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())
        .during(|| "open /dev/pts/ptmx".into())?;
    rustix::pty::unlockpt(&master).during(|| "unlock the terminal".into())?;
    if let Some(size) = process.console_size() {
        let short = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
        let size = Winsize {
            ws_row: short(size.height()),
            ws_col: short(size.width()),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, size).during(|| "size the terminal".into())?;
    }
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal =
        rustix::pty::ioctl_tiocgptpeer(&master, peer).during(|| "open the terminal".into())?;
    if console {
        super::rootfs::bind_console(&master)?;
    }
    send_fd(parent, master.as_fd())?;
    rustix::process::ioctl_tiocsctty(&terminal).during(|| "take the terminal".into())?;
    let uid = rustix::fs::Uid::from_raw(process.user().uid());
    rustix::fs::fchown(&terminal, Some(uid), None)
        .during(|| "give the terminal to the user".into())?;
    rustix::stdio::dup2_stdin(&terminal).during(|| "connect stdin".into())?;
    rustix::stdio::dup2_stdout(&terminal).during(|| "connect stdout".into())?;
    rustix::stdio::dup2_stderr(&terminal).during(|| "connect stderr".into())
}

fn send_fd(parent: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<(), InitError> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(parent, &[IoSlice::new(TERMINAL)], &mut ancillary, SendFlags::NOSIGNAL)
        .during(|| "hand the terminal to the shim".into())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_that_listens_late_hears_all_that_was_said() {
        let (ours, parent) = pair().expect("sockets are to be had");
        let fd = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()).expect("it is there");
        announce(parent.as_fd());
        send_fd(parent.as_fd(), fd.as_fd()).expect("it is sent");
        announce_ready(parent.as_fd());
        drop(parent);
        let outcome = wait(ours).expect("it was said");
        assert!(matches!(outcome, Outcome::Executed { terminal: Some(_) }), "{outcome:?}");
    }

    #[test]
    fn an_error_behind_a_terminal_is_heard_whole() {
        let (ours, parent) = pair().expect("sockets are to be had");
        let fd = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()).expect("it is there");
        announce(parent.as_fd());
        send_fd(parent.as_fd(), fd.as_fd()).expect("it is sent");
        let _sent = rustix::net::send(&parent, b"127\nno such program", SendFlags::NOSIGNAL);
        drop(parent);
        let outcome = wait(ours).expect("it was said");
        let Outcome::Failed { message, code } = outcome else { panic!("{outcome:?}") };
        assert_eq!((message.as_str(), code), ("no such program", 127));
    }
}
