//! Answers that arrive bit by bit.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;

use super::{Body, ClientError};

/// The largest JSON value of a stream, in bytes.
const MAX_LINE: usize = 64 << 20;

/// Raw bytes in the pieces in which they come.
#[derive(Debug)]
pub(crate) struct Download {
    /// Keeps the connection open.
    _sender: SendRequest<Body>,
    body: Incoming,
    content_type: String,
    headers: HeaderMap,
    asked: String,
}

impl Download {
    pub(super) fn new(
        sender: SendRequest<Body>,
        response: Response<Incoming>,
        asked: String,
    ) -> Self {
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
            .to_owned();
        let headers = response.headers().clone();
        Self { _sender: sender, body: response.into_body(), content_type, headers, asked }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether standard output and error come in docker's frames.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.content_type == "application/vnd.docker.multiplexed-stream"
    }

    /// Returns the next piece, `None` at the end. Cancel-safe: a piece that was not returned is still there.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(source)) => {
                    return Err(ClientError::Http { asked: self.asked.clone(), source });
                }
            }
        }
    }
}

/// JSON values, one after the other, with or without line ends between them.
#[derive(Debug)]
pub(crate) struct Lines {
    download: Download,
    buffer: BytesMut,
    ready: VecDeque<Value>,
}

impl Lines {
    pub(super) fn new(download: Download) -> Self {
        Self { download, buffer: BytesMut::new(), ready: VecDeque::new() }
    }

    /// Returns the next value, `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// The connection broke, or what came is no JSON.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            if let Some(value) = self.ready.pop_front() {
                return Ok(Some(value));
            }
            match self.download.next().await? {
                Some(piece) => {
                    self.buffer.extend_from_slice(&piece);
                    self.parse(false)?;
                }
                None if self.buffer.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                None => self.parse(true)?,
            }
        }
    }

    fn wrong(&self, source: serde_json::Error) -> ClientError {
        ClientError::Answer { asked: self.download.asked.clone(), source }
    }

    /// Moves whole values from the buffer to the queue. At the end a value that is cut off is an error.
    fn parse(&mut self, at_end: bool) -> Result<(), ClientError> {
        let mut values = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<Value>();
        let mut used = 0;
        let mut failed = None;
        loop {
            match values.next() {
                None => {
                    used = values.byte_offset();
                    break;
                }
                Some(Ok(value)) => {
                    used = values.byte_offset();
                    self.ready.push_back(value);
                }
                Some(Err(error)) if error.is_eof() && !at_end => break,
                Some(Err(error)) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(self.buffer.split_to(used));
        let too_long = self.buffer.len() > MAX_LINE;
        match failed {
            Some(error) => Err(self.wrong(error)),
            None if too_long => Err(ClientError::Read {
                asked: self.download.asked.clone(),
                source: "one value is larger than 64 MiB".into(),
            }),
            None => Ok(()),
        }
    }
}
