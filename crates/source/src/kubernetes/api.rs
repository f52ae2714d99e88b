//! Requests to the API server, and what can go wrong with them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION,
};
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::sync::watch;
use tokio::time::timeout;

use super::accept::Accept;
use super::client::{Transport, words};
use super::failure::Failure;
use super::observe::{Answered, Observer};
use super::retry_after;
use crate::decode::{self, Format};

mod chunks;

pub(super) use chunks::Chunks;

/// Most characters of an error response that is no Status.
const MAX_EXCERPT: usize = 200;

/// Sends requests.
pub(super) struct Api {
    client: Client,
    transport: Arc<Transport>,
    accept: Accept,
    response: Duration,
    observer: Observer,
}

impl Api {
    pub(super) fn new(
        transport: Arc<Transport>,
        accept: Accept,
        response: Duration,
        observer: Observer,
    ) -> Self {
        Self { client: transport.client(), transport, accept, response, observer }
    }

    /// What the requests are sent over.
    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Sends a GET for a watch; the body of a good answer. Servers compress no watches, so this is not asked for.
    pub(super) async fn get(&self, path: &str) -> Result<Chunks, Failure> {
        self.get_coded(path, false).await
    }

    /// The whole body of a good answer to a GET, and its encoding.
    pub(super) async fn get_all(&self, path: &str) -> Result<(Format, Vec<u8>), Failure> {
        let mut chunks = self.get_coded(path, self.transport.compresses()).await?;
        let body = chunks.collect(self.response).await?;
        Ok((chunks.format, body))
    }

    /// Sends a GET, again with the next best `Accept` if the server refuses this one.
    async fn get_coded(&self, path: &str, gzip: bool) -> Result<Chunks, Failure> {
        loop {
            let (index, accept) = self.accept.current();
            let mut request = Request::get(path).header(ACCEPT, accept);
            if gzip {
                request = request.header(ACCEPT_ENCODING, "gzip");
            }
            let request = request
                .body(Body::empty())
                .map_err(|e| Failure::Malformed(format!("the request {path}: {e}")))?;
            match self.send(request).await {
                Err(failure) if failure.code() == Some(406) && self.accept.refused(index) => {}
                result => return result,
            }
        }
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
        let asked_for_gzip = request.headers().contains_key(ACCEPT_ENCODING);
        let begin = Instant::now();
        // Read before the connection is taken: what is replaced meanwhile makes it outdated.
        let generation = self.transport.generation();
        let sent = timeout(self.response, self.client.send(request)).await;
        let code = match &sent {
            Ok(Ok(response)) => Some(response.status().as_u16()),
            _ => None,
        };
        let (host, took) = (self.transport.authority(), begin.elapsed());
        self.observer.tell(&Answered { host, method: method.as_str(), code, took });
        let response = match sent {
            Err(_) => return Err(Failure::Timeout(self.response)),
            Ok(Err(error)) => return Err(Failure::Transport(words::describe(&error))),
            Ok(Ok(response)) => response,
        };
        if !response.status().is_success() {
            return Err(self.refusal(response, generation).await);
        }
        let content = response.headers().get(CONTENT_TYPE);
        let format = match content {
            None => Format::Json,
            Some(named) => format_of(named).ok_or_else(|| {
                Failure::Malformed(format!("the answer is {named:?}, not JSON or protobuf"))
            })?,
        };
        let gzip = is_gzip(&response);
        match response.headers().get(CONTENT_ENCODING) {
            Some(coding) if !(gzip && asked_for_gzip) => Err(Failure::Malformed(format!(
                "the answer is compressed ({coding:?}), which was not asked for"
            ))),
            _ => Ok(Chunks { body: response.into_body(), format, gzip, generation }),
        }
    }

    /// Reads what the server has to say about an error.
    async fn refusal(&self, response: Response<Body>, generation: watch::Receiver<u64>) -> Failure {
        let code = response.status().as_u16();
        let seconds = retry_after::seconds(response.headers(), jiff::Timestamp::now());
        let location = response.headers().get(LOCATION).cloned();
        let gzip = is_gzip(&response);
        // The body itself says how it is encoded.
        let format = Format::Json;
        let mut chunks = Chunks { body: response.into_body(), format, gzip, generation };
        let body = chunks.excerpt(self.response).await;
        let mut status = decode::status(&body).unwrap_or_default();
        if let (true, Some(location)) = ((300..400).contains(&code), location) {
            status.message = format!("it points to {location:?}, which is not followed");
        } else if status.message.is_empty() {
            status.message = excerpt(&body);
        }
        status.code = code;
        status.retry_after = seconds.or(status.retry_after);
        Failure::Status(status)
    }
}

/// The encoding that a content type names. Anything with JSON in its name is read as JSON.
fn format_of(content_type: &HeaderValue) -> Option<Format> {
    let name = content_type.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase();
    match &*name {
        "application/vnd.kubernetes.protobuf" => Some(Format::Protobuf),
        name if name.contains("json") => Some(Format::Json),
        _ => None,
    }
}

fn is_gzip(response: &Response<Body>) -> bool {
    let coding = response.headers().get(CONTENT_ENCODING);
    coding.is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"gzip"))
}

/// The beginning of what is no Status, in one line: proxies and load balancers answer with text or HTML.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(MAX_EXCERPT).collect()
}
