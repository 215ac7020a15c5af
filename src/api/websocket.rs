//! Attaching over a web socket: the raw output in messages, and messages as input (RFC 6455).

use std::pin::pin;

use axum::body::Bytes;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::detach;
use super::error::ApiError;
use super::hijack::{self, Session};
use super::route::ApiVersion;

/// Largest message that a client may send, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// A client's wish for a web socket.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    accept: String,
    protocol: Option<String>,
    form: Form,
}

/// What kind of messages a client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Binary,
    /// Clients before API 1.28.
    Text,
}

impl<S: Send + Sync> FromRequestParts<S> for Handshake {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let headers = &parts.headers;
        let says = |name: HeaderName, word: &str| {
            let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
            values
                .flat_map(|value| value.split(','))
                .any(|part| part.trim().eq_ignore_ascii_case(word))
        };
        let wrong = |what: &str| {
            Err(ApiError::invalid(format!("this is no web socket's handshake: {what}")))
        };
        if !says(header::UPGRADE, "websocket") || !says(header::CONNECTION, "upgrade") {
            return wrong("the headers Upgrade: websocket and Connection: Upgrade are missing");
        }
        if !says(header::SEC_WEBSOCKET_VERSION, "13") {
            return wrong("the header Sec-WebSocket-Version is not 13");
        }
        let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
            return wrong("the header Sec-WebSocket-Key is missing");
        };
        let accept = derive_accept_key(key.as_bytes());
        let protocol = one_protocol(headers);
        let version = match ApiVersion::from_request_parts(parts, state).await {
            Ok(version) => version,
            Err(never) => match never {},
        };
        let form = if version < ApiVersion::new(1, 28) { Form::Text } else { Form::Binary };
        Ok(Self { accept, protocol, form })
    }
}

/// Docker agrees to a protocol when there is no choice.
fn one_protocol(headers: &HeaderMap) -> Option<String> {
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    (!offered.contains(',')).then(|| offered.trim().to_owned())
}

impl Handshake {
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Returns the answer's first lines.
    pub(super) fn head(&self) -> String {
        let protocol = match &self.protocol {
            Some(name) => format!("Sec-WebSocket-Protocol: {name}\r\n"),
            None => String::new(),
        };
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n{protocol}",
            self.accept
        )
    }
}

/// Moves messages both ways until the output ends or the client is gone.
pub(super) async fn run<S>(client: S, early: Bytes, session: Session, form: Form)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let socket =
        WebSocketStream::from_partially_read(client, early.to_vec(), Role::Server, Some(limits))
            .await;
    let (mut to, from) = socket.split();
    let Session { input, keys, before, attached, tty, .. } = session;
    if !before.is_empty() && to.send(message(form, &before)).await.is_err() {
        return;
    }
    if let Some(attached) = attached {
        let (process_out, process_in) = attached.into_split();
        let output = pin!(send_output(process_out, &mut to, form));
        let keys = if tty { keys } else { Vec::new() };
        let input = pin!(receive_input(from, process_in, input, keys));
        // Whichever ends first ends the other, and dropping closes all.
        tokio::select! {
            () = output => {}
            () = input => {}
        }
    }
    // A client that is gone needs no goodbye.
    drop(to.close().await);
}

fn message(form: Form, bytes: &[u8]) -> Message {
    match form {
        Form::Binary => Message::binary(bytes.to_vec()),
        Form::Text => Message::text(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// Sends what the process writes, both streams as one, up to its end.
async fn send_output(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl Sink<Message, Error = Error> + Unpin),
    form: Form,
) {
    let (mut plain, mut stripped) = tokio::io::duplex(hijack::CHUNK);
    let strip = async {
        let ended = hijack::strip_frames(&mut from, &mut stripped).await;
        // Ends the other half, which then has all that came.
        drop(stripped);
        ended
    };
    let send = async {
        let mut chunk = vec![0; hijack::CHUNK];
        loop {
            match plain.read(&mut chunk).await {
                Ok(0) | Err(_) => return Ok(()),
                Ok(length) => to.send(message(form, &chunk[..length])).await?,
            }
        }
    };
    let (stripped, sent): (_, Result<(), Error>) = tokio::join!(strip, send);
    if let Err(error) = stripped {
        tracing::debug!(%error, "the output of a container ended early");
    }
    if let Err(error) = sent {
        tracing::debug!(%error, "a client left while output was sent");
    }
}

/// Passes messages to the process. Returns when the client is gone or typed the keys that leave.
async fn receive_input(
    mut from: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut to: impl AsyncWrite + Unpin,
    wanted: bool,
    keys: Vec<u8>,
) {
    let mut scanner = detach::Scanner::new(keys);
    while let Some(Ok(message)) = from.next().await {
        let bytes = match &message {
            Message::Binary(bytes) => bytes.as_ref(),
            Message::Text(text) => text.as_bytes(),
            Message::Close(_) => break,
            // Pings are answered by the library.
            _ => continue,
        };
        if !wanted {
            continue;
        }
        let scanned = scanner.scan(bytes);
        if to.write_all(&scanned.pass).await.is_err() {
            // The process closed its input; what it writes is still wanted.
            tracing::debug!("a process reads no more");
        }
        if scanned.detached {
            return;
        }
    }
}
