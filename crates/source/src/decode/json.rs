//! Lists, watches and errors in JSON.
//!
//! A page of a list or a line of a watch is decoded in one pass into slim types.
//! Only when that fails is it taken apart item by item, so that one wrongly typed object is named and the others count.

use kube_proxy_core::Event;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    DecodeError, Decoded, PageHead, Status, WatchEvent, bookmark, check_kind, decoded, owned,
    undecodable, version, without_position,
};
use crate::context::Context;
use crate::normalise::object_name;
use crate::object::Object;
use crate::slim::{Int, List, Meta, Text};

/// Decodes the body of an error response, if it is a `Status`.
pub(super) fn status(body: &[u8]) -> Option<Status> {
    let raw: RawStatus<'_> = serde_json::from_slice(body).ok()?;
    Some(raw.into())
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de> + Default"))]
struct Page<'a, T> {
    #[serde(borrow)]
    kind: Option<Text<'a>>,
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
        let seconds = raw.details.and_then(|d| d.retry_after_seconds);
        Self::new(raw.code, raw.reason.as_ref(), raw.message.as_ref(), seconds)
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
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    namespace: Option<&'a RawValue>,
    #[serde(borrow)]
    resource_version: Option<&'a RawValue>,
}

impl<'a> NameplateMeta<'a> {
    /// The parts that are texts: one that is not does not make the others useless.
    fn texts(&self) -> Meta<'a> {
        let text = |raw: Option<&'a RawValue>| serde_json::from_str(raw?.get()).ok();
        Meta {
            name: text(self.name),
            namespace: text(self.namespace),
            resource_version: text(self.resource_version),
            ..Meta::default()
        }
    }
}

/// Decodes a page of a list.
pub(super) fn page<'a, T: Object<'a>>(
    body: &'a [u8],
    context: &Context,
    out: &mut dyn FnMut(Decoded),
) -> Result<PageHead, DecodeError> {
    if let Ok(page) = serde_json::from_slice::<Page<'_, T>>(body) {
        check_kind(T::KIND, &owned(page.kind.as_ref()))?;
        for item in page.items.0 {
            out(decoded(&item, context));
        }
        return Ok(page.metadata.into());
    }
    let page: Page<'_, Option<&RawValue>> = serde_json::from_slice(body)?;
    check_kind(T::KIND, &owned(page.kind.as_ref()))?;
    for raw in page.items.0.into_iter().flatten() {
        out(raw_object::<T>(raw, context).0);
    }
    Ok(page.metadata.into())
}

/// Decodes a line of a watch.
pub(super) fn line<'a, T: Object<'a>>(
    line: &'a [u8],
    context: &Context,
) -> Result<WatchEvent, DecodeError> {
    match serde_json::from_slice::<Line<'_, T>>(line) {
        Ok(Line { type_, object }) if &*type_ != "ERROR" => {
            let version = version(object.meta());
            let name = || object.name(context);
            Ok(match &*type_ {
                "ADDED" | "MODIFIED" => WatchEvent::Applied(decoded(&object, context), version),
                "DELETED" => WatchEvent::Deleted(name(), version),
                "BOOKMARK" => bookmark(object.meta(), version),
                other => WatchEvent::Unknown(other.to_owned()),
            })
        }
        _ => raw_line::<T>(line, context),
    }
}

/// The slow way: the object could not be decoded, or is a `Status`.
fn raw_line<'a, T: Object<'a>>(
    line: &'a [u8],
    context: &Context,
) -> Result<WatchEvent, DecodeError> {
    let Line { type_, object }: Line<'_, &RawValue> = serde_json::from_slice(line)?;
    if &*type_ == "ERROR" {
        let status: RawStatus<'_> = serde_json::from_str(object.get()).unwrap_or_default();
        return Ok(WatchEvent::Error(status.into()));
    }
    let (decoded, version) = raw_object::<T>(object, context);
    Ok(match &*type_ {
        "DELETED" => WatchEvent::Deleted(decoded.name, version),
        "ADDED" | "MODIFIED" => WatchEvent::Applied(decoded, version),
        other => WatchEvent::Unknown(other.to_owned()),
    })
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
            let meta = plate.metadata.unwrap_or_default().texts();
            let version = version(Some(&meta));
            let name = object_name(Some(&meta), context);
            let path = error.path().to_string();
            let path = if path == "." { "" } else { &path };
            let reason = without_position(&error.inner().to_string());
            let problems = undecodable(T::KIND, &name, path, &reason);
            let event = Event::Kept(T::KIND, name.clone());
            let decoded = Decoded { name, event, problems };
            (decoded, version)
        }
    }
}
