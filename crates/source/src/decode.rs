//! From the bytes of a response to events.
//!
//! Both encodings of the API end in the same slim types, and what is wrong with an object is reported alike: by kind, name and field,
//! at the cost of no other object.

use kube_proxy_core::{Event, Kind, ObjectName};

use crate::context::Context;
use crate::object::{self, Object};
use crate::problem::{Findings, Problem, Subject};
use crate::protobuf::Fault;
use crate::slim::{self, Int, Meta, Text};

mod json;
mod protobuf;

/// An encoding of the Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json`
    Json,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

/// What was received is no list, or no event of a watch.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DecodeError(Reason);

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("protobuf: {0}")]
    Protobuf(#[from] Fault),
    #[error("a {found}, not a {expected}")]
    Kind { found: String, expected: String },
    #[error("an event without a type")]
    NoType,
}

impl<E: Into<Reason>> From<E> for DecodeError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// What became of one object.
#[derive(Debug)]
pub struct Decoded {
    /// Which object it is.
    pub name: ObjectName,
    /// What to tell the trackers: applied; deleted when it is not to be proxied; kept as it was when it could not be decoded.
    pub event: Event,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// The head of a page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageHead {
    /// Where a watch may continue.
    pub resource_version: String,
    /// The token for the next page; empty on the last one.
    pub continue_token: String,
}

/// An event of a watch.
#[derive(Debug)]
pub enum WatchEvent {
    /// `ADDED` or `MODIFIED`: the object, and the version to continue from.
    Applied(Decoded, String),
    /// `DELETED`, or no longer selected.
    Deleted(ObjectName, String),
    /// `BOOKMARK`: nothing but a version to continue from.
    Bookmark {
        /// That version.
        resource_version: String,
        /// It marks the end of the initial events of a streaming list.
        initial_events_end: bool,
    },
    /// `ERROR`: the watch is over.
    Error(Status),
    /// Something of a type that is not known.
    Unknown(String),
}

/// A `Status` object: how the API server says no.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// HTTP status code; 0 when it was not given.
    pub code: u16,
    /// Machine-readable reason, like `Expired`.
    pub reason: String,
    /// The sentence for people.
    pub message: String,
    /// After how many seconds to try again, if it says so.
    pub retry_after: Option<u64>,
}

/// Decodes a page of a list, giving each object to `out`.
///
/// # Errors
/// The page is not a list of the kind: nothing was given to `out` then.
pub fn page(
    format: Format,
    kind: Kind,
    body: &[u8],
    context: &Context,
    out: &mut dyn FnMut(Decoded),
) -> Result<PageHead, DecodeError> {
    match kind {
        Kind::Service => typed_page::<slim::Service<'_>>(format, body, context, out),
        Kind::EndpointSlice => typed_page::<slim::EndpointSlice<'_>>(format, body, context, out),
        Kind::Node => typed_page::<slim::Node<'_>>(format, body, context, out),
        Kind::ServiceCidr => typed_page::<slim::ServiceCidr<'_>>(format, body, context, out),
    }
}

fn typed_page<'a, T: Object<'a>>(
    format: Format,
    body: &'a [u8],
    context: &Context,
    out: &mut dyn FnMut(Decoded),
) -> Result<PageHead, DecodeError> {
    match format {
        Format::Json => json::page::<T>(body, context, out),
        Format::Protobuf => protobuf::page::<T>(body, context, out),
    }
}

/// Decodes one event of a watch: a line of JSON, or the content of a frame of protobuf.
///
/// # Errors
/// It is no event of a watch.
pub fn watch_event(
    format: Format,
    kind: Kind,
    bytes: &[u8],
    context: &Context,
) -> Result<WatchEvent, DecodeError> {
    match kind {
        Kind::Service => typed_event::<slim::Service<'_>>(format, bytes, context),
        Kind::EndpointSlice => typed_event::<slim::EndpointSlice<'_>>(format, bytes, context),
        Kind::Node => typed_event::<slim::Node<'_>>(format, bytes, context),
        Kind::ServiceCidr => typed_event::<slim::ServiceCidr<'_>>(format, bytes, context),
    }
}

fn typed_event<'a, T: Object<'a>>(
    format: Format,
    bytes: &'a [u8],
    context: &Context,
) -> Result<WatchEvent, DecodeError> {
    match format {
        Format::Json => json::line::<T>(bytes, context),
        Format::Protobuf => protobuf::event::<T>(bytes, context),
    }
}

/// Decodes the body of an error response, if it is a `Status`; the body itself says in which encoding.
pub fn status(body: &[u8]) -> Option<Status> {
    protobuf::status(body).or_else(|| json::status(body))
}

impl Status {
    fn new(
        code: Option<Int>,
        reason: Option<&Text<'_>>,
        message: Option<&Text<'_>>,
        retry_after: Option<Int>,
    ) -> Self {
        Self {
            code: u16::try_from(code.unwrap_or_default().0).unwrap_or_default(),
            reason: owned(reason),
            message: owned(message),
            retry_after: retry_after.and_then(|seconds| u64::try_from(seconds.0).ok()),
        }
    }
}

/// A list of something else would look like an empty list of this, and take everything away.
fn check_kind(kind: Kind, list: &str) -> Result<(), DecodeError> {
    if list.is_empty() || list == format!("{kind}List") {
        return Ok(());
    }
    Err(Reason::Kind { found: list.to_owned(), expected: format!("{kind}List") }.into())
}

fn bookmark(meta: Option<&Meta<'_>>, resource_version: String) -> WatchEvent {
    let annotations = meta.and_then(|m| m.annotations.as_ref());
    let end = annotations.and_then(|a| a.initial_events_end.as_deref());
    WatchEvent::Bookmark { resource_version, initial_events_end: end == Some("true") }
}

/// Normalises an object that was decoded.
fn decoded<'a, T: Object<'a>>(object: &T, context: &Context) -> Decoded {
    let (event, problems) = object.normalise(context);
    let name = object.name(context);
    let event = event.unwrap_or_else(|| object::deleted(T::KIND, name.clone()));
    Decoded { name, event, problems }
}

/// The problem of an object that cannot be decoded because of one field, or as a whole.
fn undecodable(kind: Kind, name: &ObjectName, field: &str, reason: &str) -> Vec<Problem> {
    let mut findings = Findings::new(Subject::object(kind, name.clone()));
    findings.add(field, "", format_args!("{reason}; what it said before stays in use"));
    findings.into_problems()
}

/// Cuts ` at line 1 column 17` off: there are no lines in what the API server sends.
pub(crate) fn without_position(message: &str) -> String {
    match message.rfind(" at line ") {
        Some(end) => message[..end].to_owned(),
        None => message.to_owned(),
    }
}

fn version(meta: Option<&Meta<'_>>) -> String {
    owned(meta.and_then(|m| m.resource_version.as_ref()))
}

fn owned(text: Option<&Text<'_>>) -> String {
    text.map(|text| text.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
