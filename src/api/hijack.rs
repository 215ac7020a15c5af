//! Taking a connection over: attach and exec speak raw bytes after the headers, with and without `Upgrade`.
//!
//! Hyper hands a connection over only after a 101, and old clients want a 200. So the handler sends its head and
//! streams to the connection's task, which takes the socket and all that was read of it out of hyper.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::Bytes;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::detach;
use super::error::ApiError;
use super::route::ApiVersion;
use super::server;
use super::websocket::{self, Handshake};

/// Bytes that are moved at once.
pub(super) const CHUNK: usize = 32 << 10;

/// Lets a handler take its connection over.
#[derive(Debug, Clone)]
pub(crate) struct Hijack {
    takers: mpsc::Sender<Taken>,
    end: Arc<AtomicBool>,
}

/// What a client is connected to.
pub(crate) struct Session {
    /// Clients of a terminal get raw bytes instead of frames.
    pub(super) tty: bool,
    /// The client's input goes to the process.
    pub(super) input: bool,
    /// What the user types to leave a terminal.
    pub(super) keys: Vec<u8>,
    /// Sent before the process's output, in the form that the client gets.
    pub(crate) before: Vec<u8>,
    /// The connection to the shim; without one the client gets `before` alone.
    pub(crate) attached: Option<UnixStream>,
    /// Begins what the client is connected to, once the client has the head: several read ahead when they parse it,
    /// and lose what came with it.
    pub(crate) begin: Option<Begin>,
}

/// Returns what a session sends first, and its connection.
pub(crate) type Begin = Pin<Box<dyn Future<Output = (Vec<u8>, Option<UnixStream>)> + Send>>;

impl Session {
    /// # Errors
    /// 400: the keys are none.
    pub(crate) fn new(tty: bool, input: bool, keys: Option<&str>) -> Result<Self, ApiError> {
        let keys = match keys {
            Some(text) => detach::parse(text)?,
            None => detach::DEFAULT.to_vec(),
        };
        Ok(Self { tty, input, keys, before: Vec::new(), attached: None, begin: None })
    }
}

/// A connection that a handler wants.
pub(super) struct Taken {
    head: Vec<u8>,
    session: Session,
    /// Messages instead of a raw stream.
    messages: Option<websocket::Form>,
}

/// How the client asked for its raw stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    upgrade: bool,
    version: ApiVersion,
}

impl<S: Send + Sync> FromRequestParts<S> for Hijack {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(|| {
            ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "BUG: the connection can't be taken over",
            )
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> Result<Self, std::convert::Infallible> {
        let version = ApiVersion::from_request_parts(parts, state).await?;
        Ok(Self { upgrade: parts.headers.contains_key(header::UPGRADE), version })
    }
}

impl Hijack {
    pub(super) fn new(takers: mpsc::Sender<Taken>, end: Arc<AtomicBool>) -> Self {
        Self { takers, end }
    }

    /// Hides the end of the client's input from hyper while a request is answered that may take the connection.
    pub(super) fn hold_end(&self, path: &str) -> Option<Held> {
        let takes = path.ends_with("/attach")
            || path.ends_with("/attach/ws")
            || (path.contains("/exec/") && path.ends_with("/start"));
        takes.then(|| {
            self.end.store(true, Ordering::Release);
            Held(Arc::clone(&self.end))
        })
    }

    /// Answers with the raw stream. Never returns: the connection's task drops the handler.
    pub(crate) async fn answer(&self, asked: Asked, session: Session) -> Response {
        let head = head(asked, session.tty);
        self.hand_over(Taken { head, session, messages: None }).await
    }

    /// Answers with a web socket. Never returns either.
    pub(crate) async fn answer_messages(&self, asked: Handshake, session: Session) -> Response {
        let head = with_headers(asked.head());
        self.hand_over(Taken { head, session, messages: Some(asked.form()) }).await
    }

    async fn hand_over(&self, taken: Taken) -> Response {
        // The receiver lives as long as the connection, and so this handler.
        drop(self.takers.send(taken).await);
        std::future::pending().await
    }
}

/// Gives the end of input back when the answer is there.
#[derive(Debug)]
pub(super) struct Held(Arc<AtomicBool>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The content type of a raw stream: multiplexed ones have their own since API 1.42.
pub(crate) fn content_type(version: ApiVersion, tty: bool) -> &'static str {
    if !tty && version >= ApiVersion::new(1, 42) {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    }
}

/// A piece of a multiplexed stream; 1 is standard output, 2 standard error.
pub(crate) fn frame(stream: u8, text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a piece has at most a few megabytes");
    let mut bytes = vec![stream, 0, 0, 0];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn head(asked: Asked, tty: bool) -> Vec<u8> {
    let content_type = content_type(asked.version, tty);
    with_headers(if asked.upgrade {
        format!(
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        )
    } else {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n")
    })
}

/// Adds the headers of every answer, and the head's end.
fn with_headers(mut text: String) -> Vec<u8> {
    let mut headers = HeaderMap::new();
    server::decorate(&mut headers);
    for (name, value) in &headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

impl Taken {
    /// Moves bytes both ways until the output ends or the client is gone. `early` was read behind the request.
    pub(super) async fn run<S>(mut self, client: S, early: Bytes)
    where
        S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
    {
        let gone = match client.as_fd().try_clone_to_owned() {
            Ok(fd) => fd,
            Err(error) => {
                tracing::warn!(%error, "cannot watch a client that attached");
                return;
            }
        };
        if let Some(form) = self.messages {
            let mut client = client;
            return match client.write_all(&self.head).await {
                Ok(()) => websocket::run(client, early, self.session, form).await,
                Err(error) => left(Err(error)),
            };
        }
        let (client_in, mut client_out) = tokio::io::split(client);
        let mut first = self.head;
        if let Some(begin) = self.session.begin {
            if let Err(error) = client_out.write_all(&std::mem::take(&mut first)).await {
                tracing::debug!(%error, "a client left before its process began");
            }
            (self.session.before, self.session.attached) = begin.await;
        }
        first.extend(self.session.before);
        let Some(attached) = self.session.attached else {
            let sent = async {
                client_out.write_all(&first).await?;
                client_out.shutdown().await
            };
            return left(sent.await);
        };
        let (process_out, process_in) = attached.into_split();
        let output = output(first, process_out, client_out, self.session.tty);
        let keys = if self.session.tty { self.session.keys } else { Vec::new() };
        let input = async {
            let ended = if self.session.input {
                input(early, client_in, process_in, keys).await
            } else {
                discard(client_in).await.map(|()| InputEnd::Closed)
            };
            match ended {
                Ok(InputEnd::Detached) => return,
                Ok(InputEnd::Closed) => {}
                Err(error) => tracing::debug!(%error, "a client's input ended early"),
            }
            // The input's end is not the output's.
            std::future::pending::<()>().await;
        };
        // Whichever ends first ends the others, and dropping closes all.
        tokio::select! {
            ended = output => left(ended),
            () = hung_up(gone) => {}
            () = input => {}
        }
    }
}

fn left(sent: io::Result<()>) {
    if let Err(error) = sent {
        tracing::debug!(%error, "a client left while output was sent");
    }
}

/// How a client's input ended.
enum InputEnd {
    Closed,
    /// The user typed the keys.
    Detached,
}

/// Sends the head, then the process's output up to its end.
async fn output(
    head: Vec<u8>,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    tty: bool,
) -> io::Result<()> {
    to.write_all(&head).await?;
    if tty {
        strip_frames(&mut from, &mut to).await?;
    } else {
        copy(&mut from, &mut to).await?;
    }
    to.shutdown().await
}

/// Sends what the client writes to the process, and its half-close too, up to the detach keys.
async fn input(
    early: Bytes,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    keys: Vec<u8>,
) -> io::Result<InputEnd> {
    let mut scanner = detach::Scanner::new(keys);
    let mut chunk = vec![0; CHUNK];
    let mut bytes = early.to_vec();
    loop {
        let scanned = scanner.scan(&bytes);
        to.write_all(&scanned.pass).await?;
        if scanned.detached {
            return Ok(InputEnd::Detached);
        }
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            to.write_all(&scanner.rest()).await?;
            to.shutdown().await?;
            return Ok(InputEnd::Closed);
        }
        bytes.clear();
        bytes.extend_from_slice(&chunk[..length]);
    }
}

/// Reads what nobody wants, so that the client is not blocked.
async fn discard(mut from: impl AsyncRead + Unpin) -> io::Result<()> {
    copy(&mut from, &mut tokio::io::sink()).await
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&chunk[..length]).await?;
    }
}

/// Passes on the payloads of docker's frames: 8 bytes `[stream, 0, 0, 0, length (big endian)]` before each.
pub(super) async fn strip_frames(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut frame = [0; 8];
    loop {
        match from.read_exact(&mut frame).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut left = u32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]) as usize;
        while left > 0 {
            let room = left.min(CHUNK);
            let length = from.read(&mut chunk[..room]).await?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            to.write_all(&chunk[..length]).await?;
            left -= length;
        }
    }
}

/// Waits until the peer has closed the connection both ways, which a half-close is not: epoll_ctl(2), EPOLLHUP.
///
/// `socket` is a descriptor of its own, so that nothing else waits for its readiness. Of a TCP socket only that is
/// asked, too, so it may pass for the other kind.
async fn hung_up(socket: OwnedFd) {
    let Ok(socket) = UnixStream::from_std(socket.into()) else {
        return std::future::pending().await;
    };
    while let Ok(ready) = socket.ready(Interest::WRITABLE).await {
        if ready.is_write_closed() {
            return;
        }
        // Forgets that it is writable, so that the next turn waits for news.
        let nothing: io::Result<()> =
            socket.try_io(Interest::WRITABLE, || Err(io::ErrorKind::WouldBlock.into()));
        drop(nothing);
    }
}

/// A client's socket whose end of input can be hidden for a while.
#[derive(Debug)]
pub(super) struct HeldEnd<S> {
    stream: S,
    held: Arc<AtomicBool>,
}

impl<S> HeldEnd<S> {
    pub(super) fn new(stream: S) -> (Self, Arc<AtomicBool>) {
        let held = Arc::new(AtomicBool::new(false));
        (Self { stream, held: Arc::clone(&held) }, held)
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeldEnd<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let ended = matches!(result, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        // Hyper reads again when the answer is written, by then nothing holds the end.
        if ended && self.held.load(Ordering::Acquire) { Poll::Pending } else { result }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeldEnd<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
