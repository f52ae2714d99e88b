//! The list and watch state machine of one kind.

use std::sync::Arc;
use std::time::Duration;

use kube_proxy_core::{Event, Kind, ObjectName};
use tokio::time::{Instant, sleep};

use super::Shared;
use super::api::{Chunks, Failure};
use super::backoff::{Backoff, random};
use super::lines::Lines;
use crate::Sink;
use crate::decode::{self, Decoded, WatchLine};
use crate::object::deleted;
use crate::problem::Subject;

mod request;

use request::Request;

/// A watch that ends sooner than this without a word is refused rather than ended.
const SHORT_WATCH: Duration = Duration::from_secs(1);
/// After so many refusals of the same version it is given up.
const MAX_REFUSALS: u32 = 3;

/// Lists and watches one kind.
pub(super) struct Watcher {
    shared: Arc<Shared>,
    kind: Kind,
    sink: Sink,
    backoff: Backoff,
    /// Where to go on; `None` when a list is needed.
    version: Option<String>,
    /// The best way to list that the server was not seen to refuse.
    listing: Listing,
    /// How often the server refused to go on from `version`.
    refusals: u32,
    /// No watch got on from the last list's version yet.
    fresh: bool,
    /// A list's own version was refused as too old: until a watch works, lists alone are no recovery.
    expired: bool,
    /// Since when the present request is a watch that goes on from a complete list.
    watching_since: Option<Instant>,
}

/// Ways to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    /// A watch that begins with everything there is.
    Streaming,
    /// Page by page.
    Pages,
    /// All at once, when pages expire faster than they are fetched.
    Whole,
}

/// How one list or watch ended.
enum End {
    /// The next step can be done at once.
    Continue,
    /// The version is too old.
    Gone(Failure),
    /// The server does not do streaming lists.
    NoStreaming(&'static str),
    /// Something went wrong.
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        if failure.is_gone() { Self::Gone(failure) } else { Self::Failed(failure) }
    }
}

impl Watcher {
    pub(super) fn new(shared: Arc<Shared>, kind: Kind, sink: Sink) -> Self {
        let timing = &shared.timing;
        Self {
            backoff: Backoff::new(timing.backoff_start, timing.backoff_max),
            shared,
            kind,
            sink,
            version: None,
            listing: Listing::Streaming,
            refusals: 0,
            fresh: false,
            expired: false,
            watching_since: None,
        }
    }

    /// Never ends.
    pub(super) async fn run(mut self) {
        loop {
            self.shared.rate.acquire().await;
            let end = match self.version.clone() {
                Some(version) => self.watch(&version).await,
                None if self.listing == Listing::Streaming => self.streaming_list().await,
                None => self.paged_list().await,
            };
            match end {
                Ok(()) | Err(End::Continue) => {}
                Err(End::Gone(failure)) => self.start_over(&failure).await,
                Err(End::NoStreaming(why)) => {
                    tracing::info!(kind = %self.kind, "no streaming lists: {why}; using pages");
                    self.listing = Listing::Pages;
                }
                Err(End::Failed(failure)) => self.recover(&failure).await,
            }
        }
    }

    /// The version is gone: list again, at once only if a watch had got on from the last list.
    async fn start_over(&mut self, failure: &Failure) {
        tracing::debug!(kind = %self.kind, "the resource version has expired; listing again");
        let fresh = std::mem::take(&mut self.fresh);
        if self.version.take().is_none() {
            self.list_refused();
        } else if fresh {
            self.expired = true;
        } else {
            return;
        }
        self.back_off(failure).await;
    }

    /// A list itself is said to be too old, which is odd: it asks for no version.
    fn list_refused(&mut self) {
        self.refusals += 1;
        if self.listing == Listing::Streaming && self.refusals >= MAX_REFUSALS {
            tracing::info!(kind = %self.kind, "streaming lists are refused as too old; using pages");
            self.listing = Listing::Pages;
            self.refusals = 0;
        }
    }

    /// Waits after an error, longer from one to the next.
    async fn back_off(&mut self, failure: &Failure) {
        let delay = self.backoff.next(failure.retry_after());
        self.shared.outages.failed(self.kind, &failure.to_string(), delay);
        sleep(delay).await;
    }

    /// Waits after an error, and decides where to go on.
    async fn recover(&mut self, failure: &Failure) {
        if self.kind == Kind::ServiceCidr && matches!(failure.code(), Some(403 | 404)) {
            return self.do_without(failure).await;
        }
        let refused = failure.code().is_some_and(|code| !matches!(code, 401 | 403 | 429 | 503));
        if refused || matches!(failure, Failure::Malformed(_)) {
            self.refusals += 1;
            if self.refusals >= MAX_REFUSALS {
                self.version = None;
                self.refusals = 0;
            }
        }
        self.back_off(failure).await;
    }

    /// ServiceCIDRs only make one drop rule more exact: old servers and old roles do without.
    async fn do_without(&mut self, failure: &Failure) {
        if !self.shared.status.is_listed(self.kind) {
            tracing::info!("ServiceCIDRs are not used: {failure}");
            self.begin();
            self.done();
        }
        sleep(self.shared.timing.forbidden).await;
    }

    /// Lists page by page.
    async fn paged_list(&mut self) -> Result<(), End> {
        let paging = self.listing == Listing::Pages;
        let mut token = String::new();
        loop {
            let request = Request::page(self.kind, &self.shared.node_name, &token, paging);
            let body = match self.shared.api.get_all(&request).await {
                Err(failure) if paging && failure.is_gone() && !token.is_empty() => {
                    // The list took longer than the server remembers: all at once then.
                    self.listing = Listing::Whole;
                    return Err(End::Continue);
                }
                result => result?,
            };
            self.heard();
            let first = token.is_empty();
            let head = self.take_page(&body, first)?;
            token = head.continue_token;
            if token.is_empty() {
                if head.resource_version.is_empty() {
                    let missing = "the list has no resourceVersion".to_owned();
                    return Err(Failure::Malformed(missing).into());
                }
                self.done();
                self.listed_at(head.resource_version);
                return Ok(());
            }
        }
    }

    fn take_page(&mut self, body: &[u8], first: bool) -> Result<decode::PageHead, End> {
        let mut objects = Vec::new();
        let head = decode::page(self.kind, body, &self.shared.context, &mut |o| objects.push(o))
            .map_err(|e| Failure::Malformed(format!("a list of {}s: {e}", self.kind)))?;
        if first {
            self.begin();
        }
        for object in objects {
            self.take(object);
        }
        Ok(head)
    }

    /// Lists by a watch that begins with everything there is, and goes on with it.
    async fn streaming_list(&mut self) -> Result<(), End> {
        let timeout = self.watch_seconds();
        let request = Request::streaming_list(self.kind, &self.shared.node_name, timeout);
        let chunks = match self.shared.api.get(&request).await {
            Err(failure) if matches!(failure.code(), Some(400 | 422)) => {
                return Err(End::NoStreaming("the server refuses them"));
            }
            result => result?,
        };
        self.heard();
        self.begin();
        self.follow(chunks, true).await
    }

    /// Watches from a version on.
    async fn watch(&mut self, version: &str) -> Result<(), End> {
        let timeout = self.watch_seconds();
        let request = Request::watch(self.kind, &self.shared.node_name, version, timeout);
        let chunks = self.shared.api.get(&request).await?;
        self.heard();
        self.follow(chunks, false).await
    }

    /// Reads a watch to its end. `listing`: its initial events are a list that is not complete yet.
    async fn follow(&mut self, chunks: Chunks, listing: bool) -> Result<(), End> {
        self.watching_since = (!listing).then(Instant::now);
        let result = self.read(chunks, listing).await;
        if self.has_lasted() && !matches!(result, Err(End::Gone(_))) {
            self.watch_works();
        }
        result
    }

    /// Whether the present watch is open for a while; the time of its initial events does not count.
    fn has_lasted(&self) -> bool {
        self.watching_since.is_some_and(|since| since.elapsed() >= SHORT_WATCH)
    }

    async fn read(&mut self, mut chunks: Chunks, mut listing: bool) -> Result<(), End> {
        let mut silent = true;
        let mut lines = Lines::default();
        loop {
            let timing = &self.shared.timing;
            let limit = if listing { timing.initial_events } else { timing.stall };
            let chunk = match chunks.next(limit).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if listing => return Err(End::Failed(Failure::Closed)),
                Ok(None) if silent && !self.has_lasted() => {
                    return Err(End::Failed(Failure::Closed));
                }
                Ok(None) => return Err(End::Continue),
                Err(Failure::Timeout(_)) if listing => {
                    return Err(End::NoStreaming("the server does not end them"));
                }
                Err(Failure::Timeout(limit)) => {
                    tracing::debug!(kind = %self.kind, ?limit, "the watch is stalled; resuming it");
                    return Err(End::Continue);
                }
                Err(failure) => return Err(failure.into()),
            };
            silent = false;
            self.shared.status.contact(self.kind);
            let too_long = |_| Failure::Malformed("a watch event is too long".to_owned());
            lines.push(&chunk).map_err(too_long)?;
            while let Some(line) = lines.next() {
                listing = self.take_line(line, listing)?;
            }
        }
    }

    /// Acts on one line of a watch; whether the list is still not complete.
    fn take_line(&mut self, line: &[u8], listing: bool) -> Result<bool, End> {
        let line = decode::watch_line(self.kind, line, &self.shared.context)
            .map_err(|e| Failure::Malformed(format!("a watch event of {}s: {e}", self.kind)))?;
        let version = match line {
            WatchLine::Applied(object, version) => {
                self.take(object);
                version
            }
            WatchLine::Deleted(name, version) => {
                self.delete(name);
                version
            }
            WatchLine::Bookmark { resource_version, initial_events_end } => {
                if listing && !initial_events_end {
                    return Err(End::NoStreaming("the server does not mark their end"));
                }
                if listing && resource_version.is_empty() {
                    let missing = "the end of a streaming list has no resourceVersion";
                    return Err(Failure::Malformed(missing.to_owned()).into());
                }
                if listing {
                    self.done();
                    self.listed_at(resource_version);
                    return Ok(false);
                }
                resource_version
            }
            WatchLine::Error(status) => return Err(Failure::Status(status).into()),
            WatchLine::Unknown(type_) => {
                tracing::debug!(kind = %self.kind, type_, "unknown watch event");
                return Ok(listing);
            }
        };
        // The versions of initial events are those of the objects: no place to go on from.
        if !listing && !version.is_empty() {
            self.version = Some(version);
            self.watch_works();
        }
        Ok(listing)
    }

    /// A watch said something or lasted: what goes wrong from now on is no continuation of earlier errors.
    fn watch_works(&mut self) {
        self.fresh = false;
        self.refusals = 0;
        self.backoff.reset();
        if std::mem::take(&mut self.expired) {
            self.shared.outages.recovered(self.kind);
        }
    }

    /// Passes an object on.
    fn take(&self, object: Decoded) {
        if self.is_foreign(&object.name) {
            return;
        }
        let subject = Subject::object(self.kind, object.name);
        self.shared.problems.set(&subject, object.problems);
        (self.sink)(object.event);
    }

    /// Passes on that an object is gone.
    fn delete(&self, name: ObjectName) {
        if self.is_foreign(&name) {
            return;
        }
        let subject = Subject::object(self.kind, name.clone());
        self.shared.problems.forget(&subject);
        (self.sink)(deleted(self.kind, name));
    }

    /// Another node's object, from a server that ignores the field selector.
    fn is_foreign(&self, name: &ObjectName) -> bool {
        self.kind == Kind::Node && *name.name != self.shared.node_name
    }

    fn begin(&self) {
        self.shared.problems.list_started(self.kind);
        (self.sink)(Event::ListStarted(self.kind));
    }

    fn done(&self) {
        self.shared.status.listed(self.kind);
        self.shared.problems.list_done(self.kind);
        (self.sink)(Event::ListDone(self.kind));
    }

    /// A list is complete; where the watch begins. Errors count on: the server may refuse to watch from there.
    fn listed_at(&mut self, version: String) {
        self.version = Some(version).filter(|version| !version.is_empty());
        self.fresh = true;
        self.refusals = 0;
        self.watching_since = Some(Instant::now());
    }

    /// The server answered.
    fn heard(&self) {
        self.shared.status.contact(self.kind);
        if !self.expired {
            self.shared.outages.recovered(self.kind);
        }
    }

    /// A random time between the configured one and twice that, so that watches do not end all at once.
    fn watch_seconds(&self) -> u64 {
        let timing = &self.shared.timing;
        timing.watch.mul_f64(1.0 + random()).as_secs().max(1)
    }
}
