//! Lists, watches and errors in protobuf.

use kube_proxy_core::Event;

use super::{
    DecodeError, Decoded, PageHead, Reason, Status, WatchEvent, bookmark, check_kind, decoded,
    owned, undecodable, version,
};
use crate::context::Context;
use crate::normalise::object_name;
use crate::object::Object;
use crate::protobuf::{Envelope, ListParts, MAGIC, Message, StatusParts, WatchParts, nameplate};

/// Decodes a page of a list.
pub(super) fn page<'a, T: Object<'a>>(
    body: &'a [u8],
    context: &Context,
    out: &mut dyn FnMut(Decoded),
) -> Result<PageHead, DecodeError> {
    let envelope = Envelope::open(body)?;
    check_kind(T::KIND, envelope.kind())?;
    let head = ListParts::read(envelope.raw())?;
    for item in ListParts::items(envelope.raw()) {
        out(object::<T>(item, context).0);
    }
    Ok(PageHead {
        resource_version: owned(head.resource_version.as_ref()),
        continue_token: owned(head.continue_token.as_ref()),
    })
}

/// Decodes an event of a watch.
pub(super) fn event<'a, T: Object<'a>>(
    bytes: &'a [u8],
    context: &Context,
) -> Result<WatchEvent, DecodeError> {
    let mut parts = WatchParts::default();
    parts.merge(bytes)?;
    let type_ = parts.type_.as_deref().filter(|type_| !type_.is_empty()).ok_or(Reason::NoType)?;
    let envelope = Envelope::open(parts.object())?;
    if type_ == "ERROR" {
        let mut status = StatusParts::default();
        // What was read of it says enough.
        let _ = status.merge(envelope.raw());
        return Ok(WatchEvent::Error(status.into()));
    }
    let (found, expected) = (envelope.kind(), T::KIND.to_string());
    if !found.is_empty() && found != expected {
        return Err(Reason::Kind { found: found.to_owned(), expected }.into());
    }
    if type_ == "BOOKMARK" {
        let mut object = T::default();
        object.merge(envelope.raw())?;
        return Ok(bookmark(object.meta(), version(object.meta())));
    }
    let (decoded, version) = object::<T>(envelope.raw(), context);
    Ok(match type_ {
        "ADDED" | "MODIFIED" => WatchEvent::Applied(decoded, version),
        "DELETED" => WatchEvent::Deleted(decoded.name, version),
        other => WatchEvent::Unknown(other.to_owned()),
    })
}

/// Decodes the body of an error response, if it is a `Status`.
pub(super) fn status(body: &[u8]) -> Option<Status> {
    if !body.starts_with(MAGIC) {
        return None;
    }
    let envelope = Envelope::open(body).ok().filter(|envelope| envelope.kind() == "Status")?;
    let mut status = StatusParts::default();
    status.merge(envelope.raw()).ok()?;
    Some(status.into())
}

/// Decodes one object, or says what is wrong with it; also its resource version.
fn object<'a, T: Object<'a>>(bytes: &'a [u8], context: &Context) -> (Decoded, String) {
    let mut object = T::default();
    let fault = match object.merge(bytes) {
        Ok(()) => return (decoded(&object, context), version(object.meta())),
        Err(fault) => fault,
    };
    let meta = nameplate(bytes);
    let name = object_name(Some(&meta), context);
    let reason = fault.cause().to_string();
    let problems = undecodable(T::KIND, &name, &fault.path(), &reason);
    let event = Event::Kept(T::KIND, name.clone());
    (Decoded { name, event, problems }, version(Some(&meta)))
}

impl From<StatusParts<'_>> for Status {
    fn from(parts: StatusParts<'_>) -> Self {
        let (reason, message) = (parts.reason.as_ref(), parts.message.as_ref());
        Self::new(parts.code, reason, message, parts.retry_after_seconds())
    }
}
