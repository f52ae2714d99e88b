//! Lists: consistent views, page by page, as a stream of serialized objects.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::collection::View;
use super::error::ApiError;
use super::object::{Object, prefix};
use super::query::{ListOptions, PageToken, VersionMatch};
use super::resource::{ResourceType, TypeId};
use super::selector::Selector;
use super::store::Store;

/// Bytes after which a chunk of a body is handed to the connection.
pub(super) const CHUNK: usize = 64 * 1024;

/// The answer to a list: an iterator over the chunks of its body.
#[derive(Debug)]
pub(super) struct ListBody {
    /// What a list item does not have of the stored bytes.
    prefix_length: usize,
    head: String,
    items: std::vec::IntoIter<Arc<Object>>,
    /// Whether an item was written.
    begun: bool,
    done: bool,
}

/// Selects the objects of one page.
pub(super) fn list(
    store: &mut Store,
    kind: TypeId,
    selector: &Selector,
    options: &ListOptions,
) -> Result<ListBody, ApiError> {
    validate(options)?;
    let (view, version) = choose_view(store, kind, options)?;
    let offset = options.token.map_or(0, |token| token.offset).min(view.len());
    // As with the watch cache of a real server, "any version" comes without paging.
    let limit = options.limit.filter(|_| options.version != Some(0) || options.token.is_some());
    let mut items = Vec::new();
    let mut end = view.len();
    for (at, object) in view.iter().enumerate().skip(offset) {
        if selector.matches(object) {
            if limit == Some(items.len()) {
                end = at;
                break;
            }
            items.push(Arc::clone(object));
        }
    }
    let next = next_page(&view, version, end, selector);
    let metadata = format!(r#""resourceVersion":"{version}"{next}"#);
    Ok(ListBody::new(kind.get(), &metadata, items))
}

/// The list metadata that tells of a next page; empty behind the last one.
fn next_page(view: &View, version: u64, end: usize, selector: &Selector) -> String {
    if end == view.len() {
        return String::new();
    }
    let token = PageToken { version, offset: end }.encode();
    if selector.selects_by_content() {
        return format!(r#","continue":"{token}""#);
    }
    let remaining = view[end..].iter().filter(|object| selector.matches(object)).count();
    format!(r#","continue":"{token}","remainingItemCount":{remaining}"#)
}

impl ListBody {
    fn new(kind: &ResourceType, metadata: &str, items: Vec<Arc<Object>>) -> Self {
        let head = format!(
            r#"{{"kind":"{}List","apiVersion":"{}","metadata":{{{metadata}}},"items":["#,
            kind.kind,
            kind.api_version(),
        );
        Self {
            prefix_length: prefix(kind).len(),
            head,
            items: items.into_iter(),
            begun: false,
            done: false,
        }
    }
}

impl Iterator for ListBody {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut chunk = BytesMut::with_capacity(CHUNK + CHUNK / 8);
        chunk.put_slice(std::mem::take(&mut self.head).as_bytes());
        while chunk.len() < CHUNK {
            let Some(object) = self.items.next() else {
                chunk.put_slice(b"]}\n");
                self.done = true;
                break;
            };
            if std::mem::replace(&mut self.begun, true) {
                chunk.put_u8(b',');
            }
            object.put_list_item(self.prefix_length, &mut chunk);
        }
        Some(chunk.freeze())
    }
}

fn validate(options: &ListOptions) -> Result<(), ApiError> {
    if options.send_initial_events.is_some() {
        let why = "sendInitialEvents is forbidden for list";
        return Err(ApiError::invalid_option("sendInitialEvents", "Forbidden", why));
    }
    if options.version_match != VersionMatch::Unset && options.version.is_none() {
        let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
        return Err(ApiError::invalid_option("resourceVersionMatch", "Forbidden", why));
    }
    if options.version_match == VersionMatch::Exact && options.version == Some(0) {
        let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
        return Err(ApiError::invalid_option("resourceVersionMatch", "Forbidden", why));
    }
    if options.token.is_some() && options.version.is_some_and(|version| version > 0) {
        return Err(ApiError::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    Ok(())
}

/// The view that the options ask for, and the resourceVersion to write on it.
fn choose_view(
    store: &mut Store,
    kind: TypeId,
    options: &ListOptions,
) -> Result<(View, u64), ApiError> {
    if let Some(token) = options.token {
        let view = store.view_at(kind, token.version).map_err(|_| {
            let message = "The provided continue parameter is too old to display a consistent \
                 list result. Start a new list without the continue parameter.";
            ApiError::new(410, "Expired", message)
        })?;
        return Ok((view, token.version));
    }
    let asked = options.version.filter(|version| *version > 0);
    if let Some(asked) = asked
        && asked > store.version()
    {
        return Err(ApiError::too_large(asked, store.version()));
    }
    // A page limit with a version and without a match is the old way to ask for exactly that version.
    let exact = match options.version_match {
        VersionMatch::Exact => true,
        VersionMatch::NotOlderThan => false,
        VersionMatch::Unset => options.limit.is_some(),
    };
    match asked.filter(|_| exact) {
        Some(asked) => Ok((store.view_at(kind, asked)?, asked)),
        None => Ok(store.view(kind)),
    }
}
