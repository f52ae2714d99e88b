//! The log of requests, for tests that check how a client behaves.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use hyper::{Request, Response};

/// How many query strings are kept of each kind of request.
const KEPT_QUERIES: usize = 256;

/// What a request does, in the words of Kubernetes audit logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read a collection.
    List,
    /// Follow a collection.
    Watch,
    /// POST
    Create,
    /// PUT
    Update,
    /// PATCH
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
    /// Any other request: discovery, health, version, unknown paths.
    Other,
}

/// The requests of one verb on one resource.
#[derive(Clone, Debug, Default)]
pub struct RequestStats {
    /// How many arrived, also those that failed.
    pub count: u64,
    /// How many were answered with a status of 400 or above.
    pub failed: u64,
    /// The last query strings as they came, the newest last; some hundreds are kept.
    pub queries: VecDeque<String>,
    /// When they arrived; as many as queries.
    pub times: VecDeque<Instant>,
    /// The last `Accept` header; empty without one.
    pub accept: String,
    /// How many good answers were of each content type.
    pub content_types: BTreeMap<String, u64>,
    /// How many answers were compressed.
    pub compressed: u64,
}

/// All requests since the start of the server, or since the log was cleared.
#[derive(Clone, Debug, Default)]
pub struct RequestLog {
    stats: BTreeMap<(Verb, String), RequestStats>,
}

impl RequestLog {
    /// The requests of a verb on a resource, which is the plural name, `services` or `endpointslices.discovery.k8s.io`.
    /// For [`Verb::Other`] it is the path.
    pub fn stats(&self, verb: Verb, resource: &str) -> RequestStats {
        self.stats.get(&(verb, resource.to_owned())).cloned().unwrap_or_default()
    }

    /// How many requests of a verb arrived for a resource; see [`RequestLog::stats`].
    pub fn count(&self, verb: Verb, resource: &str) -> u64 {
        self.stats.get(&(verb, resource.to_owned())).map_or(0, |stats| stats.count)
    }

    /// The query string of the newest such request.
    pub fn last_query(&self, verb: Verb, resource: &str) -> Option<&str> {
        self.stats.get(&(verb, resource.to_owned()))?.queries.back().map(String::as_str)
    }

    /// All kinds of requests, sorted by verb and resource.
    pub fn iter(&self) -> impl Iterator<Item = (Verb, &str, &RequestStats)> {
        self.stats.iter().map(|((verb, resource), stats)| (*verb, resource.as_str(), stats))
    }

    /// Counts an arriving request.
    pub(super) fn arrived<B>(&mut self, verb: Verb, resource: &str, request: &Request<B>) {
        let stats = self.stats.entry((verb, resource.to_owned())).or_default();
        stats.count += 1;
        if stats.queries.len() == KEPT_QUERIES {
            stats.queries.pop_front();
            stats.times.pop_front();
        }
        stats.queries.push_back(request.uri().query().unwrap_or("").to_owned());
        stats.times.push_back(Instant::now());
        stats.accept = text(request.headers(), &ACCEPT);
    }

    /// Counts an answer.
    pub(super) fn answered<B>(&mut self, verb: Verb, resource: &str, response: &Response<B>) {
        let stats = self.stats.entry((verb, resource.to_owned())).or_default();
        if response.status().as_u16() >= 400 {
            stats.failed += 1;
            return;
        }
        let headers = response.headers();
        *stats.content_types.entry(text(headers, &CONTENT_TYPE)).or_default() += 1;
        stats.compressed += u64::from(headers.contains_key(CONTENT_ENCODING));
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}
