//! Request bodies: bounded JSON whatever the Content-Type says, as many clients send none. An empty body is `{}`.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ApiError;
use super::request_line::Expected;

/// Largest JSON body that is read, in bytes. A stack with all its files and configs fits many times.
const MAX_BODY: usize = 32 << 20;

/// A body of the Docker API, to be read with [`super::wire::lenient::Object`].
#[derive(Debug, Clone)]
pub struct JsonBody(pub Value);

/// A body whose both ends are ours, as below `/bargee/v1`.
#[derive(Debug, Clone)]
pub struct TypedBody<T>(pub T);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        parse(&read(request).await?).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for TypedBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        parse(&read(request).await?).map(Self)
    }
}

/// A request's body, of which the unread rest is read and dropped: a client that is still sending when its request
/// is refused would otherwise meet a closed connection instead of the reason.
#[derive(Debug)]
pub(super) struct Drained {
    body: Option<Incoming>,
    /// Told when the body is over, as another request may follow it.
    next: Expected,
}

impl Drained {
    pub(super) fn new(body: Incoming, next: Expected) -> Self {
        next.set(body.is_end_stream());
        Self { body: Some(body), next }
    }
}

impl hyper::body::Body for Drained {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(&mut *body).poll_frame(cx);
        if frame.is_ready() && body.is_end_stream() {
            self.next.set(true);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        let next = self.next.clone();
        // It ends with the body, or with the connection.
        tokio::spawn(async move {
            while let Some(Ok(_)) = body.frame().await {}
            next.set(body.is_end_stream());
        });
    }
}

/// Reads a whole body.
pub(super) async fn read(request: Request) -> Result<Bytes, ApiError> {
    let too_large = || {
        let message = format!("the request's body is larger than {MAX_BODY} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    axum::body::to_bytes(request.into_body(), MAX_BODY).await.map_err(|error| {
        let cause = std::error::Error::source(&error);
        match cause {
            Some(cause) if cause.is::<http_body_util::LengthLimitError>() => too_large(),
            _ => ApiError::invalid(format!("cannot read the request's body: {error}")),
        }
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let text = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(text)
        .map_err(|error| ApiError::invalid(format!("invalid JSON: {error}")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use axum::body::Body;

    use super::*;

    #[tokio::test]
    async fn an_empty_body_is_an_empty_object_and_content_type_does_not_matter() {
        let JsonBody(value) =
            JsonBody::from_request(Request::new(Body::empty()), &()).await.unwrap();
        assert_eq!(value, serde_json::json!({}));
        let request = Request::builder()
            .header("content-type", "text/plain")
            .body(Body::from("{\"A\":1}"))
            .unwrap();
        let JsonBody(value) = JsonBody::from_request(request, &()).await.unwrap();
        assert_eq!(value["A"], 1);
    }

    #[tokio::test]
    async fn a_body_that_is_no_json_or_too_large_is_refused() {
        let wrong = JsonBody::from_request(Request::new(Body::from("{")), &()).await.unwrap_err();
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
        assert!(wrong.message.starts_with("invalid JSON: "), "{}", wrong.message);
        let body = Body::from(vec![b' '; MAX_BODY + 1]);
        let large = JsonBody::from_request(Request::new(body), &()).await.unwrap_err();
        assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
