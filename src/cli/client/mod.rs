//! HTTP/1.1 over the engine's socket: plain requests, streams of JSON lines, raw bytes, upgraded connections.
//!
//! A connection that is idle is used again. Docker's paths get the API version in front; ours
//! (`/bargee/v1/…`) and `/_ping` do not.

mod error;
mod start;
mod stream;

use std::path::PathBuf;
use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio_util::io::ReaderStream;

pub(crate) use error::ClientError;
pub(crate) use hyper::Method;
pub(crate) use stream::{Download, Lines};

use super::place::Place;

/// The API version that these requests are written in.
pub(crate) const API_VERSION: &str = "v1.51";

/// The largest answer that is read as a whole, in bytes.
const MAX_ANSWER: usize = 256 << 20;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;
pub(crate) type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// An engine that listens. Cheap to share by reference; requests may run at once.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    idle: Mutex<Vec<SendRequest<Body>>>,
}

/// An answer that was read as a whole. Its status is 2xx or 304 (nothing had to be done).
#[derive(Debug)]
pub(crate) struct Response {
    body: Bytes,
    asked: String,
    /// What the engine warns of, whatever was asked.
    pub(crate) warnings: Vec<String>,
}

impl Response {
    /// Returns the body as `T`.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|source| ClientError::Answer { asked: self.asked.clone(), source })
    }
}

impl Client {
    /// Connects to the engine of `place`; starts it when there is none and we may.
    ///
    /// # Errors
    /// There is no engine, it can't be reached or can't be started.
    pub(crate) async fn connect(place: &Place) -> Result<Self, ClientError> {
        let socket = place.socket();
        let client = Self { socket: socket.clone(), idle: Mutex::default() };
        let sender = match client.open().await {
            Err(ClientError::Connect { source, .. })
                if place.may_start() && start::is_absent(&source) =>
            {
                start::start(place)?;
                client.open().await?
            }
            other => other?,
        };
        client.keep(sender);
        Ok(client)
    }

    /// As [`Self::connect`], and `None` when no engine runs.
    ///
    /// # Errors
    /// The socket is there and can't be used.
    pub(crate) async fn connect_running(place: &Place) -> Result<Option<Self>, ClientError> {
        let client = Self { socket: place.socket(), idle: Mutex::default() };
        match client.open().await {
            Ok(sender) => {
                client.keep(sender);
                Ok(Some(client))
            }
            Err(ClientError::Connect { source, .. }) if start::is_absent(&source) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn get(&self, path: &str, query: Query<'_>) -> Result<Response, ClientError> {
        match self.request(Method::GET, path, query, None).await {
            // The engine crashed before it answered; its keeper brings the next one, and asking twice changes nothing.
            Err(ClientError::Http { .. }) => self.request(Method::GET, path, query, None).await,
            answered => answered,
        }
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        query: Query<'_>,
        body: Option<Json>,
    ) -> Result<Response, ClientError> {
        self.request(Method::POST, path, query, body).await
    }

    pub(crate) async fn delete(
        &self,
        path: &str,
        query: Query<'_>,
    ) -> Result<Response, ClientError> {
        self.request(Method::DELETE, path, query, None).await
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// The connection broke, or the engine refused: [`ClientError::Server`] with its message.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        body: Option<Json>,
    ) -> Result<Response, ClientError> {
        let asked = format!("{method} {path}");
        let kind = body.as_ref().map(|_| JSON);
        let request = request(method, path, query, json_body(body), kind, &[]);
        let (sender, response) = self.send(request, &asked).await?;
        let warnings = warnings(response.headers());
        let body = whole(response.into_body(), &asked).await?;
        self.keep(sender);
        Ok(Response { body, asked, warnings })
    }

    /// Sends a request whose answer is a stream of JSON values.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub(crate) async fn lines(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        body: Option<Json>,
    ) -> Result<Lines, ClientError> {
        Ok(Lines::new(self.download(method, path, query, body).await?))
    }

    /// Sends a request whose answer is raw bytes.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub(crate) async fn download(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        body: Option<Json>,
    ) -> Result<Download, ClientError> {
        let asked = format!("{method} {path}");
        let kind = body.as_ref().map(|_| JSON);
        let request = request(method, path, query, json_body(body), kind, &[]);
        let (sender, response) = self.send(request, &asked).await?;
        Ok(Download::new(sender, response, asked))
    }

    /// Sends what `reader` holds; the answer is a stream of JSON values.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub(crate) async fn upload<R: AsyncRead + Send + 'static>(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        reader: R,
    ) -> Result<Lines, ClientError> {
        use futures_util::TryStreamExt;
        let asked = format!("{method} {path}");
        let stream = ReaderStream::with_capacity(reader, 256 << 10).map_ok(Frame::data);
        let body = BodyExt::boxed_unsync(StreamBody::new(stream));
        let request = request(method, path, query, body, Some("application/x-tar"), &[]);
        let (sender, response) = self.send(request, &asked).await?;
        Ok(Lines::new(Download::new(sender, response, asked)))
    }

    /// Asks for an answer's headers alone, and returns the one called `name`.
    ///
    /// # Errors
    /// As [`Self::request`]; a refusal has no message then.
    pub(crate) async fn header(
        &self,
        path: &str,
        query: Query<'_>,
        name: &str,
    ) -> Result<Option<String>, ClientError> {
        let asked = format!("{} {path}", Method::HEAD);
        let request = request(Method::HEAD, path, query, json_body(None), None, &[]);
        let (sender, response) = self.send(request, &asked).await?;
        let value = response.headers().get(name).and_then(|value| value.to_str().ok());
        let value = value.map(str::to_owned);
        self.keep(sender);
        Ok(value)
    }

    /// Takes the connection over for a raw stream, as attach and exec do. Shutting the write half down
    /// closes the process's standard input; the read half goes on.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub(crate) async fn upgrade(
        &self,
        path: &str,
        query: Query<'_>,
        body: Option<Json>,
    ) -> Result<(ReadHalf<Upgraded>, WriteHalf<Upgraded>), ClientError> {
        let asked = format!("{} {path}", Method::POST);
        let headers = [(header::CONNECTION, "Upgrade"), (header::UPGRADE, "tcp")];
        let kind = body.as_ref().map(|_| JSON);
        let request = request(Method::POST, path, query, json_body(body), kind, &headers);
        let (_sender, response) = self.send(request, &asked).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ClientError::NoUpgrade { asked });
        }
        let upgraded = hyper::upgrade::on(response)
            .await
            .map_err(|source| ClientError::Http { asked, source })?;
        Ok(tokio::io::split(TokioIo::new(upgraded)))
    }

    /// Sends over an idle connection, or a new one; a refusal becomes an error.
    async fn send(
        &self,
        request: Request<Body>,
        asked: &str,
    ) -> Result<(SendRequest<Body>, hyper::Response<Incoming>), ClientError> {
        let mut sender = match self.take_idle().await {
            Some(sender) => sender,
            None => self.open().await?,
        };
        let response = sender
            .send_request(request)
            .await
            .map_err(|source| ClientError::Http { asked: asked.to_owned(), source })?;
        let status = response.status();
        if status.is_success()
            || status == StatusCode::NOT_MODIFIED
            || status == StatusCode::SWITCHING_PROTOCOLS
        {
            return Ok((sender, response));
        }
        let body = whole(response.into_body(), asked).await?;
        self.keep(sender);
        Err(ClientError::server(status.as_u16(), &body))
    }

    /// Returns a connection whose last answer was read, unless the engine has closed it.
    async fn take_idle(&self) -> Option<SendRequest<Body>> {
        loop {
            let mut sender =
                self.idle.lock().expect("no thread panics with the list of connections").pop()?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    fn keep(&self, sender: SendRequest<Body>) {
        self.idle.lock().expect("no thread panics with the list of connections").push(sender);
    }

    async fn open(&self) -> Result<SendRequest<Body>, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Connect { socket: self.socket.clone(), source })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| ClientError::Http { asked: "connect".to_owned(), source })?;
        // Its errors reach whoever waits for an answer.
        tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(sender)
    }
}

/// Reads the texts of `Warning: 199 bargee "text"` (RFC 7234, 5.5).
fn warnings(headers: &hyper::HeaderMap) -> Vec<String> {
    let values = headers.get_all(hyper::header::WARNING).into_iter();
    let texts = values.filter_map(|value| value.to_str().ok()?.split_once('"'));
    texts.map(|(_, text)| text.trim_end_matches('"').to_owned()).collect()
}

const JSON: &str = "application/json";

/// Names and values of a query, not yet encoded.
pub(crate) type Query<'a> = &'a [(&'a str, &'a str)];

/// Returns `text` for use as one part of a path: everything but unreserved characters is encoded
/// (RFC 3986, 2.3).
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// As [`segment`] for an image's name, whose slashes stay.
pub(crate) fn image_path(name: &str) -> String {
    name.split('/').map(segment).collect::<Vec<_>>().join("/")
}

fn uri(path: &str, query: Query<'_>) -> String {
    let mut uri = if path.starts_with("/bargee/") || path == "/_ping" {
        path.to_owned()
    } else {
        format!("/{API_VERSION}{path}")
    };
    for (index, (name, value)) in query.iter().enumerate() {
        uri.push(if index == 0 { '?' } else { '&' });
        uri.push_str(&segment(name));
        uri.push('=');
        uri.push_str(&segment(value));
    }
    uri
}

/// A request's body, written: a big one never is a [`Value`] as well.
#[derive(Debug)]
pub(crate) struct Json(Bytes);

impl Json {
    /// # Errors
    /// `body` is nothing that JSON has, as a map whose keys are no strings.
    pub(crate) fn of(body: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(body).map(|bytes| Self(bytes.into()))
    }
}

impl From<&Value> for Json {
    fn from(body: &Value) -> Self {
        Self(body.to_string().into())
    }
}

fn json_body(body: Option<Json>) -> Body {
    let bytes = body.map_or_else(Bytes::new, |body| body.0);
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn request(
    method: Method,
    path: &str,
    query: Query<'_>,
    body: Body,
    content_type: Option<&'static str>,
    headers: &[(HeaderName, &'static str)],
) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri(path, query).parse().expect("every part of it is encoded");
    let map = request.headers_mut();
    map.insert(header::HOST, HeaderValue::from_static("bargee"));
    map.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    if let Some(kind) = content_type {
        map.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    for (name, value) in headers {
        map.insert(name, HeaderValue::from_static(value));
    }
    request
}

const USER_AGENT: &str = concat!("bargee/", env!("CARGO_PKG_VERSION"));

async fn whole(body: Incoming, asked: &str) -> Result<Bytes, ClientError> {
    let limited = http_body_util::Limited::new(body, MAX_ANSWER);
    match limited.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(source) => Err(ClientError::Read { asked: asked.to_owned(), source }),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
