//! From the bytes of a response to events.
//!
//! A page of a list or a line of a watch is decoded in one pass into slim types.
//! Only when that fails is it taken apart item by item, so that one wrongly typed object is named and the others count.

use kube_proxy_core::{Event, Kind, ObjectName};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::context::Context;
use crate::normalise::object_name;
use crate::object::{self, Object};
use crate::problem::{Findings, Problem, Subject};
use crate::slim::{self, Int, List, Meta, Text};

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
    /// Where a watch may go on.
    pub resource_version: String,
    /// The token for the next page; empty on the last one.
    pub continue_token: String,
}

/// A line of a watch.
#[derive(Debug)]
pub enum WatchLine {
    /// `ADDED` or `MODIFIED`: the object, and the version to go on from.
    Applied(Decoded, String),
    /// `DELETED`, or no longer selected.
    Deleted(ObjectName, String),
    /// `BOOKMARK`: nothing but a version to go on from.
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
/// The page is not JSON, or not a list: nothing was given to `out` then.
pub fn page(
    kind: Kind,
    body: &[u8],
    context: &Context,
    out: &mut dyn FnMut(Decoded),
) -> Result<PageHead, serde_json::Error> {
    match kind {
        Kind::Service => typed_page::<slim::Service<'_>>(body, context, out),
        Kind::EndpointSlice => typed_page::<slim::EndpointSlice<'_>>(body, context, out),
        Kind::Node => typed_page::<slim::Node<'_>>(body, context, out),
        Kind::ServiceCidr => typed_page::<slim::ServiceCidr<'_>>(body, context, out),
    }
}

/// Decodes one line of a watch.
///
/// # Errors
/// The line is not JSON, or not a watch event.
pub fn watch_line(
    kind: Kind,
    line: &[u8],
    context: &Context,
) -> Result<WatchLine, serde_json::Error> {
    match kind {
        Kind::Service => typed_line::<slim::Service<'_>>(line, context),
        Kind::EndpointSlice => typed_line::<slim::EndpointSlice<'_>>(line, context),
        Kind::Node => typed_line::<slim::Node<'_>>(line, context),
        Kind::ServiceCidr => typed_line::<slim::ServiceCidr<'_>>(line, context),
    }
}

/// Decodes the body of an error response, if it is a `Status`.
pub fn status(body: &[u8]) -> Option<Status> {
    let raw: RawStatus<'_> = serde_json::from_slice(body).ok()?;
    Some(raw.into())
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de> + Default"))]
struct Page<'a, T> {
    #[serde(borrow)]
    metadata: Option<ListMeta<'a>>,
    #[serde(default)]
    items: List<T>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta<'a> {
    #[serde(borrow)]
    resource_version: Option<Text<'a>>,
    #[serde(borrow, rename = "continue")]
    continue_token: Option<Text<'a>>,
}

impl From<Option<ListMeta<'_>>> for PageHead {
    fn from(meta: Option<ListMeta<'_>>) -> Self {
        let meta = meta.unwrap_or_default();
        Self {
            resource_version: owned(meta.resource_version.as_ref()),
            continue_token: owned(meta.continue_token.as_ref()),
        }
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct Line<'a, T> {
    #[serde(borrow, rename = "type")]
    type_: Text<'a>,
    object: T,
}

#[derive(Default, Deserialize)]
struct RawStatus<'a> {
    code: Option<Int>,
    #[serde(borrow)]
    reason: Option<Text<'a>>,
    #[serde(borrow)]
    message: Option<Text<'a>>,
    details: Option<StatusDetails>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusDetails {
    retry_after_seconds: Option<Int>,
}

impl From<RawStatus<'_>> for Status {
    fn from(raw: RawStatus<'_>) -> Self {
        let code = raw.code.unwrap_or_default().0;
        let seconds = raw.details.and_then(|d| d.retry_after_seconds);
        Self {
            code: u16::try_from(code).unwrap_or_default(),
            reason: owned(raw.reason.as_ref()),
            message: owned(raw.message.as_ref()),
            retry_after: seconds.and_then(|s| u64::try_from(s.0).ok()),
        }
    }
}

/// Just enough of an object to name it.
#[derive(Default, Deserialize)]
struct Nameplate<'a> {
    #[serde(borrow)]
    metadata: Option<NameplateMeta<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NameplateMeta<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    namespace: Option<Text<'a>>,
    #[serde(borrow)]
    resource_version: Option<Text<'a>>,
}

fn typed_page<'a, T: Object<'a>>(
    body: &'a [u8],
    context: &Context,
    out: &mut dyn FnMut(Decoded),
) -> Result<PageHead, serde_json::Error> {
    if let Ok(page) = serde_json::from_slice::<Page<'_, T>>(body) {
        for item in page.items.0 {
            out(decoded(&item, context));
        }
        return Ok(page.metadata.into());
    }
    let page: Page<'_, Option<&RawValue>> = serde_json::from_slice(body)?;
    for raw in page.items.0.into_iter().flatten() {
        out(raw_object::<T>(raw, context).0);
    }
    Ok(page.metadata.into())
}

fn typed_line<'a, T: Object<'a>>(
    line: &'a [u8],
    context: &Context,
) -> Result<WatchLine, serde_json::Error> {
    match serde_json::from_slice::<Line<'_, T>>(line) {
        Ok(Line { type_, object }) if &*type_ != "ERROR" => {
            let version = version(object.meta());
            let name = || object.name(context);
            Ok(match &*type_ {
                "ADDED" | "MODIFIED" => WatchLine::Applied(decoded(&object, context), version),
                "DELETED" => WatchLine::Deleted(name(), version),
                "BOOKMARK" => bookmark(object.meta(), version),
                other => WatchLine::Unknown(other.to_owned()),
            })
        }
        _ => raw_line::<T>(line, context),
    }
}

/// The slow way: the object could not be decoded, or is a `Status`.
fn raw_line<'a, T: Object<'a>>(
    line: &'a [u8],
    context: &Context,
) -> Result<WatchLine, serde_json::Error> {
    let Line { type_, object }: Line<'_, &RawValue> = serde_json::from_slice(line)?;
    if &*type_ == "ERROR" {
        let status: RawStatus<'_> = serde_json::from_str(object.get()).unwrap_or_default();
        return Ok(WatchLine::Error(status.into()));
    }
    let (decoded, version) = raw_object::<T>(object, context);
    Ok(match &*type_ {
        "DELETED" => WatchLine::Deleted(decoded.name, version),
        "ADDED" | "MODIFIED" => WatchLine::Applied(decoded, version),
        other => WatchLine::Unknown(other.to_owned()),
    })
}

fn bookmark(meta: Option<&Meta<'_>>, resource_version: String) -> WatchLine {
    let annotations = meta.and_then(|m| m.annotations.as_ref());
    let end = annotations.and_then(|a| a.initial_events_end.as_deref());
    WatchLine::Bookmark { resource_version, initial_events_end: end == Some("true") }
}

/// Normalises an object that was decoded.
fn decoded<'a, T: Object<'a>>(object: &T, context: &Context) -> Decoded {
    let (event, problems) = object.normalise(context);
    let name = object.name(context);
    let event = event.unwrap_or_else(|| object::deleted(T::KIND, name.clone()));
    Decoded { name, event, problems }
}

/// Decodes one object on its own, or says what is wrong with it; also its resource version.
fn raw_object<'a, T: Object<'a>>(raw: &'a RawValue, context: &Context) -> (Decoded, String) {
    let mut json = serde_json::Deserializer::from_str(raw.get());
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Ok(object) => {
            let version = version(object.meta());
            (decoded(&object, context), version)
        }
        Err(error) => {
            let plate: Nameplate<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
            let meta = plate.metadata.unwrap_or_default();
            let version = owned(meta.resource_version.as_ref());
            let meta = Meta { name: meta.name, namespace: meta.namespace, ..Meta::default() };
            let name = object_name(Some(&meta), context);
            let problems = undecodable(T::KIND, &name, &error);
            let event = Event::Kept(T::KIND, name.clone());
            let decoded = Decoded { name, event, problems };
            (decoded, version)
        }
    }
}

/// The problem of an object with a wrongly typed field.
fn undecodable(
    kind: Kind,
    name: &ObjectName,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> Vec<Problem> {
    let mut findings = Findings::new(Subject::object(kind, name.clone()));
    let path = error.path().to_string();
    let path = if path == "." { "" } else { &path };
    let reason = without_position(&error.inner().to_string());
    findings.add(path, "", format_args!("{reason}; what it said before stays in use"));
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
