//! Misbehaviour that tests switch on at run time.

use std::time::Duration;

use super::error::ApiError;
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
    retry_at: Option<String>,
    unanswered: bool,
}

impl Failure {
    /// The next request of any kind is answered with this HTTP status and a `Status` object.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            times: 1,
            verb: None,
            resource: None,
            retry_after: None,
            retry_at: None,
            unanswered: false,
        }
    }

    /// The next request of any kind never gets an answer, and its connection stays open.
    #[must_use]
    pub fn unanswered() -> Self {
        Self { unanswered: true, ..Self::new(504) }
    }

    /// This many requests fail, instead of one.
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

    /// The answer has a `Retry-After` header of this many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The answer has a `Retry-After` header with this date, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
    #[must_use]
    pub fn retry_at(mut self, date: impl Into<String>) -> Self {
        self.retry_at = Some(date.into());
        self
    }

    /// Whether there is no answer at all.
    pub(super) fn is_unanswered(&self) -> bool {
        self.unanswered
    }

    /// The answer: the error and the text of `Retry-After`.
    pub(super) fn answer(&self) -> (ApiError, Option<String>) {
        let mut error = ApiError::from_code(self.status);
        if let Some(seconds) = self.retry_after {
            error.details = serde_json::json!({"retryAfterSeconds": seconds});
        }
        let retry_at = self.retry_at.clone();
        (error, retry_at.or_else(|| self.retry_after.map(|seconds| seconds.to_string())))
    }
}

/// What the server makes of `Accept`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Negotiation {
    /// Protobuf is not known.
    pub(super) json_only: bool,
    /// Media types with parameters are not accepted.
    pub(super) strict: bool,
    /// `drop=metadata.managedFields` is known.
    pub(super) drops: bool,
}

/// The current misbehaviour.
#[derive(Debug, Default)]
pub(super) struct FaultState {
    pub(super) failures: Vec<Failure>,
    /// Counts up with each drop of the watches.
    pub(super) watch_generation: u64,
    /// Whether watches are silent.
    pub(super) stalled: bool,
    /// Whether streaming lists are served.
    pub(super) streaming_lists: StreamingLists,
    /// How long each answer is held back.
    pub(super) delay: Duration,
    /// The tokens that are accepted; `None` accepts everybody.
    pub(super) tokens: Option<Vec<String>>,
    /// How many more watch lines are broken, and of which resource.
    pub(super) corrupt: (u32, Option<String>),
    pub(super) negotiation: Negotiation,
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

    /// Whether a request with this `Authorization` is refused.
    pub(super) fn refuses(&self, authorization: Option<&[u8]>) -> bool {
        let Some(tokens) = &self.tokens else { return false };
        let sent = authorization.and_then(|value| value.strip_prefix(b"Bearer "));
        !tokens.iter().any(|token| sent == Some(token.as_bytes()))
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
