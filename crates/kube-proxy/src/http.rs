//! A small HTTP/1.1 server for the health and metrics endpoints: `GET` and `HEAD`, bounded in time and number of connections.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections served at the same time; further ones wait in the backlog.
const MAX_CONNECTIONS: usize = 64;
/// A client that does not finish its request headers in this time is dropped.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is closed after this time, whatever it does.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);
/// The wait before an address that is in use is tried again.
const BIND_RETRY: Duration = Duration::from_secs(5);

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// 200 with plain text.
    pub fn text(body: impl Into<String>) -> Self {
        let content_type = "text/plain; charset=utf-8";
        Self { status: StatusCode::OK, content_type, body: body.into() }
    }

    /// JSON, 200 or 503.
    pub fn health(healthy: bool, body: String) -> Self {
        let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Self { status, content_type: "application/json", body }
    }

    /// 404.
    pub fn not_found() -> Self {
        Self { status: StatusCode::NOT_FOUND, ..Self::text("404 page not found\n") }
    }
}

/// An answer that may take a while.
pub type Reply = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Answers a path; the second argument is the `Accept` header.
pub type Handler = dyn Fn(&str, &str) -> Reply + Send + Sync;

/// A reply that is there at once.
impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Box::pin(std::future::ready(answer))
    }
}

/// Opens the listening socket, trying again for ever unless `hard_fail`; `what` names the server in messages.
pub async fn bind(
    what: &str,
    address: SocketAddr,
    hard_fail: bool,
) -> std::io::Result<TcpListener> {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if hard_fail => return Err(error),
            Err(error) => {
                tracing::error!(
                    "cannot listen on {address} for {what}, trying again in 5 s: {error}"
                );
                tokio::time::sleep(BIND_RETRY).await;
            }
        }
    }
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, handler: Arc<Handler>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: others will be closed.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let handler = handler.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let handler = handler.clone();
                async move { Ok::<_, std::convert::Infallible>(respond(&request, &handler).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away is no concern of ours.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(slot);
        });
    }
}

async fn respond(request: &Request<Incoming>, handler: &Arc<Handler>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let accept = request.headers().get(hyper::header::ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let answer = handler(request.uri().path(), accept).await;
    let mut response = Response::new(Full::from(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
