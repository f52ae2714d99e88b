//! A small HTTP/1 server for the health, metrics and per-service health endpoints; bounded in size, time and number of connections.
//!
//! As in Go, the method makes no difference unless a handler looks at it: load balancers check health with `OPTIONS`, `HEAD` and others.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::timeout;

mod connections;
mod listen;

use connections::Connections;
pub use listen::{listen, listen_in_one_family};

/// The wait before an address that is in use is tried again.
pub const BIND_RETRY: Duration = Duration::from_secs(5);
/// Most bytes of a request body that are read; larger ones are refused.
const MAX_BODY: usize = 4 * 1024;
/// Most bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;

/// What a server grants its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections served at the same time. Further ones wait in the backlog until one ends or makes room.
    pub connections: usize,
    /// A client that does not finish its request headers in this time is dropped.
    pub header: Duration,
    /// A connection is closed after this time; a request that has begun is answered before.
    pub connection: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            header: Duration::from_secs(10),
            connection: Duration::from_mins(1),
        }
    }
}

/// A request, as far as answers depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// What follows the question mark, as it came.
    pub query: String,
    /// The `Accept` header.
    pub accept: String,
    /// The body, where [`Handler::reads_body`].
    pub body: Bytes,
}

impl Asked {
    /// A `GET` of a path.
    #[cfg(test)]
    pub(crate) fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
            query: String::new(),
            accept: String::new(),
            body: Bytes::new(),
        }
    }

    /// The value of a parameter of the query, with escapes as forms write them: `%3A` is a colon, `+` a blank.
    pub fn decoded(&self, name: &str) -> Option<String> {
        let mut bytes = self.parameter(name)?.bytes();
        let mut text = Vec::new();
        while let Some(byte) = bytes.next() {
            let digits = bytes.clone().take(2).map(|b| char::from(b).to_digit(16));
            let escaped: Option<Vec<u32>> = digits.collect();
            text.push(match (byte, escaped.as_deref()) {
                (b'+', _) => b' ',
                (b'%', Some([high, low])) => {
                    bytes.nth(1);
                    // Two hexadecimal digits fit.
                    u8::try_from(high * 16 + low).unwrap_or_default()
                }
                _ => byte,
            });
        }
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// The value of a parameter of the query; percent signs are taken as they are.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
    }
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// 200 with plain text.
    pub fn text(body: impl Into<String>) -> Self {
        Self::ok("text/plain; charset=utf-8", body.into())
    }

    /// 200 with any content.
    pub fn ok(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, content_type, headers: Vec::new(), body: body.into() }
    }

    /// An error with one line of text.
    pub fn error(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, ..Self::text(text.into() + "\n") }
    }

    /// JSON, 200 or 503.
    pub fn health(healthy: bool, body: String) -> Self {
        let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Self { status, ..Self::ok("application/json", body) }
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::error(StatusCode::NOT_FOUND, "404 page not found")
    }

    /// 405 with the methods that are allowed.
    pub fn not_allowed(allowed: &'static str) -> Self {
        let mut answer = Self::error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
        answer.headers.push((ALLOW, HeaderValue::from_static(allowed)));
        answer
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.extend(self.headers);
        response
    }
}

/// An answer that is there, or one that takes time.
pub enum Reply {
    /// At once.
    Now(Answer),
    /// When it is finished; it must not block.
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Now(answer)
    }
}

/// Answers requests.
pub trait Handler: Send + Sync {
    /// Answers one.
    fn answer(&self, asked: &Asked) -> Reply;

    /// Whether the answer for a path depends on the body of the request.
    fn reads_body(&self, _path: &str) -> bool {
        false
    }
}

/// Opens the listening socket, trying again until it works unless `hard_fail`; `what` names the server in messages.
pub async fn bind(
    what: &str,
    address: SocketAddr,
    hard_fail: bool,
) -> std::io::Result<TcpListener> {
    loop {
        match listen(address) {
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
pub async fn serve(listener: TcpListener, limits: Limits, handler: Arc<dyn Handler>) {
    let mut open = Connections::new(limits.connections);
    loop {
        open.make_room().await;
        match listener.accept().await {
            Ok((stream, _)) => open.add(connection(stream, limits, handler.clone())),
            Err(error) => {
                // Out of file descriptors, most likely: others will be closed.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves one connection. A client that disappears is no concern of ours.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    limits: Limits,
    handler: Arc<dyn Handler>,
) {
    let service = service_fn(|request| {
        let handler = handler.clone();
        async move {
            let answer = respond(request, &*handler).await;
            Ok::<_, std::convert::Infallible>(answer.into_response())
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(MAX_HEAD)
        // A client may have nothing more to send and still wait for the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    if timeout(limits.connection, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(limits.header, connection).await;
    }
}

async fn respond(request: Request<Incoming>, handler: &dyn Handler) -> Answer {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let body = if handler.reads_body(&path) {
        match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Answer::error(StatusCode::BAD_REQUEST, error.to_string()),
        }
    } else {
        Bytes::new()
    };
    let accept = head.headers.get(hyper::header::ACCEPT);
    let asked = Asked {
        method: head.method,
        path,
        query: head.uri.query().unwrap_or_default().to_owned(),
        accept: accept.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned(),
        body,
    };
    match handler.answer(&asked) {
        Reply::Now(answer) => answer,
        Reply::Later(answer) => answer.await,
    }
}

/// Serves what a client sends before it closes its side, and returns what it receives.
#[cfg(feature = "fuzzing")]
pub(crate) async fn converse(request: &[u8], handler: Arc<dyn Handler>) -> Vec<u8> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (client, server) = tokio::io::duplex(64 * 1024);
    let (mut reader, mut writer) = tokio::io::split(client);
    let send = async {
        // The server may close first.
        let _ = writer.write_all(request).await;
        let _ = writer.shutdown().await;
    };
    let mut received = Vec::new();
    let receive = reader.read_to_end(&mut received);
    let ((), (), _) = tokio::join!(connection(server, Limits::default(), handler), send, receive);
    received
}

#[cfg(test)]
mod tests;
