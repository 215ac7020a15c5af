//! The task behind a control connection: requests out, replies and events in, then the shim's end.

use std::collections::VecDeque;
use std::io::Cursor;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::{Asked, Happening};
use crate::engine::containers::execs::Execs;
use crate::runtime::shim::protocol::{Event, Message, Reply};

/// How long a shim that closed its connection may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Connection {
    pub(super) pid: i32,
    pub(super) pidfd: AsyncFd<OwnedFd>,
    pub(super) asked: mpsc::UnboundedReceiver<Asked>,
    pub(super) happened: mpsc::UnboundedSender<Happening>,
    pub(super) execs: Execs,
    pub(super) leaving: Arc<AtomicBool>,
}

impl Connection {
    /// Serves until the shim is gone.
    ///
    /// `more` was read of the stream already.
    pub(super) async fn serve(mut self, stream: UnixStream, more: Vec<u8>) {
        self.exchange(stream, more).await;
        let ended = tokio::time::timeout(PATIENCE, self.pidfd.readable()).await;
        if ended.is_err() {
            // It fails when the shim ended just now.
            let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
            // The error is the runtime's end.
            let _ = self.pidfd.readable().await;
        }
        // Of a shim that another engine started, init is the parent that reaps it.
        let _ = waitid(WaitId::PidFd(self.pidfd.get_ref().as_fd()), WaitIdOptions::EXITED);
        if !self.leaving.load(Ordering::Acquire) {
            let _ = self.happened.send(Happening::Died(self.pid));
        }
    }

    async fn exchange(&mut self, stream: UnixStream, more: Vec<u8>) {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(Cursor::new(more).chain(read)).lines();
        let mut waiting: VecDeque<oneshot::Sender<Reply>> = VecDeque::new();
        loop {
            tokio::select! {
                // Cancel safe: what was read stays in `lines`.
                line = lines.next_line() => {
                    let Ok(Some(line)) = line else { return };
                    let Ok(message) = serde_json::from_str(&line) else { return };
                    self.take(message, &mut waiting);
                }
                // Cancel safe: a message stays queued until it is taken.
                Some((request, answer)) = self.asked.recv() => {
                    let Ok(mut line) = serde_json::to_vec(&request) else { continue };
                    line.push(b'\n');
                    if write.write_all(&line).await.is_err() {
                        return;
                    }
                    waiting.push_back(answer);
                }
            }
        }
    }

    fn take(&self, message: Message, waiting: &mut VecDeque<oneshot::Sender<Reply>>) {
        match message {
            // Whoever asked may have gone away.
            Message::Reply(reply) => {
                let _ = waiting.pop_front().map(|answer| answer.send(reply));
            }
            Message::Event(event) => {
                // Noted here and not by the follower, so that a later reply finds it done.
                if let Event::ExecExited { id, code } = &event {
                    self.execs.ended(id, *code);
                }
                let _ = self.happened.send(Happening::Event(event));
            }
        }
    }
}
