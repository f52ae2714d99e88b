//! The list and watch state machine of one kind.

use std::sync::Arc;
use std::time::Duration;

use kube_proxy_core::{Event, Kind, ObjectName};
use tokio::time::sleep;

use super::Shared;
use super::backoff::{Backoff, random};
use super::failure::Failure;
use crate::Sink;
use crate::decode::{self, Decoded, Format};
use crate::object::deleted;
use crate::problem::Subject;

mod follow;
mod request;
mod state;

use request::Request;
use state::{Proof, State};

/// A watch that ends sooner than this without a word is refused rather than ended.
const SHORT_WATCH: Duration = Duration::from_secs(1);
/// Number of refusals of the same version after which it is given up.
const MAX_REFUSALS: u32 = 3;

/// Lists and watches one kind.
pub(super) struct Watcher {
    shared: Arc<Shared>,
    kind: Kind,
    sink: Sink,
    backoff: Backoff,
    state: State,
    /// The best way to list that the server was not seen to refuse.
    listing: Listing,
    /// Number of consecutive refusals in this state.
    refusals: u32,
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
            state: State::default(),
            listing: Listing::Streaming,
            refusals: 0,
        }
    }

    /// Never ends.
    pub(super) async fn run(mut self) {
        loop {
            self.shared.rate.acquire().await;
            let end = match &self.state {
                State::Watch { version, .. } => self.watch(version.clone()).await,
                State::List { .. } if self.listing == Listing::Streaming => {
                    self.streaming_list().await
                }
                State::List { .. } => self.paged_list().await,
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

    /// The version has expired: lists again, at once only if a watch from the last list has worked.
    async fn start_over(&mut self, failure: &Failure) {
        tracing::debug!(kind = %self.kind, "the resource version has expired; listing again");
        match &self.state {
            State::List { .. } => self.list_refused(),
            State::Watch { proof: Proof::Worked, .. } => {
                self.state = State::List { expired: false };
                return;
            }
            State::Watch { .. } => self.state = State::List { expired: true },
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
        let listed = self.shared.status.is_listed(self.kind);
        self.shared.outages.failed(self.kind, &failure.to_string(), listed, delay);
        sleep(delay).await;
    }

    /// Waits after an error, and decides where to continue.
    async fn recover(&mut self, failure: &Failure) {
        if self.kind == Kind::ServiceCidr && matches!(failure.code(), Some(403 | 404)) {
            return self.do_without(failure).await;
        }
        let refused = failure.code().is_some_and(|code| !matches!(code, 401 | 403 | 429 | 503));
        if refused || matches!(failure, Failure::Malformed(_)) {
            self.refusals += 1;
            if self.refusals >= MAX_REFUSALS {
                self.state = State::List { expired: self.state.expired() };
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
            let (format, body) = match self.shared.api.get_all(&request).await {
                Err(failure) if paging && failure.is_gone() && !token.is_empty() => {
                    // The list took longer than the server remembers: all at once then.
                    self.listing = Listing::Whole;
                    return Err(End::Continue);
                }
                result => result?,
            };
            self.contacted();
            let first = token.is_empty();
            let head = self.take_page(format, &body, first)?;
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

    fn take_page(
        &mut self,
        format: Format,
        body: &[u8],
        first: bool,
    ) -> Result<decode::PageHead, End> {
        let mut objects = Vec::new();
        let context = &self.shared.context;
        let head = decode::page(format, self.kind, body, context, &mut |o| objects.push(o))
            .map_err(|e| Failure::Malformed(format!("a list of {}s: {e}", self.kind)))?;
        if first {
            self.begin();
        }
        for object in objects {
            self.take(object);
        }
        Ok(head)
    }

    /// Lists by a watch that begins with everything there is, and continues with it.
    async fn streaming_list(&mut self) -> Result<(), End> {
        let timeout = self.watch_seconds();
        let request = Request::streaming_list(self.kind, &self.shared.node_name, timeout);
        let chunks = match self.shared.api.get(&request).await {
            Err(failure) if matches!(failure.code(), Some(400 | 422)) => {
                return Err(End::NoStreaming("the server refuses them"));
            }
            result => result?,
        };
        self.contacted();
        self.begin();
        self.follow(chunks, true).await
    }

    /// Watches from a version on.
    async fn watch(&mut self, version: String) -> Result<(), End> {
        let timeout = self.watch_seconds();
        let request = Request::watch(self.kind, &self.shared.node_name, &version, timeout);
        let chunks = self.shared.api.get(&request).await?;
        self.contacted();
        self.follow(chunks, false).await
    }

    /// A watch said something or lasted: what goes wrong from now on is no continuation of earlier errors.
    fn watch_works(&mut self) {
        self.refusals = 0;
        self.backoff.reset();
        let expired = self.state.expired();
        if let State::Watch { proof, .. } = &mut self.state {
            *proof = Proof::Worked;
        }
        if expired {
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

    /// A list is complete. The delay after errors stays: the server may refuse to watch from this version.
    fn listed_at(&mut self, version: String) {
        self.state = State::listed_at(version, self.state.expired());
        self.refusals = 0;
    }

    /// The server answered.
    fn contacted(&self) {
        self.shared.status.contact(self.kind);
        if !self.state.expired() {
            self.shared.outages.recovered(self.kind);
        }
    }

    /// A random time between the configured one and twice that, so that watches do not end all at once.
    fn watch_seconds(&self) -> u64 {
        let timing = &self.shared.timing;
        timing.watch.mul_f64(1.0 + random()).as_secs().max(1)
    }
}
