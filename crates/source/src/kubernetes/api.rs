//! Requests to the API server, and what can go wrong with them.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use tokio::time::timeout;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::observe::{Answered, Observer};
use crate::decode::{self, Status};

/// Most bytes of an error response that are read.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// Why a list or a watch came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server answered with an error.
    Status(Status),
    /// No connection, or it broke.
    Transport(String),
    /// The server did not answer in time.
    Timeout(Duration),
    /// The server sent what is no list or watch.
    Malformed(String),
    /// A watch was closed before it said anything.
    Closed,
}

impl Failure {
    /// The HTTP status code, if the server gave one.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status.code),
            _ => None,
        }
    }

    /// How long the server asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status(status) => status.retry_after.map(Duration::from_secs),
            _ => None,
        }
    }

    /// The version or the page asked for is too old.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Status(status) => {
                status.code == 410 || matches!(&*status.reason, "Expired" | "Gone")
            }
            _ => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) if status.message.is_empty() => {
                write!(f, "the server answered {}", status.code)
            }
            Self::Status(status) => {
                write!(f, "the server answered {}: {}", status.code, status.message)
            }
            Self::Transport(cause) => f.write_str(cause),
            Self::Timeout(limit) => write!(f, "no answer within {limit:?}"),
            Self::Malformed(what) => write!(f, "cannot understand the server: {what}"),
            Self::Closed => f.write_str("the server closes watches at once"),
        }
    }
}

/// Sends requests.
pub(super) struct Api {
    client: Client,
    host: String,
    response: Duration,
    observer: Observer,
}

/// The body of a response, piece by piece.
pub(super) struct Chunks(Body);

impl Api {
    pub(super) fn new(
        client: Client,
        host: String,
        response: Duration,
        observer: Observer,
    ) -> Self {
        Self { client, host, response, observer }
    }

    /// Sends a GET; the body of a good answer.
    pub(super) async fn get(&self, path: &str) -> Result<Chunks, Failure> {
        let request = Request::get(path)
            .header(ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|e| Failure::Malformed(format!("the request {path}: {e}")))?;
        self.send(request).await
    }

    /// Sends a POST with JSON; its answer is read and dropped.
    pub(super) async fn post(&self, path: &str, body: Vec<u8>) -> Result<(), Failure> {
        let request = Request::post(path)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(|e| Failure::Malformed(format!("the request {path}: {e}")))?;
        let mut chunks = self.send(request).await?;
        // Read to its end, the connection can be used again.
        while chunks.next(self.response).await?.is_some() {}
        Ok(())
    }

    /// The body of a good answer.
    async fn send(&self, request: Request<Body>) -> Result<Chunks, Failure> {
        let method = request.method().clone();
        let begin = Instant::now();
        // The client logs an error for every attempt; this crate logs every cause once.
        let sending = self.client.send(request);
        let sending = sending.with_subscriber(NoSubscriber::default());
        let sent = timeout(self.response, sending).await;
        let code = match &sent {
            Ok(Ok(response)) => Some(response.status().as_u16()),
            _ => None,
        };
        let (host, took) = (self.host.as_str(), begin.elapsed());
        self.observer.tell(&Answered { host, method: method.as_str(), code, took });
        let response = match sent {
            Err(_) => return Err(Failure::Timeout(self.response)),
            Ok(Err(error)) => return Err(Failure::Transport(cause(&error))),
            Ok(Ok(response)) => response,
        };
        if response.status().is_success() {
            return Ok(Chunks(response.into_body()));
        }
        Err(self.refusal(response).await)
    }

    /// The whole body of a good answer to a GET.
    pub(super) async fn get_all(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let mut chunks = self.get(path).await?;
        let mut body = Vec::new();
        while let Some(chunk) = chunks.next(self.response).await? {
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Reads what the server has to say about an error.
    async fn refusal(&self, response: Response<Body>) -> Failure {
        let code = response.status().as_u16();
        let header = response.headers().get(RETRY_AFTER);
        let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let mut chunks = Chunks(response.into_body());
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = chunks.next(self.response).await {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ERROR_BODY {
                break;
            }
        }
        let mut status = decode::status(&body).unwrap_or_default();
        status.code = code;
        status.retry_after = seconds.or(status.retry_after);
        Failure::Status(status)
    }
}

impl Chunks {
    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self, limit: Duration) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = self.0.frame().with_subscriber(NoSubscriber::default());
            match timeout(limit, frame).await {
                Err(_) => return Err(Failure::Timeout(limit)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(Failure::Transport(cause(&error))),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// The messages of an error and its sources, each once.
fn cause(error: &dyn Error) -> String {
    let mut messages: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let message = error.to_string();
        // Many errors repeat their source in their own text.
        messages.retain(|outer| !outer.contains(&message));
        messages.push(message);
        next = error.source();
    }
    messages.join(": ")
}
