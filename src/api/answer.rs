//! Answers: one JSON value, or a stream of JSON lines or raw bytes whose headers are sent at once.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_TYPE, WARNING};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream::{self, Stream};
use serde::Serialize;
use tokio::sync::mpsc;

/// Answers 200 with one JSON value.
pub fn json(value: &impl Serialize) -> Response {
    json_with(StatusCode::OK, value)
}

pub fn json_with(status: StatusCode, value: &impl Serialize) -> Response {
    let mut response = Response::new(Body::from(line(value)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Adds what the user has to know besides (RFC 7234, 5.5). A path that no header can hold is left to `info`.
pub fn with_warnings(mut response: Response, warnings: &[String]) -> Response {
    for text in warnings {
        if let Ok(value) = HeaderValue::from_str(&format!("199 bargee \"{text}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}

/// Answers 200 with the bytes of `chunks` as they come. Hyper flushes the headers before the first of them.
pub fn bytes(
    content_type: &'static str,
    chunks: impl Stream<Item = Bytes> + Send + 'static,
) -> Response {
    let chunks = chunks.map(Ok::<_, Infallible>);
    let mut response = Response::new(Body::from_stream(chunks));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Answers one JSON object a line.
pub fn json_lines<T: Serialize + Send + 'static>(
    objects: impl Stream<Item = T> + Send + 'static,
) -> Response {
    bytes("application/json", objects.map(|object| line(&object)))
}

/// Turns a channel into a stream that ends with it.
pub fn receiver<T: Send + 'static>(receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send {
    stream::unfold(receiver, async |mut receiver| {
        let item = receiver.recv().await?;
        Some((item, receiver))
    })
}

fn line(object: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(object).expect("our own types have string keys");
    text.push(b'\n');
    Bytes::from(text)
}
