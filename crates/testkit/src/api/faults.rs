//! Misbehaviour that tests switch on at run time.

use std::sync::MutexGuard;
use std::time::Duration;

use super::error::ApiError;
use super::http::Shared;
use super::requests::Verb;

/// What the server does with a watch that asks for `sendInitialEvents`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamingLists {
    /// Serves it, as a server with the `WatchList` gate does.
    #[default]
    Served,
    /// Refuses it with 422, as a server with the gate off does.
    Refused,
    /// Ignores it, as a server too old to know the parameter does.
    Ignored,
}

/// Requests that are to fail.
#[derive(Clone, Debug)]
pub struct Failure {
    status: u16,
    times: u32,
    verb: Option<Verb>,
    resource: Option<String>,
    retry_after: Option<u32>,
    unanswered: bool,
}

impl Failure {
    /// The next request of any kind is answered with this HTTP status and a `Status` object.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, times: 1, verb: None, resource: None, retry_after: None, unanswered: false }
    }

    /// The next request of any kind never gets an answer, and its connection stays open.
    #[must_use]
    pub fn unanswered() -> Self {
        Self { unanswered: true, ..Self::new(504) }
    }

    /// So many requests fail, instead of one.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Only requests of this verb fail.
    #[must_use]
    pub fn verb(mut self, verb: Verb) -> Self {
        self.verb = Some(verb);
        self
    }

    /// Only requests for this resource fail: its plural name, like `services`.
    #[must_use]
    pub fn resource(mut self, plural: impl Into<String>) -> Self {
        self.resource = Some(plural.into());
        self
    }

    /// The answer has a `Retry-After` header of so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Whether there is no answer at all.
    pub(super) fn is_unanswered(&self) -> bool {
        self.unanswered
    }

    /// The answer: the error and the seconds of `Retry-After`.
    pub(super) fn answer(&self) -> (ApiError, Option<u32>) {
        let mut error = ApiError::from_code(self.status);
        if let Some(seconds) = self.retry_after {
            error.details = serde_json::json!({"retryAfterSeconds": seconds});
        }
        (error, self.retry_after)
    }
}

/// The current misbehaviour.
#[derive(Debug, Default)]
pub(super) struct FaultState {
    failures: Vec<Failure>,
    /// Counts up with each drop of the watches.
    pub(super) watch_generation: u64,
    /// Whether watches are silent.
    pub(super) stalled: bool,
    /// Whether streaming lists are served.
    pub(super) streaming_lists: StreamingLists,
    /// How long each answer is held back.
    pub(super) delay: Duration,
    /// How many more watch lines are broken, and of which resource.
    corrupt: (u32, Option<String>),
}

impl FaultState {
    /// Takes the failure for a request, if there is one.
    pub(super) fn take_failure(&mut self, verb: Verb, resource: &str) -> Option<Failure> {
        let at = self.failures.iter().position(|f| {
            f.times > 0
                && f.verb.is_none_or(|v| v == verb)
                && f.resource.as_deref().is_none_or(|r| r == resource)
        })?;
        let failure = &mut self.failures[at];
        failure.times -= 1;
        let taken = failure.clone();
        self.failures.retain(|f| f.times > 0);
        Some(taken)
    }

    /// Whether the next watch line of a resource is to be broken.
    pub(super) fn take_corruption(&mut self, resource: &str) -> bool {
        let (left, only) = &mut self.corrupt;
        if *left == 0 || only.as_deref().is_some_and(|r| r != resource) {
            return false;
        }
        *left -= 1;
        true
    }
}

/// Switches for misbehaviour; each acts at once and stays until it is switched back.
#[derive(Clone, Copy, Debug)]
pub struct Faults<'a> {
    pub(super) shared: &'a Shared,
}

impl Faults<'_> {
    /// Breaks the connection of every open watch in the middle of its answer.
    pub fn drop_watches(self) {
        self.change(|faults| faults.watch_generation += 1);
    }

    /// Makes all watches silent, also new ones: they are accepted and stay open, but neither events nor bookmarks nor
    /// their end arrive. When it is switched off, they go on with what they missed.
    pub fn stall_watches(self, stalled: bool) {
        self.change(|faults| faults.stalled = stalled);
    }

    /// Lets requests fail; failures told earlier come first where both apply.
    pub fn fail(self, failure: Failure) {
        self.change(|faults| faults.failures.push(failure));
    }

    /// Takes back all failures that did not happen yet.
    pub fn clear_failures(self) {
        self.change(|faults| faults.failures.clear());
    }

    /// Forgets the history: every resourceVersion and continue token handed out so far gives 410.
    /// Open watches that are up to date go on.
    pub fn compact_history(self) {
        self.shared.store().compact();
        self.shared.wake();
    }

    /// Says what happens to streaming lists from now on.
    pub fn streaming_lists(self, mode: StreamingLists) {
        self.change(|faults| faults.streaming_lists = mode);
    }

    /// Holds back every answer for some time; zero ends it.
    pub fn delay_responses(self, delay: Duration) {
        self.change(|faults| faults.delay = delay);
    }

    /// Cuts the next lines of watches in half, so that they are no JSON; `plural` restricts it to one resource.
    pub fn corrupt_watch_lines(self, lines: u32, plural: Option<&str>) {
        self.change(|faults| faults.corrupt = (lines, plural.map(str::to_owned)));
    }

    fn change(self, change: impl FnOnce(&mut FaultState)) {
        let mut faults: MutexGuard<'_, FaultState> = self.shared.faults();
        change(&mut faults);
        drop(faults);
        self.shared.wake();
    }
}
