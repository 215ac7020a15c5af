//! Serving connections: the router of all families, the headers of every answer, and hijacked connections.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use super::body::Drained;
use super::error::ApiError;
use super::hijack::{HeldEnd, Hijack, Taken};
use super::request_line::{Expected, Mended};
use super::{docker, process, route, stacks};
use crate::engine::Engine;

/// The Docker version whose API this is: clients that read `Server` or `ServerVersion` expect one.
pub(crate) const DOCKER_VERSION: &str = "28.5.1";

/// How long answers that are under way may take when the engine ends.
const LAST_ANSWERS: std::time::Duration = std::time::Duration::from_secs(2);

/// An address that is listened on.
#[derive(Debug)]
pub enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Serves until `shutdown` is cancelled; then answers under way get two seconds.
pub async fn serve(engine: Arc<Engine>, listeners: Vec<Listener>, shutdown: CancellationToken) {
    let router = router(engine, &shutdown);
    let connections = TaskTracker::new();
    let accepting = TaskTracker::new();
    for listener in listeners {
        let (router, shutdown) = (router.clone(), shutdown.clone());
        accepting.spawn(accept(listener, router, connections.clone(), shutdown));
    }
    accepting.close();
    accepting.wait().await;
    connections.close();
    if tokio::time::timeout(LAST_ANSWERS, connections.wait()).await.is_err() {
        tracing::debug!(open = connections.len(), "connections are cut off");
    }
}

/// The routes of everything that is served.
fn router(engine: Arc<Engine>, shutdown: &CancellationToken) -> Router {
    Router::new()
        .merge(docker::routes())
        .merge(process::routes())
        .merge(stacks::routes())
        .fallback(page_not_found)
        .method_not_allowed_fallback(page_not_found)
        .layer(axum::Extension(shutdown.clone()))
        .with_state(engine)
}

async fn page_not_found() -> ApiError {
    ApiError::not_found("page not found")
}

async fn accept(
    listener: Listener,
    router: Router,
    connections: TaskTracker,
    shutdown: CancellationToken,
) {
    loop {
        // Accepting is cancel-safe: a connection that isn't returned stays in the backlog.
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = accept_one(&listener, &router, &shutdown, &connections) => accepted,
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "cannot accept a connection");
            // Out of descriptors, most likely: give others the time to close some.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

async fn accept_one(
    listener: &Listener,
    router: &Router,
    shutdown: &CancellationToken,
    connections: &TaskTracker,
) -> std::io::Result<()> {
    let (router, shutdown) = (router.clone(), shutdown.clone());
    match listener {
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            connections.spawn(connection(stream, router, shutdown));
        }
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            connections.spawn(connection(stream, router, shutdown));
        }
    }
    Ok(())
}

/// Serves one connection until it ends or a handler takes it over.
async fn connection<S>(stream: S, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
{
    let (stream, end) = HeldEnd::new(stream);
    let (stream, expected) = Mended::new(stream);
    let (hijack, mut takers) = mpsc::channel(1);
    let service = Front { router, hijack: Hijack::new(hijack, end), expected };
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = Box::pin(connection);
    let taken: Taken = tokio::select! {
        // First, so that an earlier answer is flushed before the connection is taken over.
        biased;
        ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
            return;
        }
        Some(taken) = takers.recv() => taken,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // The answer under way is still sent.
            if let Err(error) = poll_fn(|cx| connection.poll_without_shutdown(cx)).await {
                tracing::debug!(%error, "a connection ended early");
            }
            return;
        }
    };
    let parts = Pin::into_inner(connection).into_parts();
    let (stream, unread) = parts.io.into_inner().into_parts();
    let early = [parts.read_buf.as_ref(), &unread].concat();
    // Processes that clients are attached to go on without us.
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = taken.run(stream.into_inner(), early.into()) => {}
    }
}

/// What stands before the router.
#[derive(Debug, Clone)]
struct Front {
    router: Router,
    hijack: Hijack,
    /// Told when a request's last byte was read.
    expected: Expected,
}

impl Service<Request<Incoming>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    /// Called as soon as a head is parsed and before more is read, so that a half-close of a client that attaches
    /// is not taken for its leave.
    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let front = self.clone();
        let held = front.hijack.hold_end(request.uri().path());
        // Of a connection that is taken over, what follows is input for the process.
        let request = match held {
            Some(_) => request.map(Body::new),
            None => request.map(|body| Body::new(Drained::new(body, front.expected.clone()))),
        };
        Box::pin(async move {
            let mut response = front.answer(request).await;
            decorate(response.headers_mut());
            drop(held);
            Ok(response)
        })
    }
}

impl Front {
    async fn answer(mut self, request: Request<Body>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        match route::normalise(&parts.uri) {
            Err(error) => error.into_response(),
            Ok((uri, version)) => {
                parts.uri = uri;
                parts.extensions.insert(version);
                parts.extensions.insert(self.hijack);
                let request = Request::from_parts(parts, body);
                match self.router.call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
        }
    }
}

/// The headers of every answer.
pub(super) fn decorate(headers: &mut HeaderMap) {
    headers.insert("Api-Version", HeaderValue::from_static("1.51"));
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    headers.insert("Server", HeaderValue::from_static("Docker/28.5.1 (linux)"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_name_the_versions_that_are_served() {
        let mut headers = HeaderMap::new();
        decorate(&mut headers);
        assert_eq!(headers["Api-Version"], route::VERSION.to_string());
        assert_eq!(headers["Server"], format!("Docker/{DOCKER_VERSION} (linux)"));
    }
}
