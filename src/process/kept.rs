//! An engine as its keeper sees it: a child, or the keeper's own parent, whose first keeper was killed.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What an engine that nobody waits for writes before a clean end.
pub(super) const LAST_WORD: &[u8] = b".";

#[derive(Debug)]
pub(super) enum Kept {
    Child {
        child: Child,
        pidfd: OwnedFd,
    },
    Parent {
        /// The end of a pipe that the engine alone can write to.
        last_word: File,
        /// `None` if it ended before we could look.
        pidfd: Option<OwnedFd>,
    },
}

/// How an engine ended.
#[derive(Debug)]
pub(super) enum End {
    Clean,
    /// In words.
    Crash(String),
}

impl Kept {
    pub(super) fn child(child: Child) -> io::Result<Self> {
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Self::Child { child, pidfd })
    }

    /// Keeps the process `engine`, which is our parent, as long as it lives.
    pub(super) fn parent(engine: i32, last_word: OwnedFd) -> Self {
        let open = |pid| pidfd_open(pid, PidfdFlags::empty()).ok();
        let pidfd = Pid::from_raw(engine).and_then(open);
        // Its number could have become another process's only by its end, which gives us another parent.
        let lives = rustix::process::getppid().map(Pid::as_raw_pid) == Some(engine);
        Self::Parent { last_word: last_word.into(), pidfd: pidfd.filter(|_| lives) }
    }

    /// Waits for the end; whenever `asked` has something, the engine is asked to end.
    pub(super) fn wait(&mut self, mut asked: &UnixStream) -> io::Result<End> {
        loop {
            let (ended, pidfd) = match &*self {
                Self::Child { pidfd, .. } => (pidfd.as_fd(), Some(pidfd)),
                Self::Parent { last_word, pidfd } => (last_word.as_fd(), pidfd.as_ref()),
            };
            let mut fds = [
                PollFd::from_borrowed_fd(ended, PollFlags::IN),
                PollFd::new(&asked, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                polled => polled?,
            };
            let [has_ended, is_asked] = fds.map(|fd| !fd.revents().is_empty());
            if is_asked {
                let _drained = asked.read(&mut [0; 64])?;
                // It may be gone already, which the next turn sees.
                let _gone = pidfd.map(|pidfd| pidfd_send_signal(pidfd, Signal::TERM));
            }
            if has_ended {
                return self.end();
            }
        }
    }

    fn end(&mut self) -> io::Result<End> {
        match self {
            Self::Child { child, .. } => {
                let status = child.wait()?;
                Ok(if status.success() { End::Clean } else { End::Crash(status.to_string()) })
            }
            Self::Parent { last_word, .. } => {
                let mut said = Vec::new();
                last_word.read_to_end(&mut said)?;
                let crash = || End::Crash("no last word".to_owned());
                Ok(if said == LAST_WORD { End::Clean } else { crash() })
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use std::io::Write as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_end_of_a_child_tells_by_its_status_whether_it_was_clean() {
        let (_ours, asked) = UnixStream::pair().unwrap();
        let end = |words: &[&str]| {
            let child = Command::new("sh").arg("-c").args(words).spawn().unwrap();
            Kept::child(child).unwrap().wait(&asked).unwrap()
        };
        assert!(matches!(end(&["true"]), End::Clean));
        assert!(matches!(end(&["kill -9 $$"]), End::Crash(how) if how.contains("signal: 9")));
    }

    #[test]
    fn a_child_is_asked_to_end_when_its_keeper_is() {
        let (mut ours, asked) = UnixStream::pair().unwrap();
        ours.write_all(b"x").unwrap();
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let end = Kept::child(child).unwrap().wait(&asked).unwrap();
        assert!(matches!(end, End::Crash(how) if how.contains("signal: 15")));
    }

    #[test]
    fn an_engine_that_says_nothing_before_its_end_has_crashed() {
        let (_ours, asked) = UnixStream::pair().unwrap();
        for (said, clean) in [(LAST_WORD, true), (b"", false)] {
            let (read, write) = std::io::pipe().unwrap();
            let mut kept = Kept::parent(0, read.into());
            { write }.write_all(said).unwrap();
            assert_eq!(matches!(kept.wait(&asked).unwrap(), End::Clean), clean);
        }
    }
}
