//! A terminal, or pipes, joined to a process in a container: attach, run, start and exec.

mod detach;
pub(crate) mod frames;

use std::io;
use std::os::fd::AsFd;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::client::{Client, Upgraded};
use super::error::CliError;
use super::output::printer::closed;
use super::terminal::{self, RawMode};
use detach::KeyFilter;
use frames::{Frames, Stream};

/// A connection that was handed over.
pub(crate) type Streams = (ReadHalf<Upgraded>, WriteHalf<Upgraded>);

/// Whom the streams lead to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer<'a> {
    Container(&'a str),
    Exec(&'a str),
}

impl Peer<'_> {
    fn resize_path(self) -> String {
        match self {
            Self::Container(id) => format!("/containers/{id}/resize"),
            Self::Exec(id) => format!("/exec/{id}/resize"),
        }
    }
}

/// How streams are joined.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) client: &'a Client,
    pub(crate) peer: Peer<'a>,
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
    /// Pass signals that we get on to the container.
    pub(crate) proxy: bool,
    pub(crate) detach_keys: Option<&'a str>,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The process closed its output.
    Closed,
    /// The user typed the keys that leave the container alone.
    Detached,
    /// A signal that is not passed on.
    Signal(i32),
}

/// Signals that end or ask a program, so they are the container's.
const PROXIED: &[(SignalKind, &str, i32)] = &[
    (SignalKind::interrupt(), "SIGINT", 2),
    (SignalKind::terminate(), "SIGTERM", 15),
    (SignalKind::hangup(), "SIGHUP", 1),
    (SignalKind::quit(), "SIGQUIT", 3),
    (SignalKind::user_defined1(), "SIGUSR1", 10),
    (SignalKind::user_defined2(), "SIGUSR2", 12),
];

/// A session whose signals are caught already, and whose terminal is raw.
#[derive(Debug)]
pub(crate) struct Ready<'a> {
    session: Session<'a>,
    signals: mpsc::UnboundedReceiver<usize>,
    keys: Option<KeyFilter>,
    raw: Option<RawMode>,
}

impl<'a> Session<'a> {
    /// Catches signals and sets the terminal up. To be called before the process starts, so that no signal
    /// kills us in between.
    ///
    /// # Errors
    /// Standard input is no terminal though one was asked for, or the detach keys are none.
    pub(crate) fn prepare(self) -> Result<Ready<'a>, CliError> {
        let keys = match (self.tty && self.stdin, self.detach_keys) {
            (false, _) => None,
            (true, None) => Some(KeyFilter::default()),
            (true, Some(text)) => Some(KeyFilter::new(text)?),
        };
        let (sender, signals) = mpsc::unbounded_channel();
        let caught = if self.proxy || self.tty { PROXIED } else { &[] };
        for (index, (kind, ..)) in caught.iter().enumerate() {
            let mut stream = signal(*kind).map_err(CliError::io("listen for signals"))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() && sender.send(index).is_ok() {}
            });
        }
        let raw = match self.tty && self.stdin && terminal::stdin_is_terminal() {
            true => Some(RawMode::enter()?),
            false => None,
        };
        Ok(Ready { session: self, signals, keys, raw })
    }
}

impl Ready<'_> {
    /// Tells the engine the size of our terminal.
    pub(crate) async fn resize(&self) {
        if !self.session.tty {
            return;
        }
        let Some((rows, columns)) = terminal::size() else { return };
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let query = [("h", rows.as_str()), ("w", columns.as_str())];
        // The process may be over already; its output tells more than this error.
        drop(self.session.client.post(&self.session.peer.resize_path(), &query, None).await);
    }

    /// Copies until the process closes its output or the user leaves. The terminal is restored on return.
    ///
    /// # Errors
    /// The connection broke, or our output can't be written.
    pub(crate) async fn run(mut self, streams: Streams) -> Result<Ended, CliError> {
        let (read, write) = streams;
        let mut resized = window_changes()?;
        let (left, mut leave) = mpsc::channel::<()>(1);
        let mut half_open = None;
        if self.session.stdin {
            let keys = self.keys.take();
            tokio::spawn(copy_input(write, keys, left));
        } else {
            half_open = Some((write, left));
        }
        let output = copy_output(read, self.session.tty);
        tokio::pin!(output);
        let ended = loop {
            // Each arm is cancel-safe: `output` is kept across turns, the others receive from channels.
            tokio::select! {
                done = &mut output => break done.map(|()| Ended::Closed),
                Some(()) = leave.recv() => break Ok(Ended::Detached),
                Some(()) = resized.recv() => self.resize().await,
                Some(index) = self.signals.recv() => {
                    let (_, name, number) = PROXIED[index];
                    match self.session.peer {
                        Peer::Container(id) if self.session.proxy => {
                            let path = format!("/containers/{id}/kill");
                            // It may have exited meanwhile.
                            drop(self.session.client.post(&path, &[("signal", name)], None).await);
                        }
                        _ => break Ok(Ended::Signal(number)),
                    }
                }
            }
        };
        drop(half_open);
        drop(self.raw.take());
        ended
    }
}

fn window_changes() -> Result<Signal, CliError> {
    signal(SignalKind::window_change()).map_err(CliError::io("listen for signals"))
}

/// Copies standard input until its end, then closes the process's.
async fn copy_input(
    mut write: WriteHalf<Upgraded>,
    mut keys: Option<KeyFilter>,
    left: mpsc::Sender<()>,
) {
    let Ok(mut stdin) = own(&io::stdin()) else { return };
    let mut buffer = vec![0; 32 << 10];
    loop {
        let length = match stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        let typed = &buffer[..length];
        let (kept, detached) = match &mut keys {
            Some(keys) => keys.pass(typed),
            None => (typed.to_vec(), false),
        };
        // The process's end shows in its output.
        if write.write_all(&kept).await.is_err() || write.flush().await.is_err() {
            break;
        }
        if detached {
            let _ = left.send(()).await;
            // Closing would end a shell that is to go on.
            std::future::pending::<()>().await;
        }
    }
    drop(write.shutdown().await);
    // An end of input is no wish to leave.
    std::future::pending::<()>().await;
}

async fn copy_output(mut read: ReadHalf<Upgraded>, tty: bool) -> Result<(), CliError> {
    let mut frames = Frames::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = match read.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            // The engine died or cut us off; what the process did is asked for elsewhere.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => {
                return Err(CliError::Io { doing: "read the output".to_owned(), source: error });
            }
        };
        if tty {
            write(Stream::Output, &buffer[..length]).await?;
        } else {
            for (stream, bytes) in frames.feed(&buffer[..length])? {
                write(stream, &bytes).await?;
            }
        }
    }
}

/// Writes what the program wrote, as it is.
pub(crate) async fn write(stream: Stream, bytes: &[u8]) -> Result<(), CliError> {
    let descriptor = match stream {
        Stream::Output => own(&io::stdout()),
        Stream::Error => own(&io::stderr()),
    };
    let written = async {
        let mut file = descriptor?;
        file.write_all(bytes).await?;
        file.flush().await
    };
    written.await.map_err(closed)
}

/// One of our standard streams, read and written without holding up the event loop.
fn own(stream: &impl AsFd) -> io::Result<File> {
    Ok(File::from_std(stream.as_fd().try_clone_to_owned()?.into()))
}
